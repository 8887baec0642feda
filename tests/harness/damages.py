"""Finished and unfinished runs, deltas and exports with a bit flipped or an end cut: never silent, and the damaged file is named."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.harness import process
from tests.harness.kills import COMMANDS

from lowdim._files import RunFolder, load_tensors, read_checked, save_tensors, write_checked
from lowdim.errors import LowdimError
from lowdim.finetuning import read_delta
from lowdim.models._weights import read_weights


@dataclass
class Report:
    """What was tried and what failed."""

    tried: int = 0
    named: int = 0
    harmless: int = 0
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return (
            f"{self.tried} damages: {self.named} refused with the file's name, {self.harmless} without effect on what is read; "
            f"{len(self.failed)} silent or blamed on another file"
        )


@dataclass(frozen=True)
class Target:
    """A folder, what reads it, and a digest of what was read."""

    folder: Path
    read: Callable[[Path], object]


def targets(root: Path) -> list[Target]:
    """One of each kind, made in a folder of `world.build`."""
    process.run([word.replace("OUT", "run") for word in COMMANDS["measure"]], root, limit=300)
    process.run([word.replace("OUT", "export/model.safetensors") for word in _CHECKPOINT], root, limit=300)
    config = {"seed": 0, "layers": ["a", "b"], "rate": 0.5}
    with RunFolder(root / "unfinished", "finetune", config) as run:
        save_tensors(run.state / "loop.safetensors", {"a": np.arange(50.0)}, {"loop": "{}"})
        write_checked(run.state / "outcome.json", {"seconds": 1.5, "outcome": {"a": [1, 2, 3]}})

    def unfinished(folder: Path) -> object:
        with RunFolder(folder, "finetune", config) as run:
            arrays, metadata = load_tensors(run.state / "loop.safetensors")
            return (
                {name: array.tolist() for name, array in arrays.items()},
                metadata,
                read_checked(run.state / "outcome.json", remedy=""),
            )

    stored = read_checked(root / "run" / "config.json", remedy="")
    command = stored.pop("command")

    def finished(folder: Path) -> object:
        with RunFolder(folder, command, stored) as run:
            return run.finished()

    def delta(folder: Path) -> object:
        found = read_delta(folder)
        return repr(found), {name: array.tolist() for name, array in found.tensors.items()}

    def weights(folder: Path) -> object:
        return {name: tensor.tolist() for name, tensor in read_weights(folder / "model.safetensors").items()}

    return [
        Target(root / "run", finished),
        Target(root / "unfinished", unfinished),
        Target(root / "delta-digits", delta),
        Target(root / "export", weights),
    ]


_CHECKPOINT = ("export", "--delta", "delta-digits", "--to", "checkpoint", "--file", "OUT")


def run(root: Path, trials: int, seed: int) -> Report:
    """Damages one file at a time in a copy of each target, and reads it.

    Args:
        root: Made by `world.build`.
        trials: Damages in all.
        seed: Of files, places and bits.
    """
    rng, report = np.random.default_rng(seed), Report()
    known = targets(root)
    whole = [repr(target.read(target.folder)) for target in known]
    copy = root / "damaged-copy"
    for trial in range(trials):
        target, expected = known[trial % len(known)], whole[trial % len(known)]
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(target.folder, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
        path = files[int(rng.integers(len(files)))]
        content = bytearray(path.read_bytes())
        at = int(rng.integers(len(content)))
        if rng.random() < 0.3:
            del content[at:]
        else:
            content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        report.tried += 1
        what = f"{target.folder.name}/{path.relative_to(copy)}, byte {at}"
        try:
            found = target.read(copy)
        except LowdimError as error:
            report.named += path.name in str(error)
            if path.name not in str(error):
                report.failed.append(f"{what}: another file is blamed: {error}")
        except Exception as error:
            report.failed.append(f"{what}: {type(error).__name__}: {error}")
        else:
            report.harmless += repr(found) == expected
            if repr(found) != expected:
                report.failed.append(f"{what}: read as something else, without a word")
    return report
