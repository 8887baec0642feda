"""Every command killed at random moments and started again: nothing is lost, and the result is the same to the bit."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.harness import process

from lowdim._files import LOCK, TEMPORARY, json_digest, load_tensors, sha256

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
TRIPLETS = ("--row", "user", "--col", "item", "--value", "value")
COMMANDS: dict[str, tuple[str, ...]] = {
    "measure": ("measure", "--model", "digits", "--data", "images.npz", "--out", "OUT"),
    "rank": ("rank", "--model", "digits", "--model", "digits-split", "--data", "images.npz", "--out", "OUT"),
    "advise": ("advise", "--model", "digits", "--data", "images.npz", "--shots", "3", "--out", "OUT"),
    "finetune": ("finetune", "--model", "digits-0-4", "--data", "images.npz", "--method", "layer", "--out", "OUT"),
    "auto": ("finetune", "--model", "digits-0-4", "--data", "images.npz", "--epochs", "2", "--out", "OUT"),
    "als": ("complete", "triplets.csv", *TRIPLETS, "--solver", "als", "--out", "OUT"),
    "ratings": ("complete", "triplets.csv", *TRIPLETS, "--solver", "ratings", "--out", "OUT"),
    "gd": ("complete", "triplets.csv", *TRIPLETS, "--solver", "gd", "--rank", "1", "--out", "OUT"),
    "table": ("complete", "table.csv", "--out", "OUT"),
    "reproduce": ("reproduce", "parsimony-svd", "separation-scale", "--jobs", "2", "--out", "OUT"),
    "predict": ("predict", "--delta", "delta-digits", "--data", "images.npz", "--csv", "OUT/predictions.csv"),
    "checkpoint": ("export", "--delta", "delta-digits", "--to", "checkpoint", "--file", "OUT/model.safetensors"),
    "peft": ("export", "--delta", "delta-digits", "--to", "peft", "--file", "OUT/peft"),
}


@dataclass
class Report:
    """What was tried and what failed."""

    tried: int = 0
    running: int = 0
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return f"{self.tried} kills, {self.running} of them while the command ran; {len(self.failed)} failed"


def run(
    root: Path, kills: int, seed: int, *, names: Iterable[str] = COMMANDS, chain: int = 4, seconds: float = 1e9
) -> Report:
    """Kills the commands in turn, each up to `chain` times in a row, lets it finish, and compares with a run that nobody killed.

    Args:
        root: Made by `world.build`.
        kills: How many in all.
        seed: Of moments and signals.
        names: Of `COMMANDS`.
        chain: Most kills of one run.
        seconds: Stops early after so many.
    """
    rng, report, begun = np.random.default_rng(seed), Report(), time.monotonic()
    whole: dict[str, tuple[str, float]] = {}
    while report.tried < kills:
        for name in names:
            if report.tried >= kills or time.monotonic() - begun > seconds:
                return report
            if name not in whole:
                done = _finish(root, name, f"whole-{name}", report)
                whole[name] = content(root / f"whole-{name}"), done
            _one(root, name, f"killed-{name}", whole[name], int(rng.integers(1, chain + 1)), rng, report)
    return report


def _one(
    root: Path, name: str, out: str, whole: tuple[str, float], kills: int, rng: np.random.Generator, report: Report
) -> None:
    shutil.rmtree(root / out, ignore_errors=True)
    for _ in range(kills):
        report.tried += 1
        child = process.start(_words(name, out), root)
        time.sleep(float(rng.uniform(0, 1.1 * whole[1])))
        number = SIGNALS[int(rng.integers(len(SIGNALS)))]
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            report.running += 1
            os.kill(child, number)
            status = _ended(child)
        _sweep(child)
        code = os.waitstatus_to_exitcode(status)
        told = Path(f"{root}.err").read_text(errors="replace")
        if "internal error" in told or "Traceback" in told or code not in (0, -9, 130, 143, -2, -15):
            report.failed.append(f"{name} after {number.name}: exit {code}: {told[-300:]}")
        if code in (130, 143) and "same command" not in told:
            report.failed.append(f"{name} after {number.name}: does not say whether it continues: {told[-300:]}")
    _finish(root, name, out, report)
    if content(root / out) != whole[0]:
        report.failed.append(f"{name}: the result differs after {kills} kills")
    stray = [path.name for path in (root / out).rglob("*") if path.name.startswith(TEMPORARY) or path.name == LOCK]
    if stray:
        report.failed.append(f"{name}: left behind: {stray[:3]}")


def _words(name: str, out: str) -> list[str]:
    return [word.replace("OUT", out) for word in COMMANDS[name]]


def _finish(root: Path, name: str, out: str, report: Report) -> float:
    done = process.run(_words(name, out), root, limit=300)
    if done.code not in (0, 4):
        report.failed.append(f"{name} does not finish: exit {done.code}: {done.err[-300:]}")
    return done.seconds


def _ended(child: int) -> int:
    """The status of a child that a signal was sent to; one that does not end within half a minute is killed."""
    for _ in range(3000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _sweep(group: int) -> None:
    """A killed command cannot end its own workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


_TIMES = {"seconds", "seconds_per_epoch", "cache", "path", "own", "run_folder"}


def content(folder: Path) -> str:
    """A digest of all results in a folder, but for times and the folder's own name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("state/"):
            continue
        if path.name in ("report.html", "manifest.json") or path.name.startswith("events"):
            found[name] = "there"  # they show times, or digests of files that do
        elif path.name == "result.json":
            found[name] = _timeless(json.loads(path.read_text()))
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
    return [_timeless(item) for item in value] if isinstance(value, list) else value
