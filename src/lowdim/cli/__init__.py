"""The command line: parse, call one function, print."""

import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lowdim._memory import claim_blas, of_the_process
from lowdim.cli import advise, check, complete, demo, export, finetune, measure, predict, publish, rank, reproduce
from lowdim.cli._command import Root, command
from lowdim.cli._common import option
from lowdim.cli._session import ReaderGone, Signals, signs_of_life, visible_streams

app = typer.Typer(
    name="lowdim",
    cls=Root,
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
    version: Annotated[bool, option("Print the version.", "--version", callback=_version, is_eager=True)] = False,
    debug: Annotated[bool, option("Show the traceback of an error (anywhere in the command).", "--debug")] = False,
) -> None:
    """Low-dimensional structure in deep networks: measure it, explain it, use it.

    \b
    First minute:      lowdim demo
    Your network:      lowdim measure --model timm:resnet18 --data photos/
    A matrix of holes: lowdim complete table.csv
    """


for _module in (demo, measure, rank, advise, finetune, predict, export, publish, complete, check, reproduce):
    command(app)(getattr(_module, _module.__name__.rpartition(".")[2]))


_BEGINNING = {
    "complete": "reading the table",
    "check": "checking",
    "export": "exporting",
    "publish": "publishing",
    "reproduce": "preparing the experiments",
    "demo": "preparing the experiments",
}
"""What a command does first; the others read a network and data."""
_READER_GONE = 141
"""As a shell says it of a program whose output nobody reads any more."""


def main() -> None:
    """Runs the command line and turns every failure into one message and an exit code."""
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    if sys.stdout is None:
        print("error: standard output is closed. Redirect it to a file, or to /dev/null.", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be text in the terminal's encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signals = Signals()
    with visible_streams(), signals.caught():
        code = _run(signals)
    sys.exit(code)


def _run(signals: Signals) -> int:
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"] or ["--help"]
    try:
        with signs_of_life(f"{arguments[0]}: {_BEGINNING.get(arguments[0], 'reading the network and the data')}"):
            if of_the_process() is not None:
                claim_blas()
            code = app(args=arguments, prog_name="lowdim", standalone_mode=False)
            sys.stdout.flush()
        if code == 130:  # Typer has caught the interrupt
            code = _interrupted(signals)
    except Exception as error:
        if (
            signals.received is not None
        ):  # a library on the way, such as one being imported, made another error of the interrupt
            code = _interrupted(signals)
        elif debug:
            raise
        else:
            code = _explain(error, signals)
    except KeyboardInterrupt:
        code = _interrupted(signals)
    if code == _READER_GONE or not _flushed():
        # What is left could only fail once more, while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code if isinstance(code, int) else 0


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


# Typer carries its own copy of click, or uses the installed one, depending on its version.
_CommandLineError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _interrupted(signals: Signals) -> int:
    from lowdim.cli._voice import has_option

    if signals.received is None:
        print("error: the code that was run raised KeyboardInterrupt, and nobody had interrupted it.", file=sys.stderr)
        return 3
    what = "terminated" if signals.received == signal.SIGTERM else "interrupted"
    continues = "the same command continues where this one stopped"
    remedy = continues if has_option("out") else "nothing was written: run the same command again"
    print(f"{what}; {remedy}", file=sys.stderr)
    return 128 + signals.received


def _explain(error: Exception, signals: Signals) -> int:
    from lowdim.errors import LowdimError, is_disk_full, is_optional, is_out_of_memory, missing_package

    if isinstance(error, BrokenPipeError | ReaderGone):
        return _READER_GONE
    if isinstance(error, ModuleNotFoundError) and is_optional(error):
        error = missing_package(error.name or "", "This command")
    if isinstance(error, LowdimError):
        from lowdim.cli._voice import spoken

        print(f"error: {spoken(error)}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, typer.Abort):
        return _interrupted(signals)
    if isinstance(error, _CommandLineError):
        from lowdim.cli._usage import usage_message

        print(f"error: {usage_message(error)}", file=sys.stderr)
        return 2
    if is_out_of_memory(error):
        print(f"error: out of memory ({_brief(error)}). {_smaller(error)}", file=sys.stderr)
        return 5
    if is_disk_full(error):
        from lowdim.cli._voice import has_option

        continues = ": it continues" if has_option("out") else ""
        print(
            f"error: no space left on the disk. Free some and run the same command again{continues}.", file=sys.stderr
        )
        return 5
    if (
        isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
    ):  # raised by whoever asks first whether it is there
        print(
            f"error: {str(error.filename)[:60]}… is longer than file names can be. Give a shorter one.", file=sys.stderr
        )
        return 3
    if isinstance(error, OSError) and error.errno in _LIMITS:
        print(f"error: {_LIMITS[error.errno]} ({error.filename or _brief(error)}).", file=sys.stderr)
        return 5
    print(
        f"internal error: {type(error).__name__}: {error}. Run again with --debug for the traceback.",
        file=sys.stderr,
    )
    return 1


_LIMITS = {
    errno.EMFILE: "too many files are open; allow more with: ulimit -n 1024",
    errno.ENFILE: "too many files are open on this machine",
    errno.EFBIG: "a file would become larger than this system or `ulimit -f` allows",
    errno.EBADF: "a stream was closed while it was in use",
    errno.EAGAIN: "the system gives no more processes or threads; allow more with: ulimit -u",
}


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _smaller(error: Exception) -> str:
    """What would need less memory, in options of the running command."""
    from lowdim.cli._voice import has_option

    if isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is None):
        return "A library found no room: allow more with ulimit -v, or use a machine with more."
    options = [flag for name, flag in _SMALLER.items() if has_option(name)]
    ways = [f"lower {' or '.join(options)}"] if options else ["use a machine with more, or smaller inputs"]
    if of_the_process() is not None:
        ways.append("allow more with ulimit -v")
    said = ", or ".join(ways)
    return f"{said[0].upper()}{said[1:]}."


_SMALLER = {"batch_size": "--batch-size", "limit": "--limit", "max_rank": "--max-rank", "jobs": "--jobs"}
