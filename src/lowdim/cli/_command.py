"""How a command is declared: groups of options as frozen dataclasses, shown as groups in the help.

A command takes a group as one argument, annotated with the dataclass, whose fields are options in the manner of Typer. The parser sees
the fields; the command gets the filled dataclass.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import groupby
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, cast, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from lowdim.cli import _voice
from lowdim.cli._session import ReaderGone


class Group:
    """A group of options. A subclass is a frozen dataclass; `heading` stands above its options in the help."""

    heading: ClassVar[str] = "Options"


class Command(TyperCommand):
    """A command whose help keeps each example on lines that can be pasted, and shows the options by group."""

    def invoke(self, ctx: Any) -> Any:
        """Runs it, and lets messages be told in its options."""
        _voice.use({parameter.name: parameter for parameter in self.params})
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            for one in value if isinstance(value, list | tuple) else [value]:
                if problem := _unusable(one):
                    raise typer.BadParameter(problem, ctx=ctx, param=cast(Any, parameter))
        try:
            return super().invoke(ctx)
        except EOFError as error:  # which the parser would take for a user who closes a prompt
            raise RuntimeError(f"a file ended too early ({error})") from error
        except BrokenPipeError as error:  # and this for the end of everything
            raise ReaderGone from error

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Paragraphs are wrapped; an example is continued with a backslash before an option."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                lines = paragraph.splitlines()
                if all(line.startswith("lowdim ") for line in lines):
                    examples = [_folded(line, formatter.width - formatter.current_indent) for line in lines]
                    formatter.write_text("\b\n" + "\n".join(examples))
                else:
                    formatter.write_text(paragraph)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """One list for each group, in the order of the command's arguments."""
        shown = [(parameter, parameter.get_help_record(ctx)) for parameter in self.get_params(ctx)]
        for heading, part in groupby(
            ((parameter, record) for parameter, record in shown if record), key=lambda pair: _heading(pair[0])
        ):
            with formatter.section(heading):
                formatter.write_dl([record for _, record in part])


def _unusable(value: Any) -> str:
    """Why no option or argument takes such a value; empty if one may."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number."
    if isinstance(value, int) and abs(value) >= 2**32:
        return "The number is too large."
    if isinstance(value, str | PurePath) and "\0" in str(value):
        return "It holds a character of value 0, which no name can."
    return ""


def _heading(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return parameter.rich_help_panel or Group.heading


def _folded(example: str, width: int) -> str:
    """A command line as one that a shell reads from several lines, none longer than the width where options allow it.

    Example:
        >>> print(_folded("lowdim measure --model digits --data digits", 30))
        lowdim measure \\
            --model digits \\
            --data digits
    """
    lines = [""]
    for part in example.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"    {part}")
        else:
            lines[-1] += f" {part}" if lines[-1] else part
    return "\n".join(lines)


def command(app: typer.Typer) -> Callable[[Callable[..., None]], None]:
    """Adds a function to the application, with the fields of its groups as its options."""

    def add(function: Callable[..., None]) -> None:
        signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
        groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Group)}

        def call(**given: Any) -> None:
            for name, kind in groups.items():
                assert is_dataclass(kind)
                given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            function(**given)

        parameters: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            if name in groups:
                parameters += _parameters(groups[name])
            else:
                parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
        call.__name__, call.__doc__ = function.__name__, function.__doc__
        call.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(cls=Command)(call)

    return add


def _parameters(group: type[Group]) -> list[inspect.Parameter]:
    """The fields of a group as parameters of a command."""
    assert is_dataclass(group)
    hints, parameters = get_type_hints(group, include_extras=True), []
    for field in fields(group):
        kind, option = get_args(hints[field.name])
        option.rich_help_panel = group.heading
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default if field.default is not field.default_factory else inspect.Parameter.empty,
                annotation=Annotated[kind, option],
            )
        )
    return parameters
