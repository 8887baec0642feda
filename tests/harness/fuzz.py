"""Valid files of every input format, changed at random, and what lowdim makes of them in one process."""

import contextlib
import itertools
import resource
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tests.harness.process import resident

from lowdim._files import load_tensors, read_json, verify_tensors
from lowdim._pictures import open_picture
from lowdim._preprocessing import Preprocessing
from lowdim.completion.entries._reading import read_pairs, read_triplets
from lowdim.data import batches, load_data
from lowdim.dynamics import WeightHistory
from lowdim.dynamics.samples import read_samples
from lowdim.errors import LowdimError
from lowdim.finetuning import load_delta, read_delta
from lowdim.finetuning._zero_shot import read_npy
from lowdim.models import load_model
from lowdim.models._weights import read_weights
from lowdim.ranking._candidates import read_candidates
from lowdim.tables import read_file

HANG = 20
"""Seconds."""
Reader = Callable[[Path], object]


def _samples(path: str, kind: str, **options: str) -> None:
    """All samples of a data set, as networks get them."""
    data = load_data(path, **options)
    size = (8, 8) if kind == "image" else None
    for split in data.splits.values():
        for _ in batches(split, Preprocessing(kind=kind, image_size=size), batch_size=16):  # type: ignore[arg-type]
            pass


def _delta(path: Path) -> None:
    network = load_delta(load_model("features").module, path.parent)
    network(torch.zeros(2, 6))


def _table(path: Path) -> None:
    source = read_file(path)
    source.table()


def readers(root: Path) -> list[tuple[str, Reader]]:
    """Files in a folder made by `world.build`, by relative name, each with what reads it there."""
    torch.save({"weight": torch.zeros(3, 3)}, root / "weights.pt")
    np.savez(root / "plain.npz", x_train=np.eye(6), y_train=np.arange(6) % 2)
    columns = {"path_column": "file", "label_column": "label"}
    found: list[tuple[str, Reader]] = [
        ("features.npz", lambda path: _samples(str(path), "features")),
        ("plain.npz", lambda path: _samples(str(path), "features")),
        ("images.npz", lambda path: _samples(str(path), "image")),
        ("problem.npz", lambda path: read_samples(path, (4, 4))),
        ("matrix.npy", lambda path: np.asarray(read_npy(path)).sum()),
        ("photos.csv", lambda path: _samples(str(path), "image", **columns)),
        ("texts.tsv", lambda path: load_data(str(path), text_column="text", label_column="label")),
        ("triplets.csv", lambda path: read_triplets(path, "user", "item", "value")),
        ("pairs.csv", lambda path: read_pairs(path, "user", "item")),
        ("notes.json", read_json),
        ("zoo.toml", read_candidates),
        ("steps/1.safetensors", lambda path: WeightHistory.from_folder(path.parent)),
        ("steps/2.safetensors", load_tensors),
        ("steps/0.safetensors", lambda path: (verify_tensors(path), read_weights(path))),
        ("weights.pt", lambda path: read_weights(path, allow_pickle=True)),
        ("delta-features/delta.json", _delta),
        ("delta-features/delta.safetensors", _delta),
        ("delta-digits/delta.json", lambda path: read_delta(path.parent)),
        ("cifar/cifar-10-batches-py/data_batch_2", lambda path: load_data(f"torchvision:CIFAR10@{path.parents[1]}")),
        ("cifar/cifar-10-batches-py/batches.meta", lambda path: load_data(f"torchvision:CIFAR10@{path.parents[1]}")),
    ]
    found += [(name, _table) for name in ("table.csv", "table.tsv", "table.parquet", "table.xlsx")]
    found += [(f"photos/cat/{path.name}", open_picture) for path in sorted((root / "photos" / "cat").iterdir())]
    return found


TOKENS = [
    b"\0", b"\xff", b"\n", b'"', b",", b"{", b"[", b"]", b"}", b"=", b"-1", b"nan", b"1e999", b"9" * 5000, b"[" * 3000, b"\xef\xbb\xbf",
    b"PK\x03\x04", b"\x93NUMPY", b"%!PS", b"\x1f\x8b", b"null", b"\xed\xa0\x80", b"\r", b"\x1b[2J", b"../",
]  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes after one to four random changes: bits, bytes, pieces cut, repeated, moved, extreme numbers, tokens of other formats."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
        match int(rng.integers(9)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + length] = rng.bytes(length)
            case 6:
                token = TOKENS[int(rng.integers(len(TOKENS)))]
                data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
            case 7:
                number = [0, 1, -1, 2**31 - 1, -(2**31), 2**32 - 1][int(rng.integers(6))]
                data[at : at + 4] = (number % 2**32).to_bytes(4, "little" if rng.random() < 0.5 else "big")
            case _:
                there = int(rng.integers(len(data)))
                data[there:there] = data[at : at + length]
    return bytes(data)


@dataclass
class Report:
    """What was tried and what failed."""

    tried: int = 0
    refused: int = 0
    megabytes: float = 0.0
    failed: list[str] = field(default_factory=list[str])
    kinds: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        return (
            f"{self.tried} mutated files of {len(self.kinds)} kinds, {self.refused} refused, {len(self.failed)} failed; "
            f"{self.megabytes:.0f} MB above the base"
        )


class _Hang(BaseException):
    pass


def _alarm(number: int, frame: object) -> None:
    raise _Hang


def run(root: Path, trials: int, seed: int) -> Report:
    """Changes files of `root` in turn, and reads each; puts the valid content back afterwards.

    Args:
        root: Made by `world.build`.
        trials: Files to try.
        seed: Of all changes.
    """
    rng, report = np.random.default_rng(seed), Report()
    before, base = _listing(root), resident()
    handler = signal.signal(signal.SIGALRM, _alarm)
    kinds = [(root / name, name, (root / name).read_bytes(), read) for name, read in readers(root)]
    before = _listing(root)
    try:
        for path, name, content, read in itertools.islice(itertools.cycle(kinds), trials):
            path.write_bytes(mutated(content, rng))
            report.tried += 1
            report.kinds[name] += 1
            signal.alarm(HANG)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(path)
            except LowdimError:
                report.refused += 1
            except _Hang:
                report.failed.append(f"{name}, trial {report.tried}: no answer in {HANG} s")
            except BaseException as error:
                report.failed.append(f"{name}, trial {report.tried}: {type(error).__name__}: {str(error)[:200]}")
                with contextlib.suppress(OSError):
                    shutil.copy(path, root.parent / f"failed-{seed}-{report.tried}")
            finally:
                signal.alarm(0)
            report.megabytes = max(report.megabytes, _peak() - base)
            path.write_bytes(content)
    finally:
        signal.signal(signal.SIGALRM, handler)
    report.failed += [f"written: {name}" for name in sorted(_listing(root) - before)]
    return report


def _listing(root: Path) -> set[str]:
    return set(_names(root))


def _names(root: Path) -> Iterator[str]:
    return (str(path.relative_to(root)) for path in root.rglob("*"))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
