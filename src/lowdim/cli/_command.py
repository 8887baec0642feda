"""How a command is declared, and what is done with its result: one place for all of them.

A command is a function that Python calls, too. It gives a `Result` (or a `Listing`); at the terminal that is printed, as text or JSON.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.metadata import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from typer.core import TyperCommand, TyperGroup

from lowdim._warnings import WORDING, merged
from lowdim.cli import _voice
from lowdim.cli._common import option
from lowdim.cli._python import called_from_python as called_from_python
from lowdim.cli._python import declared_parameters, unusable
from lowdim.cli._session import ReaderGone
from lowdim.cli._voice import this_process, warn

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.report import Page, Result, Section

COMMAND_GROUPS = {
    "Begin": ["demo"],
    "Networks": ["measure", "rank", "advise", "finetune", "predict", "export", "publish"],
    "Tables, ratings, pictures": ["complete"],
    "Theory": ["reproduce", "check"],
}
"""Commands as the help lists them."""
HEADINGS = ("Arguments", "Model", "Data", "Options", "Run", "Output")
"""Groups of options in the help, in this order; an option names its group as its panel."""
_KINDS = {
    "str": "TEXT",
    "list[str]": "TEXT",
    "path": "PATH",
    "int": "N",
    "int range": "N",
    "float": "X",
    "float range": "X",
}

TYPED: ContextVar[str] = ContextVar("TYPED", default="")
"""The command line that is running; empty where Python called."""


class Format(StrEnum):
    """How results are printed."""

    auto = "auto"
    human = "human"
    json = "json"


Json: TypeAlias = Annotated[bool, option("Print the result as JSON (same as --format json).", "--json", panel="Output")]
FormatOption: TypeAlias = Annotated[
    Format, option("auto is human, unless the environment has LOWDIM_FORMAT=json.", "--format", panel="Output")
]


@dataclass(frozen=True)
class Listing:
    """Names that were asked for instead of a result: lines for people, `data` as JSON."""

    command: str
    data: Mapping[str, Any]
    lines: Sequence[str]


class Command(TyperCommand):
    """A command whose help keeps each example on lines that can be pasted, and shows the options by group."""

    def invoke(self, ctx: Any) -> Any:
        """Runs it, and lets messages be told in its options."""
        siblings: Any = ctx.parent.command.commands.values() if ctx.parent is not None else ()
        others = {one.name: one for sibling in siblings for one in sibling.params if one.param_type_name == "option"}
        _voice.use({parameter.name: parameter for parameter in self.params}, others, ctx.params)
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            for one in value if isinstance(value, list | tuple) else [value]:
                if problem := unusable(one):
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
                if all(line.startswith(("lowdim ", "[[")) for line in lines):
                    examples = [_folded(line, formatter.width - formatter.current_indent) for line in lines]
                    formatter.write_text("\b\n" + "\n".join(examples))
                else:
                    formatter.write_text(paragraph)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """One list for each group."""
        records: dict[str, list[Any]] = {heading: [] for heading in HEADINGS}
        parameters: list[Any] = self.get_params(ctx)
        for parameter in parameters:
            if (record := parameter.get_help_record(ctx)) is not None:
                argument = parameter.param_type_name == "argument"
                named = re.sub(r"<([a-z[\] ]+)>", lambda kind: _KINDS.get(kind[1], kind[0]), record[0])
                entry = _within(named, record[1], formatter.width - formatter.current_indent - 2)
                records["Arguments" if argument else parameter.rich_help_panel or "Options"].append(entry)
        for heading, part in records.items():
            if part:
                with formatter.section(heading):
                    formatter.write_dl(part)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Where more is told."""
        formatter.write_paragraph()
        formatter.write_text(documentation(f"commands/{self.name}"))


def _within(named: str, text: str, width: int) -> tuple[str, str]:
    """An option and its text, where choices too many for a line stand in the text, before the default."""
    choices = re.search(r"<([^>]*\|[^>]*)>", named)
    if choices is None or len(named) <= width:
        return named, text
    told, mark, default = text.partition("  [")
    return named.replace(choices[0], "NAME"), f"{told} One of {', '.join(choices[1].split('|'))}.{mark}{default}"


