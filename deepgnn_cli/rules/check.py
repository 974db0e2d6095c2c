"""A value held against the annotation of the parameter that it is for: what is wrong with it, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt

_NAMES = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
_LISTS = (list, tuple, Sequence)


def check_arguments(function: Callable[..., object], values: Mapping[str, object]) -> None:
    """Hold the arguments of a call from Python to the annotations of `function`.

    Raises:
        ValueError: the first value that its annotation does not allow.
    """
    hints = get_type_hints(function, include_extras=True)
    for name, value in values.items():
        if name in hints and (problem := violation(hints[name], value)):
            raise ValueError(f"{name}={value!r}: {name} {problem.replace('(or null)', '(or None)')}")


def violation(hint: object, value: object) -> str | None:
    """What `value` should have been, or None if the annotation allows it; what says nothing to us allows all."""
    return None if _allows(hint, value) else f"must be {described(hint)}"


def _allows(hint: object, value: object) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_allows(each, value) for each in arguments)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if origin is Annotated:
        kind, *limits = arguments
        return _allows(kind, value) and all(_within(value, limit) for limit in limits)
    if origin in _LISTS:
        return isinstance(value, list | tuple) and all(_allows(arguments[0], item) for item in value)
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if hint in (None, NoneType):
        return value is None
    return not (isinstance(hint, type) and hint in _NAMES) or isinstance(value, hint)


def _within(value: Any, limit: object) -> bool:
    match limit:
        case Ge():
            return bool(value >= limit.ge)
        case Gt():
            return bool(value > limit.gt)
        case Le():
            return bool(value <= limit.le)
        case Lt():
            return bool(value < limit.lt)
        case Len():
            return limit.min_length <= len(value) and (limit.max_length is None or len(value) <= limit.max_length)
    return True


def described(hint: object) -> str:
    """The annotation in words: `a whole number of at least 1 (or null)`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if each not in (None, NoneType)]
        return " or ".join(map(described, kinds)) + (" (or null)" if len(kinds) < len(arguments) else "")
    if origin is Literal:
        words = [str(each).lower() if isinstance(each, bool) else str(each) for each in arguments]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is Annotated:
        kind, *limits = arguments
        limits = [limit for limit in limits if isinstance(limit, Ge | Gt | Le | Lt | Len)]
        counts = [limit for limit in limits if isinstance(limit, Len)]
        words = [_limit(limit, index) for index, limit in enumerate(limit for limit in limits if limit not in counts)]
        return " ".join([described(kind), *counted(counts), " and ".join(words)]).strip()
    if origin in _LISTS:
        return f"a list, each {described(arguments[0])}"
    return (_NAMES.get(hint) if isinstance(hint, type) else None) or str(getattr(hint, "__name__", hint))


def counted(lengths: Sequence[Len]) -> list[str]:
    """How many entries a list has, in words."""
    return [
        f"({each.min_length} of them)" if each.min_length == each.max_length else f"(at least {each.min_length})"
        for each in lengths
    ]


def _limit(limit: object, index: int) -> str:
    match limit:
        case Ge():
            return f"of at least {limit.ge:.10g}"
        case Gt():
            return f"above {limit.gt:.10g}"
        case Le():
            return f"{'of ' * (index == 0)}at most {limit.le:.10g}"
        case Lt():
            return f"below {limit.lt:.10g}"
    return ""
