"""Every command killed at random moments and started again: nothing is lost, and the result is the same to the bit."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.harness import process

import lowdim
from lowdim._files import LOCK, TEMPORARY, json_digest, load_tensors, sha256
from lowdim.completion.solvers import SOLVERS

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
TRIPLETS = ("--row", "user", "--col", "item", "--value", "value")
COMMANDS: dict[str, tuple[str, ...]] = {
    "measure": ("measure", "--model", "digits", "--data", "images.npz", "--out", "OUT"),
    "rank": ("rank", "--model", "digits", "--model", "digits-split", "--data", "images.npz", "--out", "OUT"),
    "advise": ("advise", "--model", "digits", "--data", "images.npz", "--shots", "3", "--out", "OUT"),
    "finetune": ("finetune", "--model", "digits-0-4", "--data", "images.npz", "--method", "layer", "--out", "OUT"),
    "auto": ("finetune", "--model", "digits-0-4", "--data", "images.npz", "--epochs", "2", "--out", "OUT"),
    **{
        solver: ("complete", "planted.csv", *TRIPLETS, "--rank", "1", "--solver", solver, "--out", "OUT")
        for solver in SOLVERS
        if solver != "inpaint" and not solver.startswith("table")
    },
    "inpaint": ("complete", "holes.png", "--solver", "inpaint", "--out", "OUT"),
    "table": ("complete", "table.csv", "--solver", "table", "--out", "OUT"),
    "table-quick": ("complete", "table.csv", "--solver", "table-quick", "--out", "OUT"),
    "check": ("check", "steps", "--theorem", "parsimony", "--page", "OUT/report.html"),
    "reproduce": ("reproduce", "parsimony-svd", "separation-theorem", "--jobs", "2", "--out", "OUT"),
    "demo": ("demo", "--out", "OUT"),
    "predict": ("predict", "--delta", "delta-digits", "--data", "images.npz", "--csv", "OUT/predictions.csv"),
    "publish": ("publish", "delta-digits", "--folder", "OUT/hub"),
    "checkpoint": ("export", "--delta", "delta-digits", "--to", "checkpoint", "--file", "OUT/model.safetensors"),
    "peft": ("export", "--delta", "delta-digits", "--to", "peft", "--file", "OUT/peft"),
    "torch": ("export", "--delta", "delta-digits", "--to", "torch", "--file", "OUT/model.pt2"),
    "onnx": ("export", "--delta", "delta-digits", "--to", "onnx", "--file", "OUT/model.onnx"),
}


def warm(root: Path) -> None:
    """Compiles what the solvers need in this process, so that kills of its children hit their work."""
    for name, words in COMMANDS.items():
        if name in SOLVERS:
            table = {} if TRIPLETS[0] not in words else {"row": "user", "col": "item", "value": "value", "rank": "1"}
            lowdim.complete(str(root / words[1]), **table, solver=name)


@dataclass
class Report:
    """What was tried and what failed."""

    tried: int = 0
    chains: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        signals = ", ".join(f"{count} {name}" for name, count in sorted(self.kinds.items()))
        return f"{self.tried} kills of running commands ({signals}) in {self.chains} chains; {len(self.failed)} failed"


def run(root: Path, kills: int, seed: int, *, names: Iterable[str] = COMMANDS, chain: int = 4) -> Report:
    """Kills a command up to `chain` times in a row, lets it finish, and compares with a run that nobody killed.

    Moments are counted in processor time, from the start to all that an undisturbed run takes: they do not depend on what else the
    machine does. The next is always the command on which the least of it was spent: short ones are killed more often, each at least once.

    Args:
        root: Made by `world.build`.
        kills: How many in all. One that comes after the end of its command does not count.
        seed: Of moments and signals.
        names: Of `COMMANDS`.
        chain: Most kills of one run.
    """
    rng, report = np.random.default_rng(seed), Report()
    whole: dict[str, tuple[str, float]] = {}
    spent = dict.fromkeys(names, 0.0)
    while report.tried < kills or 0 in spent.values():
        name = min(spent, key=spent.__getitem__)
        begun = _spent()
        if name not in whole:
            whole[name] = _finish(root, name, f"whole-{name}", report)
        _one(root, name, f"killed-{name}", whole[name], int(rng.integers(1, chain + 1)), rng, report)
        spent[name] += _spent() - begun
    return report


def _one(
    root: Path, name: str, out: str, whole: tuple[str, float], kills: int, rng: np.random.Generator, report: Report
) -> None:
    shutil.rmtree(root / out, ignore_errors=True)
    before = {path.name for path in root.iterdir()}
    report.chains += 1
    for _ in range(kills):
        number = SIGNALS[int(rng.integers(len(SIGNALS)))]
        child = process.start(_words(name, out), root)
        ended, status = _wait(child, used=float(rng.uniform(0, whole[1])))
        if not ended:
            report.tried += 1
            report.kinds[number.name] += 1
            os.kill(child, number)
            ended, status = _wait(child, seconds=30)
        _sweep(child)
        if not ended:
            report.failed.append(f"{name} goes on after {number.name}")
            os.waitpid(child, 0)
            continue
        code = os.waitstatus_to_exitcode(status)
        told = Path(f"{root}.err").read_text(errors="replace")
        if "internal error" in told or "Traceback" in told or code not in (0, 4, -9, 130, 143, -2, -15):
            report.failed.append(f"{name} after {number.name}: exit {code}: {told[-300:]}")
        if code in (130, 143) and "same command" not in told:
            report.failed.append(f"{name} after {number.name}: does not say whether it continues: {told[-300:]}")
    if _finish(root, name, out, report)[0] != whole[0]:
        report.failed.append(f"{name}: the result differs after {kills} kills")
    stray = [path.name for path in (root / out).rglob("*") if path.name.startswith(TEMPORARY) or path.name == LOCK]
    stray += sorted({path.name for path in root.iterdir()} - before - {out})
    if stray:
        report.failed.append(f"{name}: left behind: {stray[:3]}")


def _words(name: str, out: str) -> list[str]:
    return [*(word.replace("OUT", out) for word in COMMANDS[name]), "--json"]


def _finish(root: Path, name: str, out: str, report: Report) -> tuple[str, float]:
    """Runs to the end; a digest of what was written and printed, and the processor seconds."""
    begun = _spent()
    done = process.run(_words(name, out), root, limit=900)
    if done.code not in (0, 4):
        report.failed.append(f"{name} does not finish: exit {done.code}: {done.err[-300:]}")
        return "", 1.0
    printed = json.loads(done.out.replace(out, "OUT"))
    return json_digest([content(root / out), _timeless(printed)]), _spent() - begun


def _wait(child: int, *, seconds: float = float("inf"), used: float = float("inf")) -> tuple[int, int]:
    """As `os.waitpid`, until so many seconds have passed, or so many of a processor were used."""
    begun = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended or time.monotonic() - begun > seconds or _used(child) > used:
            return ended, status
        time.sleep(0.005)


def _spent() -> float:
    """Processor seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _used(child: int | str) -> float:
    """Processor seconds of a process and all below it."""
    folder = Path(f"/proc/{child}")
    try:
        times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]
        below = [one for task in folder.glob("task/*/children") for one in task.read_text().split()]
    except OSError:  # it has ended
        return 0.0
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK") + sum(map(_used, below))


def _sweep(group: int) -> None:
    """A killed command cannot end its own workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


_TIMES = {"seconds", "seconds_per_epoch", "cache", "path", "own", "run_folder"}


def content(folder: Path) -> str:
    """A digest of all results in a folder, but for times and its own name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("state/"):
            continue
        if path.name in ("report.html", "manifest.json") or path.name.startswith("events"):
            found[name] = "there"  # they show times, or digests of files that do
        elif path.name == "result.json":
            found[name] = _timeless(json.loads(path.read_text().replace(folder.name, "OUT")))
        elif path.suffix == ".safetensors" and path.parent.name != "peft":
            found[name] = {key: sha_of(array) for key, array in load_tensors(path)[0].items()}
        elif path.suffix in (".svg", ".csv") and path.parent.name == "figures" and "second" in path.read_text():
            found[name] = "there"
        else:
            found[name] = sha256(path)
    return json_digest(found)


def sha_of(array: np.ndarray) -> str:
    """Of values, type and shape."""
    return json_digest([array.dtype.str, array.shape, array.tobytes().hex()])


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
    if isinstance(value, str):
        return re.sub(r"in about [\d.,]+ \w+", "in a while", value)
    return [_timeless(item) for item in value] if isinstance(value, list) else value
