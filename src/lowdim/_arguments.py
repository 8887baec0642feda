"""Arguments of the wrong kind: refused in one line, by the annotations of the function, before anything is computed."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from lowdim.errors import UsageError

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

_PLAIN: dict[Any, tuple[Any, str]] = {
    str: (str, "text"),
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    Path: ((str, os.PathLike), "a path"),
    os.PathLike: (os.PathLike, "a path"),
    NoneType: (NoneType, "None"),
}
_WORDS = {"Module": "a torch module", "ndarray": "an array", "device": "a device"}


def checked_arguments(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """The function, whose arguments are held against its annotations first.

    Raises:
        UsageError: By the function, naming the parameter, what it takes and what came.

    Example:
        >>> @checked_arguments
        ... def half(number: float) -> float:
        ...     return number / 2
        >>> half("four")
        Traceback (most recent call last):
        lowdim.errors.UsageError: `number` takes a number, not 'four'.
    """
    signature, hints = inspect.signature(function), dict[str, Any]()
    free = {one.name for one in signature.parameters.values() if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}

    @wraps(function)
    def call(*args: Given.args, **values: Given.kwargs) -> Returned:
        if not hints:
            hints.update(get_type_hints(function))
        given = signature.bind(*args, **values).arguments
        check_kinds({name: value for name, value in given.items() if name not in free}, hints)
        return function(*args, **values)

    return call


def check_fields(one: Any) -> None:
    """The same for the fields of a dataclass."""
    check_kinds(vars(one), get_type_hints(type(one)))


def check_kinds(given: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """The same for values by name, and what is taken there."""
    for name, value in given.items():
        if not fits(value, hint := hints.get(name, Any)):
            raise UsageError(f"`{name}` takes {said(hint)}, not {named(value)}.", argument=name)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation says; numbers of NumPy are numbers, and text is a path.

    Example:
        >>> fits([1, 2.5], list[float]), fits("ab", list[str]), fits(None, int | None)
        (True, False, True)
    """
    base, inner = get_origin(hint) or hint, get_args(hint)
    if base is Any:
        return True
    if base in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if base is Literal:
        return any(isinstance(value, type(one)) and value == one for one in inner)
    if base in _PLAIN:
        return isinstance(value, _PLAIN[base][0]) or (base is bool and type(value).__name__ in ("bool", "bool_"))
    if (array := getattr(base, "array_type", base)) is not base or base.__name__ == "ndarray":
        return isinstance(value, array) or (array.__name__ == "ndarray" and hasattr(value, "__array__"))
    if issubclass(base, Mapping):
        items = list(cast("Mapping[Any, Any]", value).items()) if isinstance(value, Mapping) else []
        return isinstance(value, Mapping) and all(all(map(fits, item, inner)) for item in items)
    if issubclass(base, Collection) and inner:
        return _is_list(value) and _elements_fit(list(value), inner, base)
    return isinstance(value, base)


def _is_list(value: Any) -> bool:
    """Whether it has an order and a length: a list, a tuple, an array of at least one axis."""
    return (
        not isinstance(value, str | bytes | Mapping)
        and hasattr(value, "__getitem__")
        and bool(getattr(value, "shape", "()"))
    )


def _elements_fit(values: list[Any], inner: tuple[Any, ...], base: Any) -> bool:
    if base is tuple and inner[-1] is not ...:
        return len(values) == len(inner) and all(map(fits, values, inner))
    return all(fits(value, inner[0]) for value in values)


def said(hint: Any) -> str:
    """What an annotation takes, in words; None is not mentioned.

    Example:
        >>> said(int | tuple[int, int] | None)
        'a whole number or a list (each a whole number)'
    """
    base, inner = get_origin(hint) or hint, get_args(hint)
    if base in (Union, UnionType):
        *others, last = dict.fromkeys(said(one) for one in inner if one is not NoneType)
        return f"{', '.join(others)} or {last}" if others else last
    if base is Literal:
        words: list[str] = [str(one) for one in inner]
        return f"one of {', '.join(words)}" if len(words) > 1 else f"'{words[0]}'"
    if base in _PLAIN:
        return _PLAIN[base][1]
    base = getattr(base, "array_type", base)
    if base.__name__ in _WORDS or not inner:
        return _WORDS.get(base.__name__, f"{'an' if base.__name__[0] in 'AEIO' else 'a'} {base.__name__}")
    if issubclass(base, Mapping):
        return "values by name"
    return f"a list (each {said(inner[0])})" if issubclass(base, Collection) else "a function"


def named(value: Any) -> str:
    """A value in an error: itself where it is short, else its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    large = isinstance(value, int) and value.bit_length() > 100  # beyond some length Python does not write it out
    short = value is None or (isinstance(value, str | bytes | int | float) and not large and len(repr(value)) <= 40)
    return repr(value) if short else type(value).__name__
