"""What a training loop reads: the outputs of the frozen prefix (or the inputs), computed once and kept memory-mapped on disk."""

import contextlib
import copy
import errno
import functools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._files import disk_full
from lowdim._preprocessing import Preprocessing
from lowdim._processes import Processes
from lowdim.data import Split
from lowdim.data._batches import by_length
from lowdim.features import (
    SCORES,
    FeatureCache,
    Forward,
    Key,
    Rows,
    Shelf,
    SplitSource,
    content_digest,
    moved,
    samples_named,
    with_views,
)
from lowdim.finetuning._prefix import Inputs, samples_in
from lowdim.finetuning._tuned import TunedModel, in_float32
from lowdim.models import Feature

Compute = Callable[[Inputs], dict[str, Tensor]]
"""Tensors with one row per sample, by ``layer|pool``; the first is what training starts from."""
SHARD = 256
"""Samples per file: what a kill can lose."""
INPUTS = "inputs"
VALUE = ":value"
"""What is stored for a sample, among its tokens."""


@dataclass(frozen=True)
class Batch:
    """Inputs of some samples, and the stored value where there is one."""

    inputs: Inputs
    value: Tensor | None

    def features(self, model: TunedModel) -> Tensor:
        """What the head of a model sees, texts of like length together."""
        if not isinstance(self.inputs, dict):
            return model.features(self.inputs, self.value)
        value = {} if self.value is None else {VALUE: self.value}
        return by_length(partial(_features, model), {**self.inputs, **value})[VALUE]


def _features(model: TunedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {name: tensor for name, tensor in inputs.items() if name != VALUE}
    return {VALUE: model.features(named, inputs.get(VALUE))}


@contextlib.contextmanager
def room_in(cache: FeatureCache) -> Generator[None]:
    """Says which folder had no room, where the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(error, cache.folder) from error
        raise


class Store:
    """Training samples as the trained part of a network wants them.

    `compute` is the frozen part, applied once per sample and view; None stores the inputs. `names` says what it is asked for, the
    value first, and `network` what decides its results (`lowdim.features.network_content`). Where that does not fit into the
    cache's budget, every batch is read and computed when asked for. Random crops and flips per image beside the plain one are
    ``views - 1``. Each process computes its share of the files, and all read all of them.

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
        cache: FeatureCache,
        names: Sequence[str] = (INPUTS,),
        network: Sequence[str] = (),
        views: int = 1,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        seed: int = 0,
        processes: Processes | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        started = time.monotonic()
        self.labels, self.views = split.labels, views
        tokenizer = preprocessing.tokenizer
        # Classifiers of decoders find the last token by what fills up the text, on the right.
        self._fill_ids = {"input_ids": getattr(tokenizer, "pad_token_id", None) or 0}
        self._storable = getattr(tokenizer, "padding_side", "right") == "right"
        self._source = SplitSource(with_views(split, views, seed), preprocessing)
        self._compute, self._value = compute, names[0]
        self._batch_size, self._device = batch_size, torch.device(device)
        self._shape: tuple[int, ...] = ()
        content = content_digest(network, self._source)
        self._shelf = Shelf(cache, content, names, views * len(self), self._rows, held=True)
        with room_in(cache):
            self.stored = self._fill(processes or Processes(), progress)
        self.bytes = self._shelf.bytes if self.stored else 0
        self.seconds = time.monotonic() - started

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Sequence[int] | np.ndarray, view: int = 0) -> Batch:
        """The samples at these positions of the split, in one of the views; 0 is the plain one."""
        positions = np.asarray(positions) + view * len(self)
        if not self.stored:
            inputs = self._read(positions)
            return Batch(inputs, None if self._compute is None else self._compute(inputs)[self._value])
        rows = [self._shelf.sample(int(position)) for position in positions]
        longest = max((int(row["attention_mask"].sum()) for row in rows if "attention_mask" in row), default=0)
        arrays: dict[str, Tensor] = {}
        for name in rows[0].keys() - {SCORES}:
            tokens = name != self._value or self._tokens(rows[0])
            fill = self._fill_ids.get(name, 0)
            arrays[name] = _stacked([row[name] for row in rows], longest, tokens, fill).to(self._device)
        value = None if self._compute is None else arrays.pop(self._value)
        if value is None or "attention_mask" in arrays:
            return Batch(arrays.get(INPUTS, arrays), value)
        # The image itself is not needed any more, only how many there are and how large.
        return Batch(torch.zeros(1, device=self._device).expand(len(positions), *self._shape), value)

    def _tokens(self, row: dict[str, Tensor]) -> bool:
        """Whether the value has a row per token."""
        value, mask = row[self._value], row.get("attention_mask")
        return mask is not None and value.ndim == 2 and len(value) == len(mask)

    def _read(self, positions: np.ndarray) -> Inputs:
        return moved(self._source.inputs(positions), self._device)

    def _rows(self, start: int, stop: int) -> Rows:
        pieces: list[dict[str, Tensor]] = []
        for first in range(start, stop, self._batch_size):
            last = min(first + self._batch_size, stop)
            inputs = self._read(np.arange(first, last))
            tokens = dict(inputs) if isinstance(inputs, dict) else {}
            plain = {} if isinstance(inputs, dict) else {INPUTS: inputs}
            with samples_named(first, last):
                piece = (plain if self._compute is None else by_length(self._compute, inputs)) | tokens
            pieces.append({name: tensor.cpu() for name, tensor in piece.items()})
        longest = max((piece["attention_mask"].shape[1] for piece in pieces if "attention_mask" in piece), default=0)
        joined: dict[str, Tensor] = {}
        for name, first in pieces[0].items():
            # A value with one row per token has three dimensions; one of two is as wide as the feature.
            wide = longest if first.ndim > 2 or name not in (self._value, SCORES) else 0
            joined[name] = torch.cat([_padded(piece[name], wide, self._fill_ids.get(name, 0)) for piece in pieces])
        return Rows.of(joined)

    def _fill(self, processes: Processes, progress: Callable[[int, int], None] | None) -> bool:
        """Computes this process's share of what is missing; whether everything is there at the end."""
        if not self._storable:
            return False
        few, total = min(4, len(self)), self.views * len(self)
        first = self._read(np.arange(min(1, few)))
        self._shape = () if isinstance(first, dict) else tuple(first.shape[1:])
        if self._shelf.found(0, few) is None and not self._shelf.reserve(self._rows(0, few), few):
            return False
        starts = range(0, total, SHARD)
        for index in processes.share(len(starts)):
            stop = min(starts[index] + SHARD, total)
            self._shelf.rows(starts[index], stop)
            if progress is not None:
                progress(stop, total)
        processes.gather(None)
        self._shelf.refresh()
        for start in starts:
            self._shelf.rows(start, min(start + SHARD, total))
        return self._shelf.complete


