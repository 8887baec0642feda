"""Ways to run the command line and scripts without the seconds that Python and torch take to start each time."""

import contextlib
import io
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
"""Of processes that are forked from one that has imported what most need."""
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "sklearn.datasets", "lowdim.cli", "lowdim.profiling", "lowdim.report", "lowdim.models", "lowdim.finetuning._bench", "lowdim.experiments.parsimony"]
)  # fmt: skip


def typed(*words, cwd=None):
    """`lowdim` with these words in this process, as `subprocess.run` would give it."""
    from lowdim.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as ended,
    ):
        patch.setattr(sys, "argv", ["lowdim", *map(str, words)])
        main()
    return subprocess.CompletedProcess(words, ended.value.code or 0, out.getvalue(), err.getvalue())


COMMAND = "import sys; sys.argv[0] = 'lowdim'; from lowdim.cli import main; main()"


class Script:
    """Code that runs as `__main__` in a process of its own, forked from one that has imported what most need."""

    def __init__(self, code, *arguments, folder, log="script", environment=None):
        """Its output goes to files in `folder`, called `log`."""
        self._log = folder / log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process = CONTEXT.Process(
            target=_run, args=(code, [*map(str, arguments)], str(folder), str(self._log), environment)
        )
        self._process.start()

    @property
    def out(self):
        """What it has printed."""
        return self._read(".out")

    @property
    def err(self):
        """What it has told."""
        return self._read(".err")

    def _read(self, suffix):
        file = self._log.with_suffix(suffix)
        return file.read_text() if file.exists() else ""

    @property
    def exitcode(self):
        """None while it runs."""
        return self._process.exitcode

    def join(self, seconds=240):
        """Waits for its end, at most so long."""
        self._process.join(seconds)

    def kill(self):
        """Ends it at once."""
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self.join()

    def done(self, seconds=240):
        """When it has ended: its exit code, what it printed and what it told."""
        self.join(seconds)
        code = self.exitcode
        if code is None:
            self.kill()
        return subprocess.CompletedProcess([], code, self.out, self.err)

    def wait_for(self, text):
        """Until it has printed or told this, or has ended."""
        while text not in self.out + self.err and self.exitcode is None:
            time.sleep(0.01)


def _run(code, arguments, folder, log, environment):
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(log + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["script", *arguments]
    exec(compile(code, "script", "exec"), {"__name__": "__main__"})


def start(folder, *arguments):
    """A process that runs `lowdim` in a folder."""
    return Script(COMMAND, *arguments, folder=folder, log=f"lowdim-{time.monotonic_ns()}")


def job(count, code, *arguments, folder, environment=None):
    """The code in `count` processes of one job, as a launcher starts them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Script(
            code,
            *arguments,
            folder=folder,
            log=f"process-{rank}",
            environment={**sizes, **(environment or {}), "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
