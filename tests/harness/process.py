"""The command line in a child that starts at once: forked from a process that has imported everything already."""

import contextlib
import importlib
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `code` is None where it was still running at the limit; `megabytes` are above those it began with."""

    code: int | None
    out: str
    err: str
    seconds: float
    megabytes: float

    @property
    def internal(self) -> bool:
        """Whether lowdim did not know what happened to it."""
        told = self.out + self.err
        return self.code not in (0, 2, 3, 4, 5, 130, 141) or "internal error" in told or "Traceback" in told


_MODULES = (
    "importlib.readers", "sklearn.datasets", "torch._dynamo", "numba", "lowdim.cli", "lowdim.completion", "lowdim.experiments",
    "lowdim.finetuning", "lowdim.models", "lowdim.profiling", "lowdim.ranking", "lowdim.report",
)  # fmt: skip


def preload() -> None:
    """Imports what the commands import, once."""
    for name in _MODULES:
        importlib.import_module(name)
    torch.set_num_threads(1)


def start(words: Sequence[str], folder: Path, before: Callable[[], object] | None = None) -> int:
    """Starts `lowdim` with these words in a folder, in a process group of its own; returns its process id.

    Its output goes to the files ``.out`` and ``.err`` beside the folder.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        for descriptor, suffix in ((1, ".out"), (2, ".err")):
            file = os.open(f"{folder}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before is not None:
            before()
        # What pytest has put in their place writes elsewhere.
        sys.stdin, sys.stdout, sys.stderr = (_stream(k, mode) for k, mode in enumerate("rww"))
        sys.argv = ["lowdim", *words]
        sys.modules["__main__"] = types.ModuleType("__main__")  # which processes of its own would import
        os._exit(_run())
    finally:
        os._exit(99)


def _stream(descriptor: int, mode: str) -> TextIO | None:
    """As Python opens it when it starts: None where the descriptor is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        return None
    return open(descriptor, mode, closefd=False)


def _run() -> int:
    try:
        from lowdim.cli import main

        main()
    except SystemExit as stopped:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(Exception):
                stream.flush()
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        return 98
    return 0


def run(
    words: Sequence[str], folder: Path, *, limit: float = 60.0, before: Callable[[], object] | None = None
) -> Outcome:
    """Runs `lowdim` to its end, or to the limit in seconds.

    Args:
        words: Of the command line.
        folder: Where it runs.
        limit: After so many seconds it is killed.
        before: Called in the child first: limits, another user, a closed stream.
    """
    begun, own = time.monotonic(), resident()
    child = start(words, folder, before)
    code: int | None = None
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - begun > limit:
            os.killpg(child, signal.SIGKILL)
            usage = os.wait4(child, 0)[2]
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    out, err = (Path(f"{folder}{suffix}").read_text(errors="replace") for suffix in (".out", ".err"))
    peak = usage.ru_maxrss / 1024
    return Outcome(code, out, err, time.monotonic() - begun, max(0.0, peak - own))


def resident() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
