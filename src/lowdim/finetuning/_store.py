"""What a training loop reads: the outputs of the frozen prefix (or the inputs), computed once and kept memory-mapped on disk."""

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from lowdim._files import disk_full, load_tensors, save_tensors
from lowdim._preprocessing import Preprocessing
from lowdim._processes import Processes
from lowdim._random import child_seed
from lowdim.data import Split, batches
from lowdim.errors import InputError
from lowdim.finetuning._prefix import Inputs, samples_in

Compute = Callable[[Inputs], Tensor]
SHARD = 256
"""Samples per file: what a kill can lose."""


@dataclass(frozen=True)
class Batch:
    """Inputs of some samples, and the stored value where there is one."""

    inputs: Inputs
    value: Tensor | None


class Store:
    """Training samples as the trained part of a network wants them.

    Args:
        split: The samples.
        preprocessing: The network's.
        compute: Frozen part, applied once per sample and view; None stores the inputs.
        folder: For the files; those of an earlier, killed run are used again.
        budget: Bytes; above it nothing is stored, and every batch is read and computed when asked for.
        views: Random crops and flips per image beside the plain one are ``views - 1``.
        batch_size: Samples per forward pass of `compute`.
        device: Where batches go.
        seed: Of the views.
        processes: Of the job; each computes its share of the files, and all read all of them.
        progress: Called with (samples done, samples in all).

    Attributes:
        bytes: On disk; 0 when not stored.
        seconds: Spent on computing and writing.
        stored: Whether the samples fit into the budget.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        compute: Compute | None,
        folder: Path,
        budget: float = 4e9,
        views: int = 1,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        seed: int = 0,
        processes: Processes | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        if views > 1 and split.kind != "image":
            raise InputError(f"Views are random crops of images, but the data is {split.kind}.")
        self._splits = [split, *(_augmented(split, child_seed(seed, "view", view)) for view in range(1, views))]
        self._preprocessing, self._compute = preprocessing, compute
        self._batch_size, self._device, self.views = batch_size, torch.device(device), views
        self.labels = split.labels
        self.bytes, self.seconds = 0, 0.0
        started = time.monotonic()
        self._shape: tuple[int, ...] = ()
        self.stored = self._fits(budget)
        self._shards: list[list[dict[str, Tensor]]] = []
        if self.stored:
            try:
                self._write(folder, processes or Processes(), progress)
                self._shards = [self._open(folder, view) for view in range(views)]
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise disk_full(error, folder) from error
                raise
        self.seconds = time.monotonic() - started

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Sequence[int] | np.ndarray, view: int = 0) -> Batch:
        """The samples at these positions.

        Args:
            positions: In the split.
            view: Which of the views, 0 for the plain one.
        """
        positions = np.asarray(positions)
        if not self.stored:
            inputs = _moved(self._read(view, positions), self._device)
            return Batch(inputs, None if self._compute is None else self._compute(inputs))
        rows = [
            {name: array[position % SHARD] for name, array in self._shards[view][position // SHARD].items()}
            for position in positions
        ]
        longest = max((int(row["attention_mask"].sum()) for row in rows if "attention_mask" in row), default=0)
        arrays = {
            name: _stacked([row[name] for row in rows], longest, name != "value" or self._tokens(rows[0]))
            for name in rows[0]
        }
        value = arrays.pop("value", None)
        value = None if value is None else value.to(self._device)
        if value is None and "inputs" not in arrays:
            return Batch(_moved(arrays, self._device), None)
        if arrays:
            inputs = arrays.get("inputs", arrays)
            return Batch(_moved(inputs, self._device), value)
        assert value is not None
        # The image itself is not needed any more, only how many there are and how large.
        return Batch(torch.zeros(1, device=self._device).expand(len(positions), *self._shape), value)

    def all(self, batch_size: int, view: int = 0) -> Any:
        """All samples in order, batch by batch."""
        return (
            self.batch(np.arange(start, min(start + batch_size, len(self))), view)
            for start in range(0, len(self), batch_size)
        )

    @staticmethod
    def _tokens(row: dict[str, Tensor]) -> bool:
        return "attention_mask" in row and row["value"].ndim == 2 and len(row["value"]) == len(row["attention_mask"])

    def _read(self, view: int, positions: np.ndarray) -> Inputs:
        return next(batches(self._splits[view], self._preprocessing, batch_size=len(positions), indices=positions))[0]

    def _fits(self, budget: float) -> bool:
        first = self._arrays(0, np.arange(min(4, len(self))))
        size = sum(array.nbytes for array in first.values()) / min(4, len(self))
        return size * len(self) * self.views <= budget

    def _arrays(self, view: int, positions: np.ndarray) -> dict[str, np.ndarray]:
        pieces: list[dict[str, Tensor]] = []
        for start in range(0, len(positions), self._batch_size):
            inputs = _moved(self._read(view, positions[start : start + self._batch_size]), self._device)
            piece = dict(inputs) if isinstance(inputs, dict) else {"inputs": inputs}
            if self._compute is not None:
                piece["value"] = self._compute(inputs)
                if isinstance(inputs, Tensor):
                    self._shape = tuple(inputs.shape[1:])
                    del piece["inputs"]
            pieces.append({name: tensor.cpu() for name, tensor in piece.items()})
        longest = max((piece["attention_mask"].shape[1] for piece in pieces if "attention_mask" in piece), default=0)
        return {name: torch.cat([_padded(piece[name], longest) for piece in pieces]).numpy() for name in pieces[0]}

    def _write(self, folder: Path, processes: Processes, progress: Callable[[int, int], None] | None) -> None:
        pieces = [(view, start) for view in range(self.views) for start in range(0, len(self), SHARD)]
        for index in processes.share(len(pieces)):
            view, start = pieces[index]
            path = _shard(folder, view, start)
            if not _sound(path):
                save_tensors(path, self._arrays(view, np.arange(start, min(start + SHARD, len(self)))))
            if progress is not None:
                progress(view * len(self) + min(start + SHARD, len(self)), self.views * len(self))
        processes.gather(None)

    def _open(self, folder: Path, view: int) -> list[dict[str, Tensor]]:
        shards: list[dict[str, Tensor]] = []
        for start in range(0, len(self), SHARD):
            path = _shard(folder, view, start)
            self.bytes += path.stat().st_size
            with safe_open(path, framework="pt") as file:
                shards.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        return shards


def _shard(folder: Path, view: int, start: int) -> Path:
    return folder / f"view{view}-{start:09d}.safetensors"


def _sound(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        load_tensors(path)
    except InputError:
        return False
    return True


def _moved(inputs: Inputs | dict[str, Tensor], device: torch.device) -> Inputs:
    return (
        {name: tensor.to(device) for name, tensor in inputs.items()} if isinstance(inputs, dict) else inputs.to(device)
    )


def _padded(tensor: Tensor, longest: int) -> Tensor:
    """Tokens of a batch filled up to a length; other tensors as they are."""
    if longest == 0 or tensor.ndim < 2 or tensor.shape[1] >= longest:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(len(tensor), longest - tensor.shape[1], *tensor.shape[2:])], dim=1)


def _stacked(rows: list[Tensor], longest: int, tokens: bool) -> Tensor:
    """Rows of different lengths, cut or filled up to the longest sequence among them."""
    if longest and tokens:
        rows = [row[:longest] for row in rows]
        rows = [
            torch.cat([row, row.new_zeros(longest - len(row), *row.shape[1:])]) if len(row) < longest else row
            for row in rows
        ]
    return torch.stack(rows)


def _augmented(split: Split, seed: int) -> Split:
    """The same images, each cropped (60 to 100 % of its area) and flipped at random, always in the same way for one seed."""

    def read(index: int) -> Image.Image:
        image: Image.Image = split.load(index)
        generator = np.random.default_rng(child_seed(seed, index))
        side = np.sqrt(generator.uniform(0.6, 1.0))
        width, height = (max(1, round(length * side)) for length in image.size)
        left, top = int(generator.integers(image.width - width + 1)), int(generator.integers(image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else image

    return replace(split, read=read)


def example_inputs(
    split: Split, preprocessing: Preprocessing, device: torch.device | str = "cpu", samples: int = 3
) -> Inputs:
    """A small batch, from which shapes are read; one sample is repeated where there are too few."""
    positions = np.arange(samples) % len(split)
    inputs = next(batches(split, preprocessing, batch_size=samples, indices=positions))[0]
    assert samples_in(inputs) == samples
    return _moved(inputs, torch.device(device))
