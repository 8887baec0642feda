"""The command line: parse, call one function, print."""

import io
import sys
from typing import Annotated, Any

import typer

from lowdim.cli import advise, check, complete, demo, export, finetune, measure, predict, rank, reproduce

app = typer.Typer(
    name="lowdim",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"lowdim {version('lowdim')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere in the command).")
    ] = False,
) -> None:
    """Low-dimensional structure in deep networks: measure it, explain it, use it.

    \b
    First minute:      lowdim demo
    Your network:      lowdim measure --model timm:resnet18 --data photos/
    A matrix of holes: lowdim complete table.csv
    """


for _command in (demo, measure, rank, advise, finetune, predict, export, complete, check, reproduce):
    _command.register(app)


def main() -> None:
    """Runs the command line and turns every failure into one message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be text in the terminal's encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(args=arguments or ["--help"], prog_name="lowdim", standalone_mode=False)
        if code == 130:  # Typer has caught the interrupt
            code = _interrupted()
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
    except KeyboardInterrupt:
        code = _interrupted()
    sys.exit(code if isinstance(code, int) else 0)


# Typer carries its own copy of click, or uses the installed one, depending on its version.
_CommandLineError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _interrupted() -> int:
    print("interrupted; the same command continues where this one stopped", file=sys.stderr)
    return 130


def _explain(error: Exception) -> int:
    import errno

    from lowdim.errors import LowdimError, is_optional, is_out_of_memory, missing_package

    if isinstance(error, ModuleNotFoundError) and is_optional(error):
        error = missing_package(error.name or "", "This command")
    if isinstance(error, LowdimError):
        from lowdim.cli._voice import spoken

        print(f"error: {spoken(error)}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, typer.Abort):
        return _interrupted()
    if isinstance(error, _CommandLineError):
        from lowdim.cli._usage import usage_message

        print(f"error: {usage_message(error)}", file=sys.stderr)
        return 2
    if is_out_of_memory(error):
        print(f"error: out of memory ({error}). Lower --batch-size or --limit.", file=sys.stderr)
        return 5
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(
            "error: no space left on the disk. Free some and run the same command again: it continues.",
            file=sys.stderr,
        )
        return 5
    print(
        f"internal error: {type(error).__name__}: {error}. Run again with --debug for the traceback.",
        file=sys.stderr,
    )
    return 1
