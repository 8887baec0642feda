"""The command line in a process of its own, without the seconds that importing torch takes each time."""

import contextlib
import multiprocessing
import os
import sys

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "sklearn.datasets", "lowdim.profiling", "lowdim.report", "lowdim.models"])


def _main(folder, arguments):
    os.chdir(folder)
    sys.argv = ["lowdim", *arguments]
    with (
        open(os.devnull, "w") as nothing,  # noqa: PTH123
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        from lowdim.cli import main

        main()


def start(folder, *arguments):
    """A process that runs `lowdim` in a folder."""
    process = _CONTEXT.Process(target=_main, args=(str(folder), arguments))
    process.start()
    return process
