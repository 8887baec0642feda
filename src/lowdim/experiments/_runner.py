"""Runs experiments in other processes: one that fails, or is killed, hides none of the others."""

import contextlib
import errno
import importlib.util
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from lowdim._files import read_checked, write_checked
from lowdim._memory import keep_freed_memory
from lowdim.errors import LowdimError, ResourceError, is_disk_full, is_out_of_memory
from lowdim.experiments import load
from lowdim.experiments._experiment import Outcome, Skipped
from lowdim.experiments._kept import keeping
from lowdim.experiments._stored import from_stored, to_stored

Status = Literal["done", "skipped", "error"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Finished:
    """What became of one experiment.

    Attributes:
        id: The experiment.
        status: ``"done"`` (with an outcome), ``"skipped"`` (it says what it lacks) or ``"error"``.
        seconds: Time that it took.
        outcome: Verdicts and figures; None unless done.
        message: Why there is no outcome.
        exit_code: Of the error; 0 otherwise.
        details: Traceback of an error that lowdim did not raise on purpose.
    """

    id: str
    status: Status
    seconds: float
    outcome: Outcome | None = None
    message: str = ""
    exit_code: int = 0
    details: str = ""


def run_experiments(
    settings: Mapping[str, Any],
    state: Path,
    *,
    jobs: int,
    progress: Callable[[float, int], None],
    started: Callable[[str], None] = lambda _: None,
) -> Iterator[Finished]:
    """Runs each experiment, or reads its outcome where an earlier run left one: side by side the longest first, else as asked for.

    Yields:
        One `Finished` per experiment, in the order in which they end.
    """
    waiting = [id for id in settings if not (state / f"{id}.json").exists()]
    for id in settings:
        if id not in waiting:
            yield _read(id, state)
    if jobs > 1:
        waiting.sort(key=lambda id: -load(id.partition("@")[0]).cost)  # so that no long one runs alone at the end
    done = len(settings) - len(waiting)
    running: dict[Connection, _Worker] = {}
    idle: list[_Worker] = []
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def fill() -> None:
        while waiting and len(running) < jobs:
            id = waiting.pop(0)
            started(id)
            with _undisturbed():
                worker = idle.pop() if idle else _start(state, threads)
                running[worker.connection] = worker
                worker.take(id, settings[id])

    try:
        fill()
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                finished = _receive(running[connection])
                if finished is not None:
                    worker = running.pop(connection)
                    if finished.status == "done":  # what it has imported serves the next experiment, too
                        idle.append(worker)
                    else:
                        worker.end()
                    done += 1
                    fill()  # before whoever asks draws what has come
                    while idle:
                        idle.pop().end()
                    yield finished
            progress(done + sum(worker.fraction for worker in running.values()), len(settings))
        if all((state / f"{id}.json").exists() for id in settings):
            shutil.rmtree(state / "parts", ignore_errors=True)
    finally:
        for worker in [*running.values(), *idle]:
            worker.process.terminate()
            worker.process.join()


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """Inside, an interruption waits: a process that is not yet known could not be ended, and Python would wait for it at its own end."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@dataclass
class _Worker:
    """A process that runs one experiment after another, until one of them fails."""

    process: BaseProcess
    connection: Connection
    state: Path
    id: str = ""
    begun: float = 0.0
    fraction: float = 0.0

    def take(self, id: str, settings: Any) -> None:
        """Gives it an experiment to run."""
        self.id, self.process.name = id, id
        self.begun, self.fraction = time.monotonic(), 0.0
        with contextlib.suppress(BrokenPipeError):  # it was killed: whoever waits for it will see
            self.connection.send((id, settings))

    def end(self) -> None:
        """Nothing more will be asked of it."""
        self.connection.close()
        self.process.join()


def _start(state: Path, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(state, theirs))
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(thread_settings(before, threads))
    # A child is told to run the script of its parent first, which it does not need: without a guard that would start it all again.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    theirs.close()
    return _Worker(process, ours, state)


def thread_settings(given: Mapping[str, str | None], share: int) -> dict[str, str]:
    """The variables that limit threads: as the user set them, else as OMP_NUM_THREADS, else this share of the processor.

    Of a list, one number for each nested level, the first; what is no number above 0 counts as not set.
    """
    first = {name: (given[name] or "").split(",")[0].strip() for name in _THREADS}
    usable = {name: text for name, text in first.items() if text.isdecimal() and int(text) > 0}
    common = usable.get("OMP_NUM_THREADS", str(share))
    return {name: usable.get(name, common) for name in _THREADS}


def _receive(worker: _Worker) -> Finished | None:
    """Reads one message; None while the experiment goes on."""
    seconds = time.monotonic() - worker.begun
    try:
        message = worker.connection.recv()
    except EOFError:
        worker.process.join()
        code = worker.process.exitcode or 0
        ended = f"was ended by signal {-code} (was memory short?)" if code < 0 else f"ended with exit code {code}"
        reason = f"the process {ended} before the experiment did."
        return Finished(worker.id, "error", seconds, message=reason, exit_code=5)
    if isinstance(message, float):
        worker.fraction = message
        return None
    return _read(worker.id, worker.state) if message == "done" else Finished(worker.id, seconds=seconds, **message)


def _read(id: str, state: Path) -> Finished:
    stored = read_checked(state / f"{id}.json", remedy="Delete it and run again.")
    return Finished(id, "done", stored["seconds"], from_stored(stored["outcome"]))


def _serve(state: Path, connection: Connection) -> None:
    """In the child process: runs what is asked for, until nobody asks or something is wrong."""
    keep_freed_memory()
    with contextlib.suppress(EOFError, KeyboardInterrupt, ConnectionError):
        going = True
        while going:
            id, settings = connection.recv()
            going = _work(id, settings, state, connection)


def _work(id: str, settings: Any, state: Path, connection: Connection) -> bool:
    """Runs an experiment, writes its outcome and reports; whether all went well."""
    begun, told = time.monotonic(), [0.0]

    def progress(done: int, total: int) -> None:
        if total and time.monotonic() - told[0] > 0.2:
            told[0] = time.monotonic()
            connection.send(min(1.0, done / total))

    try:
        experiment = load(id.partition("@")[0])  # a point of a sweep is called ID@NUMBER
        missing = [name for name in experiment.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise Skipped(f"needs {', '.join(missing)}. Run: pip install 'lowdim[all]'")
        with keeping(state / "parts", id):
            outcome = experiment.run(settings, progress)
        stored = {
            "seconds": round(time.monotonic() - begun, 3),
            "settings": asdict(settings),
            "outcome": to_stored(outcome),
        }
        write_checked(state / f"{id}.json", stored)
        connection.send("done")
        return True
    except (KeyboardInterrupt, BrokenPipeError):  # the parent was killed: nobody listens
        connection.close()
    except Skipped as reason:
        connection.send({"status": "skipped", "message": str(reason)})
    except LowdimError as error:
        connection.send({"status": "error", "message": str(error), "exit_code": error.exit_code})
    except Exception as error:  # reported with its traceback by the parent
        if is_out_of_memory(error):
            message = f"memory is short ({error}). Take smaller settings."
            connection.send({"status": "error", "message": message, "exit_code": ResourceError.exit_code})
            return False
        if isinstance(error, OSError) and error.errno in _LIMITS:
            full = "no space left on the disk. Free some and run the same command again."
            message = full if is_disk_full(error) else str(error)
            connection.send({"status": "error", "message": message, "exit_code": ResourceError.exit_code})
            return False
        connection.send(
            {
                "status": "error",
                "message": f"{type(error).__name__}: {error}",
                "exit_code": 1,
                "details": traceback.format_exc(),
            }
        )
    return False


_LIMITS = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""Of the system, met while a result is written: no fault of the experiment."""


def choose_jobs(requested: int | None, experiments: Sequence[str]) -> int:
    """As many as asked for, or one per processor core, and never more than there are experiments."""
    return max(1, min(requested or os.cpu_count() or 1, len(experiments)))
