"""One folder of computed features within one budget, shared by commands and processes; the least recently used go first."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lowdim._files import read_json, save_tensors, write_json
from lowdim.errors import InputError, UsageError

_SHELF = "shelf.json"
"""Names what a folder holds and how many bytes are reserved for it; its time of change says when it was last used."""
_FILES = re.compile(r"shelf\.json|[0-9]+-[0-9]+\.safetensors|\.tmp-.*")
"""What may lie in a shelf; a folder with anything else is none."""


@dataclass(frozen=True)
class FeatureCache:
    """A folder ``CONTENT/NAMES/`` of shelves, each with some features of all samples of one content.

    Any number of processes may use it at the same time. A shelf may vanish at any moment: whoever reads computes again.

    Attributes:
        folder: Made when something is kept.
        budget: Bytes of all shelves together.
        lasting: Whether other runs can find what is kept; then contents are named by digests.
    """

    folder: Path
    budget: float
    lasting: bool = True

    def holding(self, content: str, names: Sequence[str]) -> list[Path]:
        """The shelves of a content that hold all these features; finding them counts as use."""
        found: list[Path] = []
        for shelf in (self.folder / content).glob("*/"):
            label = _label(shelf)
            if label is not None and set(names) <= set(label["names"]):
                with contextlib.suppress(OSError):
                    os.utime(shelf / _SHELF)
                    found.append(shelf)
        return found

    def reserve(self, shelf: Path, names: Sequence[str], size: float) -> bool:
        """Makes room for a shelf of so many bytes; False where the whole budget is too small for it."""
        if (shelf / _SHELF).exists():
            return True
        if size > self.budget:
            return False
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise UsageError(
                f"{self.folder} cannot hold features: {error.strerror}. Choose another `cache`."
            ) from error
        try:
            shelves = sorted(self._shelves())
            free = self.budget - sum(taken for _, taken, _ in shelves)
            for _, taken, folder in shelves:
                if free >= size:
                    break
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()  # the content's last shelf
                free += taken
            write_json(shelf / _SHELF, {"names": list(names), "bytes": size})
        finally:
            lock.release()
        return True

    def write(self, path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bool:
        """Writes a file of a shelf; False where the shelf was deleted for lack of room in the meantime."""
        try:
            save_tensors(path, arrays, metadata)
        except (OSError, UsageError) as error:
            if not isinstance(error.__cause__ or error, FileNotFoundError):
                raise
            return False
        return True

    def _shelves(self) -> Iterator[tuple[float, float, Path]]:
        """Last use, bytes and folder of every shelf; what a kill or a deletion left of one is removed."""
        for folder in self.folder.glob("*/*/"):
            if not re.fullmatch("[0-9a-f]{16}", folder.name) or not all(
                _FILES.fullmatch(p.name) for p in folder.iterdir()
            ):
                continue  # someone else's
            label = _label(folder)
            if label is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                yield (folder / _SHELF).stat().st_mtime, label["bytes"], folder


def _label(shelf: Path) -> dict[str, Any] | None:
    try:
        label = read_json(shelf / _SHELF)
    except (InputError, OSError):
        return None
    return label if isinstance(label, dict) and {"names", "bytes"} <= label.keys() else None


@contextlib.contextmanager
def opened_cache(
    cache: Path | None, folder: Path | None, budget: float, *, kept: bool = True
) -> Generator[FeatureCache]:
    """The cache at `cache`, else one inside a run's `folder` (kept there with the run, or deleted at the end), else a temporary one."""
    if cache is None and folder is not None and kept:
        cache = folder / "features"
    if cache is not None:
        yield FeatureCache(cache, budget)
        return
    with tempfile.TemporaryDirectory(prefix="lowdim-", dir=folder) as temporary:
        yield FeatureCache(Path(temporary), budget, lasting=False)