@dataclass(frozen=True)
class HeldStore:
    """What a head sees of every sample, at hand: as `Store`, where the base stays as it is."""

    labels: np.ndarray
    rows: Tensor
    bytes: int
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, positions: Sequence[int] | np.ndarray) -> Batch:
        """The rows of the samples at these positions."""
        rows = self.rows[torch.as_tensor(np.asarray(positions))]
        return Batch(rows, rows)


class HeadInput:
    """A network's feature, under the name that `rank` keeps it by; perhaps with other layers beside it."""

    def __init__(self, module: nn.Module, feature: Feature, device: torch.device, beside: Sequence[Key] = ()) -> None:
        self._module, self._feature, self._device = module, feature, device
        self._keys = [feature.key, *beside]
        self.name = "|".join(feature.key)

    @functools.cached_property
    def forward(self) -> Forward:
        """The passes of a copy of the network in one memory layout: outputs differ in the last bits between them."""
        module = in_float32(copy.deepcopy(self._module)).to(self._device).to(memory_format=torch.contiguous_format)
        return Forward(module.eval(), self._keys, self._device, self._feature.layout)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Values and scores by name."""
        return self.forward(inputs)

    def layers_of(self, features: Mapping[Key, Tensor]) -> list[np.ndarray]:
        """The feature, then the layers beside it in order."""
        return [features[key].numpy() for key in self._keys]


def _padded(tensor: Tensor, longest: int, fill: int) -> Tensor:
    """Tokens of a batch filled up to a length; other tensors as they are."""
    if longest == 0 or tensor.ndim < 2 or tensor.shape[1] >= longest:
        return tensor
    return torch.cat(
        [tensor, tensor.new_full((len(tensor), longest - tensor.shape[1], *tensor.shape[2:]), fill)], dim=1
    )


def _stacked(rows: list[Tensor], longest: int, tokens: bool, fill: int) -> Tensor:
    """Rows of different lengths, cut or filled up to the longest sequence among them."""
    if longest and tokens:
        rows = [_padded(row[None, :longest], longest, fill)[0] for row in rows]
    return torch.stack(rows)


def example_inputs(
    split: Split, preprocessing: Preprocessing, device: torch.device | str = "cpu", samples: int = 3
) -> Inputs:
    """A small batch, from which shapes are read; one sample is repeated where there are too few."""
    inputs = SplitSource(split, preprocessing).inputs(np.arange(samples) % len(split))
    assert samples_in(inputs) == samples
    return moved(inputs, torch.device(device))
