"""What a builder takes, read from its source: a wrong value is refused before the builder's module (and torch) loads.

A function of this package is found by its dotted name and parsed, not imported. Its annotations are evaluated among the
few names that say anything about a value (`rules.types`, annotated-types, Literal); any other annotation allows all.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args, get_type_hints

import annotated_types

from deepgnn_cli.rules import types

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT.name
_NAMES: dict[str, object] = {
    **{name: getattr(types, name) for name in types.__all__},
    **{name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Lt", "Len")},
    **{"Literal": Literal, "Annotated": Annotated, "list": list, "tuple": tuple, "dict": dict, "object": object},
    **{"int": int, "float": float, "str": str, "bool": bool},
}

Built = TypeVar("Built", bound=Callable[..., object])


@dataclass(frozen=True)
class Parameter:
    """A keyword that a configuration may give. `hint` is its annotation (object: no more is known)."""

    name: str
    hint: object
    required: bool


@dataclass(frozen=True)
class Signature:
    """What a builder takes.

    Args:
        parameters: by name. Of this package's own builders those after the `*`; of others all.
        takes_any: it takes any further keyword.
        relations: functions that relate several of the values, see `related`.
        packages: packages it cannot do without, each with the remedy, see `requires`.
        meanings: what the docstring says of each argument.
    """

    parameters: dict[str, Parameter]
    takes_any: bool = False
    relations: tuple[Callable[..., object], ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)


def related(*checks: Callable[..., object]) -> Callable[[Built], Built]:
    """Decorate a builder with what must hold between several of its values.

    Each check takes some of the builder's keywords (and `seed`, `world`) by name and raises ValueError. It lives in a
    module without torch, since it is called before the builder's module is loaded.
    """
    return lambda builder: builder


def requires(package: str, remedy: str) -> Callable[[Built], Built]:
    """Decorate a builder with a package that it imports when it is called, and how to come by it."""
    return lambda builder: builder


def signature_of(target: str) -> Signature:
    """The signature of the function that a dotted name stands for.

    Raises:
        LookupError: this package has no such function.
        ImportError, AttributeError, ValueError: it is somebody else's and cannot be imported.
    """
    module, _, name = target.rpartition(".")
    if module == _PACKAGE or module.startswith(f"{_PACKAGE}."):
        return _Source.of(module).function(name)
    return _imported(getattr(importlib.import_module(module), name))


def _imported(function: Callable[..., object]) -> Signature:
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except NameError:  # annotated with names that only a type checker sees
        hints = {}
    parameters: dict[str, Parameter] = {}
    takes_any = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            kinds = get_args(hints.get(name))  # **keywords: Unpack[SomeTypedDict]
            more = get_type_hints(kinds[0], include_extras=True) if kinds else {}
            takes_any |= not kinds
            parameters |= {key: Parameter(key, hint, required=False) for key, hint in more.items()}
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            parameters[name] = Parameter(name, hints.get(name, object), required=False)
    if takes_any and inspect.isclass(function):
        inherited, takes_any = _handed_on(function)
        parameters = inherited | parameters
    return Signature(parameters, takes_any)


def _handed_on(made: type) -> tuple[dict[str, Parameter], bool]:
    """What a class that takes any keyword hands on to those it derives from, and whether these take any as well."""
    parameters: dict[str, Parameter] = {}
    for base in made.__mro__[1:]:
        if "__init__" not in vars(base) or base is object:
            continue
        taken = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        parameters |= {each.name: Parameter(each.name, object, required=False) for each in taken}
        if all(each.kind is not each.VAR_KEYWORD for each in taken):
            return parameters, False
    return parameters, True


class _Source:
    """A module of this package as its source says it is."""

    def __init__(self, path: Path) -> None:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        self._defined: dict[str, ast.stmt] = {
            node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        self._assigned = {
            node.targets[0].id: node.value
            for node in body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        self._origin = {
            alias.asname or alias.name: node.module
            for node in body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }

    @staticmethod
    @lru_cache(maxsize=64)
    def of(module: str) -> _Source:
        parts = module.split(".")[1:]
        path = _ROOT.joinpath(*parts).with_suffix(".py") if parts else _ROOT / "__init__.py"
        if not path.is_file():
            path = _ROOT.joinpath(*parts, "__init__.py")
        if not path.is_file():
            raise LookupError(f"there is no module {module}")
        return _Source(path)

    def function(self, name: str) -> Signature:
        found = self._defined.get(name)
        if not isinstance(found, ast.FunctionDef) or name.startswith("_"):
            raise LookupError(f"there is no function {name} in it")
        arguments = found.args
        parameters = {
            each.arg: Parameter(each.arg, self._hint(each.annotation), required=default is None)
            for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        }
        keywords = {} if arguments.kwarg is None else self._unpacked(arguments.kwarg.annotation)
        return Signature(
            parameters | keywords,
            takes_any=arguments.kwarg is not None and not keywords,
            relations=tuple(self._relations(found)),
            packages=self._packages(found),
            meanings=_meanings(ast.get_docstring(found) or ""),
        )

    def _hint(self, node: ast.expr | None) -> object:
        """The annotation's value; object where it names something that says nothing about a value."""
        if node is None:
            return object
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} - set(_NAMES)
        aliases: dict[str, object] = {}
        for name in names:
            home = self if name in self._assigned else self._home(name)
            if home is None or name not in home._assigned:
                return object
            aliases[name] = home._hint(home._assigned[name])
        # The expression is this package's own source, and holds no other names than these.
        return eval(compile(ast.Expression(node), "annotation", "eval"), {"__builtins__": {}}, {**_NAMES, **aliases})

    def _home(self, name: str) -> _Source | None:
        """The module of this package that `name` was imported from, or None."""
        module = self._origin.get(name, "")
        return _Source.of(module) if module.startswith(f"{_PACKAGE}.") else None

    def _unpacked(self, annotation: ast.expr | None) -> dict[str, Parameter]:
        """The parameters of `**keywords: Unpack[Keys]`, Keys a TypedDict of this package."""
        if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Name):
            return {}
        name = annotation.slice.id
        home = self if name in self._defined else self._home(name)
        assert home is not None, name
        keys = home._defined[name]
        assert isinstance(keys, ast.ClassDef)
        fields = [node for node in keys.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
        named = [(node.target.id, node) for node in fields if isinstance(node.target, ast.Name)]
        return {key: Parameter(key, home._hint(node.annotation), required=True) for key, node in named}

    def _decorators(self, function: ast.FunctionDef, name: str) -> list[ast.Call]:
        calls = [each for each in function.decorator_list if isinstance(each, ast.Call)]
        return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]

    def _relations(self, function: ast.FunctionDef) -> list[Callable[..., object]]:
        given = [each for call in self._decorators(function, "related") for each in call.args]
        names = [each.id for each in given if isinstance(each, ast.Name)]
        return [getattr(importlib.import_module(self._origin[name]), name) for name in names]

    def _packages(self, function: ast.FunctionDef) -> dict[str, str]:
        calls = self._decorators(function, "requires")
        return dict(tuple(map(ast.literal_eval, call.args)) for call in calls)


def _meanings(docstring: str) -> dict[str, str]:
    """What the section `Args:` of a docstring says of each argument, on one line."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in docstring.splitlines():
        if line.strip() and not line.startswith(" "):
            inside = line.strip() == "Args:"
        elif inside and line.startswith(" " * 4) and not line.startswith(" " * 8) and ":" in line:
            names, _, text = line.strip().partition(":")
            for name in (each.strip().strip("*") for each in names.split(",")):
                found[name] = text.strip()
        elif inside and name in found:
            found[name] += " " + line.strip()
    return found
