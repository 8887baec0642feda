"""Tensors with one row per sample, computed once and kept in files of consecutive samples."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lowdim._files import json_digest, load_tensors
from lowdim.errors import InputError
from lowdim.features._cache import FeatureCache

_HEADER = 200
"""Bytes beside the numbers, for a file and for each tensor in it."""
_NUMPY = (torch.float16, torch.float32, torch.float64, torch.int64, torch.int32, torch.bool, torch.uint8)


@dataclass(frozen=True)
class Rows:
    """Tensors of some samples by name, in the order of computation, and the type that each had in the network."""

    tensors: dict[str, Tensor]
    types: dict[str, str]

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "Rows":
        """On the CPU, in types that NumPy has: float32 holds bfloat16 exactly."""
        types = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        plain = {name: tensor if tensor.dtype in _NUMPY else tensor.float() for name, tensor in tensors.items()}
        return cls({name: tensor.cpu() for name, tensor in plain.items()}, types)


class Shelf:
    """Some features (`names`: ``layer|pool``) of all samples of one content, wherever in a cache they lie.

    Files may be of any sizes, written by other commands, beside more features than are asked for; what is damaged or gone is
    computed again, by `compute` from one position up to another. What does not fit into the budget is never kept. Files stay
    mapped into memory where they are `held`, for reading in any order.
    """

    def __init__(
        self,
        cache: FeatureCache,
        content: str,
        names: Sequence[str],
        samples: int,
        compute: Callable[[int, int], Rows],
        *,
        held: bool = False,
    ) -> None:
        self._cache, self._content, self._names = cache, content, tuple(names)
        self._own = cache.folder / content / json_digest(sorted(names))[:16]
        self._samples, self._compute, self._held = samples, compute, held
        self._sound: set[Path] = set()
        self._mapped: dict[Path, Rows] = {}
        self.refresh()

    def refresh(self) -> None:
        """Looks for files, also those that other processes have written in the meantime."""
        self._files: list[tuple[int, Path]] = []
        # Which file holds a sample; -1: none.
        self._owner = np.full(self._samples, -1, dtype=np.int32)
        for folder in self._cache.holding(self._content, self._names):
            for path in sorted(folder.glob("[0-9]*.safetensors")):
                self._add(path)

    def rows(self, start: int, stop: int) -> Rows:
        """The samples from one position up to another: found, or computed and kept."""
        there = self.found(start, stop)
        if there is not None:
            return there
        computed = self._compute(start, stop)
        if self.reserve(computed, stop - start):
            path = self._own / f"{start:09d}-{stop:09d}.safetensors"
            # The file sorts its tensors by name; the order of computation is kept beside them.
            types = {"types": json.dumps(computed.types)}
            if self._cache.write(path, {name: tensor.numpy() for name, tensor in computed.tensors.items()}, types):
                self._sound.add(path)
                self._add(path)
        return computed

    def found(self, start: int, stop: int) -> Rows | None:
        """The same where it is kept, mapped into memory; None where it is not."""
        owners = self._owner[start:stop]
        ends = [*(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(owners)]
        pieces: list[Rows] = []
        for low, high in zip([0, *ends], ends, strict=False):
            here = self._file(int(owners[low])) if high > low else None
            if here is None:
                return None
            first, rows = here
            part = slice(start + low - first, start + high - first)
            pieces.append(Rows({name: tensor[part] for name, tensor in rows.tensors.items()}, rows.types))
        if len(pieces) == 1:
            return pieces[0]
        joined = {name: torch.cat([piece.tensors[name] for piece in pieces]) for name in pieces[0].tensors}
        return Rows(joined, pieces[0].types)

    def sample(self, position: int) -> dict[str, Tensor]:
        """One sample of a complete shelf whose files are held."""
        first, path = self._files[self._owner[position]]
        return {name: tensor[position - first] for name, tensor in self._mapped[path].tensors.items()}

    def reserve(self, rows: Rows, samples: int) -> bool:
        """Whether all samples may be kept, judged by these."""
        files = -(-self._samples // max(samples, 1))
        size = sum(tensor.nbytes for tensor in rows.tensors.values()) / max(samples, 1)
        return self._cache.reserve(
            self._own, self._names, size * self._samples + files * (_HEADER * (1 + len(rows.types)))
        )

    @property
    def complete(self) -> bool:
        """Whether every sample is there."""
        return bool((self._owner >= 0).all())

    @property
    def bytes(self) -> int:
        """Of the files that hold the samples."""
        return sum(self._files[owner][1].stat().st_size for owner in np.unique(self._owner) if owner >= 0)

    def _add(self, path: Path) -> None:
        start, stop = map(int, path.stem.split("-"))
        self._owner[start:stop] = len(self._files)
        self._files.append((start, path))

    def _file(self, owner: int) -> tuple[int, Rows] | None:
        """First position and rows of a file; None, and forgotten, where it is damaged or gone."""
        if owner < 0:
            return None
        first, path = self._files[owner]
        if path not in self._mapped:
            try:
                rows = self._read(path)
            except (InputError, SafetensorError, OSError):
                self._owner[self._owner == owner] = -1
                return None
            self._mapped = {**(self._mapped if self._held else {}), path: rows}
        return first, self._mapped[path]

    def _read(self, path: Path) -> Rows:
        if path not in self._sound:
            load_tensors(path)  # compares the content with its checksum
            self._sound.add(path)
        with safe_open(path, framework="pt") as file:
            types: dict[str, str] = json.loads(file.metadata()["types"])
            types = {name: kind for name, kind in types.items() if self._asked(name)}
            return Rows({name: file.get_tensor(name).to(getattr(torch, kind)) for name, kind in types.items()}, types)

    def _asked(self, name: str) -> bool:
        """Whether a stored tensor belongs to a feature asked for; a layer's second call (``relu#2``) belongs to the layer."""
        layer, bar, pool = name.rpartition("|")
        return not bar or name in self._names or f"{layer.split('#')[0]}|{pool}" in self._names
