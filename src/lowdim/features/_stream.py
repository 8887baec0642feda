"""A stream of features that can be run through several times: computed once, then replayed from the cache."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim._files import json_digest
from lowdim._processes import Processes
from lowdim.data._batches import Inputs, by_length
from lowdim.errors import InputError
from lowdim.features._cache import FeatureCache
from lowdim.features._pooling import USUAL, Layout, Pool, tame
from lowdim.features._recorder import recording, run_forward, samples_named
from lowdim.features._room import require_room
from lowdim.features._shelf import Rows, Shelf
from lowdim.features._source import Source

Key: TypeAlias = tuple[str, Pool]
SCORES = "scores"
LARGEST = 2.0**200
"""Numbers up to it, and down to its inverse, have squares of squares in float64."""


def usable(features: Tensor) -> Tensor:
    """Of the rows, which ones hold neither NaN nor infinity nor numbers whose squares overflow.

    Example:
        >>> usable(torch.tensor([[1.0, 2.0], [1.0, torch.nan], [-torch.inf, 0.0]])).tolist()
        [True, False, False]
    """
    # In float32 the bound itself would be infinite, and infinity is no larger than that.
    good = torch.isfinite(features)
    return (good & (features.abs() <= LARGEST) if features.dtype == torch.float64 else good).all(dim=1)


def content_digest(network: Sequence[str], source: Source) -> str:
    """Under which a cache keeps the features of a source's samples, whatever the layers and the size of batches."""
    return json_digest([*network, source.digest()])[:16]


@dataclass(frozen=True)
class Forward:
    """Features and scores of a batch of inputs, by ``layer|pool`` and ``"scores"``.

    Scores are the network's output where that is one row per sample.
    """

    module: nn.Module
    keys: Sequence[Key]
    device: torch.device
    layout: Layout = USUAL
    """See `lowdim.models.Feature`."""

    @property
    def names(self) -> list[str]:
        """Of the features asked for."""
        return ["|".join(key) for key in self.keys]

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """The samples without gradients, texts of like length together. Whatever a network makes of NaN or infinity, here it is NaN."""
        return by_length(self._pass, inputs)

    def _pass(self, inputs: Inputs) -> dict[str, Tensor]:
        pools: dict[str, list[Pool]] = {}
        for layer, pool in self.keys:
            pools.setdefault(layer, []).append(pool)
        with torch.no_grad():
            require_room(self.module, inputs)
        with recording(self.module, list(pools), pools=pools) as recorder:
            recorder.layout = self.layout
            if isinstance(inputs, dict) and "attention_mask" in inputs:
                recorder.mask = inputs["attention_mask"].to(self.device)
            output = run_forward(self.module, inputs, self.device)
            caught = recorder.take()
        samples = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
        for (layer, _), tensor in caught.items():
            if len(tensor) != samples:
                raise InputError(
                    f"The layer {layer} gives {len(tensor)} rows for {samples} samples; "
                    "only layers with one row per sample can be measured."
                )
        scored = output is not None and output.ndim == 2 and len(output) == samples
        found = {"|".join(key): tensor for key, tensor in caught.items()}
        if output is not None and scored:
            found[SCORES] = output
        return found if isinstance(inputs, dict) else _without_value(found, inputs)


def _without_value(found: dict[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    bad = ~torch.isfinite(inputs).flatten(1).all(dim=1)
    if bool(bad.any()):
        for name, tensor in found.items():
            rows = bad.to(tensor.device).reshape(-1, *(1,) * (tensor.ndim - 1))
            found[name] = tensor.masked_fill(rows, float("nan")) if tensor.is_floating_point() else tensor
    return found


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some samples, by layer and pooling; the type they had in the network; its scores if there is a row per sample."""

    positions: np.ndarray
    labels: Tensor
    features: dict[Key, Tensor]
    dtypes: dict[Key, str]
    scores: Tensor | None


class FeatureStream:
    """Batches of features of one source, in the same order at every pass; a batch belongs to one process.

    What fits into the cache's budget is computed once, the rest in every pass. `content` comes from `content_digest`, or is any
    name where the cache is no lasting one. Features in float64 whose squares would overflow or vanish are divided by a power of two
    (`exponents`), the same as in the stream that they are compared with (`like`); nothing that is measured depends on it.
    """

    def __init__(
        self,
        forward: Forward,
        source: Source,
        labels: np.ndarray,
        *,
        cache: FeatureCache,
        content: str,
        batch_size: int,
        processes: Processes | None = None,
        like: "FeatureStream | None" = None,
    ) -> None:
        self.forward, self.source, self.labels, self._size = forward, source, labels, batch_size
        self._like = like
        samples = len(labels)
        self.mine = (processes or Processes()).share(-(-samples // batch_size))
        self._shelf = Shelf(cache, content, forward.names, samples, self._compute)

    @cached_property
    def exponents(self) -> dict[Key, int]:
        """By layer and pooling the power of two that features are divided by, where there is one. The first batch decides."""
        if self._like is not None:
            return self._like.exponents
        rows = self._shelf.rows(0, min(self._size, len(self.labels))) if len(self.labels) else Rows({}, {})
        found: dict[Key, int] = {}
        for name, tensor in rows.tensors.items():
            finite = tensor[torch.isfinite(tensor)] if tensor.dtype == torch.float64 and name != SCORES else tensor[:0]
            largest = float(finite.abs().max()) if finite.numel() else 1.0
            if largest > 0 and not 1 / LARGEST <= largest <= LARGEST:
                found[_key(name)] = math.frexp(largest)[1]
        return found

    def __iter__(self) -> Iterator[FeatureBatch]:
        for batch in self.mine:
            positions = np.arange(batch * self._size, min((batch + 1) * self._size, len(self.labels)))
            rows = self._shelf.rows(int(positions[0]), int(positions[-1]) + 1)
            features = {_key(name): _full(tensor) for name, tensor in rows.tensors.items() if name != SCORES}
            for key, exponent in self.exponents.items():
                features[key] = torch.ldexp(features[key], torch.tensor(-exponent))
            yield FeatureBatch(
                positions,
                torch.from_numpy(self.labels[positions]),
                features,
                {key: rows.types["|".join(key)] for key in features},
                _full(rows.tensors[SCORES]) if SCORES in rows.tensors else None,
            )

    def _compute(self, start: int, stop: int) -> Rows:
        inputs = self.source.inputs(np.arange(start, stop))
        with samples_named(start, stop):
            return Rows.of(self.forward(inputs))


def collected(stream: FeatureStream, positions: np.ndarray | None = None) -> dict[Key, Float[Tensor, "n _d"]]:
    """All features of a stream, or of its samples at some positions, by layer and pooling in the order in which they were asked for."""
    parts: dict[Key, list[Tensor]] = {}
    for batch in stream:
        taken = slice(None) if positions is None else torch.from_numpy(np.isin(batch.positions, positions))
        for key, rows in batch.features.items():
            parts.setdefault(key, []).append(rows[taken])
    return {key: torch.cat(parts[key]) for key in dict.fromkeys(stream.forward.keys) if key in parts}


def tamed_layers(stream: FeatureStream, positions: np.ndarray | None = None) -> dict[Key, Float[Tensor, "n _d"]]:
    """The same, each layer tamed."""
    return {key: tame(rows) for key, rows in collected(stream, positions).items()}


def _key(name: str) -> Key:
    layer, _, pool = name.rpartition("|")
    return layer, cast(Any, pool)


def _full(tensor: Tensor) -> Tensor:
    """Half precision as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