class Root(TyperGroup):
    """The help of all commands: in groups, each with its whole question."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One list for each group."""
        for heading, names in COMMAND_GROUPS.items():
            with formatter.section(heading):
                helps = [inspect.cleandoc(self.commands[name].help or "") for name in names]
                formatter.write_dl([(name, text.partition("\n")[0]) for name, text in zip(names, helps, strict=True)])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Where more is told."""
        formatter.write_paragraph()
        formatter.write_text(f"lowdim COMMAND --help begins with examples. {documentation('index')}")


def documentation(page: str) -> str:
    """Where a page of the documentation is: at the address of the project, or in its source."""
    for entry in metadata("lowdim").get_all("Project-URL") or []:
        label, _, address = entry.partition(", ")
        if label.casefold() == "documentation":
            return f"Documentation: {address.rstrip('/')}/{page}.html"
    return f"Documentation: docs/{page}.md of the source"


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


def command(app: typer.Typer) -> Callable[[Callable[..., Any]], None]:
    """Adds a function to the application, with options for the form of the output."""

    def add(function: Callable[..., Any]) -> None:
        declared = inspect.unwrap(function)
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [parameter.replace(kind=keyword) for parameter in declared_parameters(declared)]
        parameters += [
            inspect.Parameter("json", keyword, default=False, annotation=Json),
            inspect.Parameter("format", keyword, default=Format.auto, annotation=FormatOption),
        ]

        def call(json: bool, format: Format, **given: Any) -> None:
            typed, wording = TYPED.set(_typed()), WORDING.set(_voice.in_flags)
            try:
                with redirect_stdout(sys.stderr):  # what the code of a network prints is no part of the answer
                    result = function(**given)
            finally:
                TYPED.reset(typed)
                WORDING.reset(wording)
            asked = format is Format.auto and os.environ.get("LOWDIM_FORMAT") == "json"
            _show(result, as_json=json or format is Format.json or asked)

        call.__name__, call.__doc__ = declared.__name__, declared.__doc__
        call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(cls=Command)(call)

    return add


def _typed() -> str:
    import shlex

    return shlex.join(["lowdim", *(argument for argument in sys.argv[1:] if argument != "--debug")])


def emit_json(command: str, result: Mapping[str, Any]) -> None:
    """Prints a result on stdout with its schema version."""
    from lowdim._files import to_json
    from lowdim.schemas import SCHEMA_VERSION

    if this_process() == 0:
        sys.stdout.write(to_json({"schema_version": SCHEMA_VERSION, "command": command, **result}))
        sys.stdout.flush()


def _show(result: "Result | Listing", *, as_json: bool) -> None:
    """Prints what a command gave; ends with its exit code."""

    if isinstance(result, Listing):
        if as_json:
            emit_json(result.command, result.data)
        else:
            print("\n".join(result.lines))
        return
    for message in merged(result.data["warnings"]):
        warn(message)
    if as_json:
        emit_json(
            result.command, {"headline": _voice.in_flags(result.headline), **_voice.result_in_flags(dict(result.data))}
        )
    elif this_process() == 0:
        print(_voice.in_flags(str(result)))
        if result.folder is not None:
            print(f"page: {result.folder / 'report.html'}")
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def with_page(result: "Result", file: Path | None) -> "Result":
    """The result; its page in a file and named, where one was asked for."""
    if file is None:
        return result
    return replace(result, remarks=[*result.remarks, f"page: {result.save_page(file)}"])


def page_of(
    command: str,
    result: Mapping[str, Any],
    title: str,
    sections: "Sequence[Section]",
    next_steps: Sequence[tuple[str, str]] = (),
) -> "Page":
    """The page of a command: its answer leads, the command line that is running closes it."""
    from lowdim.report import Page
    from lowdim.report.answers import headline

    return Page(title, headline(command, result), sections, next_steps=next_steps, command=TYPED.get())


@contextmanager
def run_folder(
    out: str | Path | None, command: str, config: Mapping[str, Any], *, fresh: bool, keep: bool = False
) -> "Generator[tuple[RunFolder, Path | None]]":
    """The run folder of a command, not yet open, and its path where it stays: the one asked for; at the terminal, or to
    `keep` it, a default one; from Python one that is deleted afterwards."""
    from lowdim._files import RunFolder

    if out is not None or keep or TYPED.get():
        # Python gets the objects of a run, which a finished folder does not hold.
        anew = fresh or (out is None and not TYPED.get())
        run = RunFolder(None if out is None else Path(out), command, config, fresh=anew)
        yield run, run.path
    else:
        with TemporaryDirectory(prefix="lowdim-") as folder:
            yield RunFolder(Path(folder) / "run", command, config), None
