"""A stream of features that can be run through several times: computed once, then replayed from disk within a budget."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._files import load_tensors, save_tensors
from lowdim._processes import Processes
from lowdim.errors import InputError
from lowdim.features import Pool, recording, run_forward

Key: TypeAlias = tuple[str, Pool]
Progress: TypeAlias = Callable[[int, int], None]


@runtime_checkable
class Source(Protocol):
    """Where inputs come from: the labels of all samples, and the inputs of any of them."""

    labels: np.ndarray

    def inputs(self, positions: np.ndarray) -> Any:
        """A tensor, or a dictionary of tensors, for these samples."""
        ...


@dataclass(frozen=True)
class Batch:
    """Features of some samples, by layer and pooling; the type they had in the network; its scores if there is a row per sample."""

    positions: np.ndarray
    labels: Tensor
    features: dict[Key, Tensor]
    dtypes: dict[Key, str]
    scores: Tensor | None


class FeatureStream:
    """Batches of features of one split, in the same order at every pass.

    The first pass computes them and keeps them on disk if all of them fit into the budget; later passes replay them, or compute
    them again. A batch belongs to one process. What a killed run left is used.

    Args:
        module: The network.
        source: Labels and inputs.
        layers: Layer names.
        pools: Reductions.
        batch_size: Samples per forward pass.
        device: Where the network runs.
        folder: Where features are kept.
        budget: Bytes to keep for all samples together.
        processes: Which batches are this process's.
    """

    def __init__(
        self,
        module: nn.Module,
        source: Source,
        layers: Sequence[str],
        pools: Sequence[Pool],
        *,
        batch_size: int,
        device: torch.device,
        folder: Path,
        budget: float,
        processes: Processes,
    ) -> None:
        self.module, self.source, self.layers, self.pools = module, source, layers, pools
        self.batch_size, self.device, self.folder, self.budget = batch_size, device, folder, budget
        self.mine = processes.share(-(-len(source.labels) // batch_size))

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.mine:
            positions = np.arange(batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.source.labels)))
            labels = torch.from_numpy(self.source.labels[positions])
            file = self.folder / f"{batch:06d}.safetensors"
            yield Batch(positions, labels, *(_load(file) if file.exists() else self._compute(file, positions)))

    def _compute(self, file: Path, positions: np.ndarray) -> tuple[dict[Key, Tensor], dict[Key, str], Tensor | None]:
        inputs = self.source.inputs(positions)
        with recording(self.module, self.layers, pools=self.pools) as recorder:
            if isinstance(inputs, dict) and "attention_mask" in inputs:
                recorder.mask = inputs["attention_mask"].to(self.device)
            output = run_forward(self.module, inputs, self.device)
            caught = recorder.take()
        dtypes = {key: str(tensor.dtype).removeprefix("torch.") for key, tensor in caught.items()}
        features = {key: _storable(tensor) for key, tensor in caught.items()}
        for (layer, _), tensor in features.items():
            if len(tensor) != len(positions):
                raise InputError(
                    f"The layer {layer} gives {len(tensor)} rows for {len(positions)} samples; "
                    "only layers with one row per sample can be measured."
                )
        scores = (
            _storable(output) if output is not None and output.ndim == 2 and len(output) == len(positions) else None
        )
        per_sample = sum(tensor[0].nbytes for tensor in features.values())
        if per_sample * len(self.source.labels) <= self.budget:
            arrays = {"|".join(key): tensor.numpy() for key, tensor in features.items()}
            # The file sorts its tensors by name; the order of computation is kept beside them.
            order = {"|".join(key): dtype for key, dtype in dtypes.items()}
            scored = {} if scores is None else {"scores": scores.numpy()}
            save_tensors(file, arrays | scored, {"dtypes": json.dumps(order)})
        return features, dtypes, scores


def _load(file: Path) -> tuple[dict[Key, Tensor], dict[Key, str], Tensor | None]:
    arrays, metadata = load_tensors(file)
    dtypes: dict[str, str] = json.loads(metadata["dtypes"])
    scores = arrays.get("scores")
    return (
        {_key(name): torch.from_numpy(arrays[name]) for name in dtypes},
        {_key(name): dtype for name, dtype in dtypes.items()},
        None if scores is None else torch.from_numpy(scores),
    )


def _key(name: str) -> Key:
    layer, pool = name.rsplit("|", 1)
    return layer, pool  # pyright: ignore[reportReturnType] - written by _keep


def _storable(tensor: Tensor) -> Tensor:
    """On the CPU, in a type that NumPy has: float32 holds float16 and bfloat16 exactly."""
    return (tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()).cpu()
