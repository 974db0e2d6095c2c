"""A value held against the annotation of the parameter that it is for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

_NAMES = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", NoneType: "None"}


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first of `values` that its annotation in `function` does not allow."""
    hints = get_type_hints(function, include_extras=True)
    for name, value in values.items():
        if name in hints and not _allows(hints[name], value):
            raise ValueError(f"{name}={value!r}: {name} must be {_described(hints[name])}")


def _allows(hint: Any, value: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_allows(each, value) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        return _allows(kind, value) and all(_within(value, limit) for limit in limits)
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) if hint in _NAMES else True


def _within(value: Any, limit: Any) -> bool:
    match limit:
        case Ge():
            return bool(value >= limit.ge)
        case Gt():
            return bool(value > limit.gt)
        case Le():
            return bool(value <= limit.le)
        case Lt():
            return bool(value < limit.lt)
    return True


def _described(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_described(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        return " ".join([_described(kind), " and ".join(_limit(limit) for limit in limits)])
    return _NAMES.get(hint, str(hint))


def _limit(limit: Any) -> str:
    match limit:
        case Ge():
            return f"of at least {limit.ge}"
        case Gt():
            return f"above {limit.gt}"
        case Le():
            return f"of at most {limit.le}"
        case Lt():
            return f"below {limit.lt}"
    return str(limit)
