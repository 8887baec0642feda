"""A command as Python calls it: what the parser of the command line does for typed text is done here for values."""

import inspect
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from functools import reduce, wraps
from numbers import Real
from operator import or_
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin

import typer

from lowdim._arguments import fits, named, said

_WIDTH = 100
_FLAG = re.compile(r"--(no-)?([a-z][a-z-]+)")


@dataclass(frozen=True)
class Objects:
    """Beside the option of a parameter that in Python also takes objects.

    Attributes:
        types: As the signature shows them.
        help: What the documentation says of them.
    """

    types: str
    help: str


class Without(tuple[str, ...]):
    """Beside a group of options: names of those that the command does not have."""


@dataclass(frozen=True)
class _Parameter:
    """What an annotation of a command says."""

    name: str
    kinds: tuple[Any, ...]
    option: typer.models.OptionInfo | typer.models.ArgumentInfo | None
    objects: Objects | None

    @property
    def optional(self) -> bool:
        return NoneType in self.kinds

    @property
    def kind(self) -> Any:
        """The type of what is typed, without None."""
        return next(kind for kind in self.kinds if kind is not NoneType)


def called_from_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with values of the kinds and ranges that its options have: text for a path, one value for a list of one, a list for
    text with commas; anything else is the error of one line that the command line would give. Its signature and docstring are plain."""
    declared, groups = list(declared_parameters(function)), list(_groups(function))
    parameters = {one.name: _parameter(one.name, one.annotation) for one in declared}
    signature = inspect.signature(function).replace(parameters=declared)

    @wraps(function)
    def call(*args: Any, **values: Any) -> Any:
        for unknown in values.keys() - parameters.keys():
            from lowdim.errors import did_you_mean

            raise TypeError(f"{function.__name__} takes no `{unknown}`. {did_you_mean(unknown, list(parameters))}")
        given = {
            name: _converted(value, parameters[name], "data" in parameters)
            for name, value in signature.bind(*args, **values).arguments.items()
        }
        for name, group, members in groups:
            given[name] = group(**{member.name: given.pop(member.name) for member in members if member.name in given})
        return function(**given)

    shown = [_plain(one, parameters[one.name]) for one in declared]
    call.__signature__ = signature.replace(parameters=shown)  # pyright: ignore[reportAttributeAccessIssue]
    call.__annotations__ = {one.name: one.annotation for one in shown} | {"return": signature.return_annotation}
    call.__doc__ = _documented(function.__doc__ or "", parameters)
    return call


def declared_parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """The parameters of a command; those of a group, which is a dataclass, each for itself, without those left out by `Without`."""
    groups = {name: members for name, _, members in _groups(function)}
    for one in inspect.signature(function).parameters.values():
        one = one.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for member in groups.get(one.name, ()):
            yield one.replace(name=member.name, annotation=member.type, default=member.default)
        if one.name not in groups:
            yield one


def _groups(function: Callable[..., Any]) -> Iterator[tuple[str, Any, list[Field[Any]]]]:
    """Name, class and members of each group of parameters."""
    for name, hint in inspect.get_annotations(function).items():
        group, *extras = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if is_dataclass(group):
            left_out = extras[0] if extras else ()
            yield name, group, [field for field in fields(group) if field.name not in left_out]


def unusable(value: Any) -> str:
    """Why no option or argument takes such a value; empty if one may."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number."
    if isinstance(value, int) and abs(value) >= 2**32:
        return "The number is too large."
    if isinstance(value, str | PurePath) and "\0" in str(value):
        return "It holds a character of value 0, which no name can."
    return ""


def _parameter(name: str, hint: Any) -> _Parameter:
    base, *extras = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    kinds = get_args(base) if get_origin(base) is UnionType else (base,)
    infos = (typer.models.OptionInfo, typer.models.ArgumentInfo)
    return _Parameter(
        name,
        kinds,
        next((one for one in extras if isinstance(one, infos)), None),
        next((one for one in extras if isinstance(one, Objects)), None),
    )


def _converted(value: Any, parameter: _Parameter, has_data: bool) -> Any:
    from lowdim.errors import UsageError

    if problem := unusable(value) or _out_of_range(value, parameter.option):
        raise UsageError(f"`{parameter.name}`: {problem}", argument=parameter.name)
    if parameter.objects is not None or (value is None and parameter.optional):
        return value
    try:
        return _as_kind(value, parameter.kind)
    except TypeError as error:
        hint = " Inputs and labels are one argument: `data=(inputs, labels)`." * (has_data and hasattr(value, "shape"))
        raise UsageError(
            f"`{parameter.name}` takes {error}, not {named(value)}.{hint}", argument=parameter.name
        ) from error


def _as_kind(value: Any, kind: Any) -> Any:
    """The value as the command takes it.

    Raises:
        TypeError: Whose message says what would be taken.
    """
    several = isinstance(value, list | tuple)
    if get_origin(kind) is list:
        one = get_args(kind)[0]
        return [_as_kind(each, one) for each in (cast("list[Any]", value) if several else [value])]
    if issubclass(kind, Enum):
        choices = [str(choice.value) for choice in kind]
        if str(value) not in choices:
            raise TypeError(f"one of {', '.join(choices)}")
        return kind(str(value))
    if kind is str:
        if several and all(isinstance(each, str | Real) for each in cast("list[Any]", value)):
            return ",".join(map(str, cast("list[Any]", value)))
        if not isinstance(value, str | os.PathLike | Real):
            raise TypeError("text (several by commas, or a list)")
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if not fits(value, kind):
        raise TypeError(said(kind))
    return Path(value) if kind is Path else value


def _out_of_range(value: Any, option: Any) -> str:
    if option is None or not isinstance(value, Real):
        return ""
    if option.min is not None and not float(value) >= option.min:
        return f"{value} is below {option.min}, the least that is taken."
    if option.max is not None and not float(value) <= option.max:
        return f"{value} is above {option.max}, the most that is taken."
    return ""


def _plain(shown: inspect.Parameter, parameter: _Parameter) -> inspect.Parameter:
    """A parameter of the signature without what the command line knows of it."""
    default = shown.default.value if isinstance(shown.default, Enum) else shown.default
    annotation = parameter.objects.types if parameter.objects else reduce(or_, map(_shown, parameter.kinds))
    return shown.replace(annotation=annotation, default=default)


def _shown(kind: Any) -> Any:
    if kind is NoneType:
        return None
    if get_origin(kind) is list:
        return list[_shown(get_args(kind)[0])]
    if kind is Path:
        return str | Path
    return Literal[tuple(str(one.value) for one in kind)] if issubclass(kind, StrEnum) else kind


def _documented(text: str, parameters: dict[str, _Parameter]) -> str:
    """The docstring with a line for each parameter, from the help of its option."""
    flags = {
        flag: name
        for name, one in parameters.items()
        for flag in (f"--{name.replace('_', '-')}", getattr(one.option, "default", None))
        if isinstance(flag, str)
    }

    def spoken(found: "re.Match[str]") -> str:
        name = flags.get(found[0]) or flags.get(f"--{found[2]}")
        return found[0] if name is None else f"`{name}{'=False' if found[1] and found[0] not in flags else ''}`"

    lines: list[str] = []
    for name, one in parameters.items():
        said = getattr(one.option, "help", None) or ""
        said += f" {one.objects.help}" if one.objects else ""
        said = said.replace("; may be repeated", "; a list for several").replace("May be repeated", "One or a list")
        line = f"{name}: {_FLAG.sub(spoken, said)}"
        lines += textwrap.wrap(line, _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)
    return "\n".join([inspect.cleandoc(text), "", "Args:", *lines])
