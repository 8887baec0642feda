"""The profile of a network where what is to be predicted are numbers: every chosen layer, on train and test data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim._job import CACHE_BUDGET, Job
from lowdim._processes import Processes
from lowdim._random import child_seed
from lowdim.data import Dataset, as_dataset
from lowdim.data._copies import copy_warnings
from lowdim.data._finite import some
from lowdim.errors import LowdimError, NonFiniteError
from lowdim.features import (
    FeatureStream,
    Key,
    Pool,
    usable,
)
from lowdim.metrics import HeldOut, features_rank, heldout_ridge, regression_collapse, root_law
from lowdim.models import OUTPUT, Feature, LoadedModel, as_model
from lowdim.profiling._builder import as_measured, linear_head
from lowdim.profiling._passes import thinned
from lowdim.profiling._profile import Counter, keys_of, staged

SAMPLES = 10_000
SAMPLE_BYTES = 1e9
"""At most so many samples of a split, and so many bytes over its layers, are measured: memory does not grow with the data."""


@dataclass(frozen=True)
class RegressionLayer:
    """One layer on one split.

    Attributes:
        name: Layer name.
        index: Position among the measured layers, from 0.
        split: ``"train"`` or ``"test"``.
        width: Feature dimension after pooling.
        pool: How the layer's output was reduced.
        r2: Held-out R^2 of a ridge on it, see `lowdim.metrics.heldout_ridge`: on the train split by cross-validation, on the test
            split of a ridge fitted to the train split. None where it has no value, and a warning says why.
        r2_interval: 90 % interval under resampling of the samples.
        r2_by_output: The same R^2 of each output.
        outside, unexplained: See `lowdim.metrics.RegressionCollapse`.
        target_rank: m of those.
        effective_rank: Of the centred features.
        samples: Samples used.
        dtype: Type of the features.
    """

    name: str
    index: int
    split: str
    width: int
    pool: str
    r2: float | None
    r2_interval: list[float] | None
    r2_by_output: list[float] | None
    outside: float | None
    unexplained: float | None
    target_rank: int | None
    effective_rank: float | None
    samples: int
    dtype: str


@dataclass(frozen=True)
class RegressionProfile:
    """How low-dimensional features are under numbers to be predicted, and how much of these is linear in them, layer by layer.

    Attributes:
        feature: What the network's feature is: ``layer``, ``pool``, ``width`` and ``why``.
        outputs: What is to be predicted.
        data: Per split: samples, and mean and standard deviation of each output.
        own_r2: Of the network's own outputs, per split, where it has as many.
        layers: One entry per layer, pooling and split, in order of computation.
        head: Of a linear last layer, per split: ``outside_rows``, the share of the features' variance that it does not see, and
            ``root_law``, see `lowdim.metrics.root_law`.
        warnings: What a reader must know.
    """

    feature: Mapping[str, Any]
    outputs: Sequence[str]
    data: Sequence[Mapping[str, Any]]
    own_r2: Mapping[str, float]
    layers: Sequence[RegressionLayer]
    head: Mapping[str, Mapping[str, float | None]]
    warnings: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Rows:
    """What is measured of one split."""

    positions: np.ndarray
    features: Mapping[Key, Tensor]
    types: Mapping[Key, str]
    outputs: Tensor | None
    targets: Float[np.ndarray, "n m"]
    copies: np.ndarray


def regression_profile(
    model: nn.Module | LoadedModel | str,
    data: Any,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[Pool] | None = None,
    feature: str | None = None,
    splits: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    folder: Path | None = None,
    cache: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    processes: Processes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RegressionProfile:
    """Measures at every chosen layer how much of the numbers to be predicted is linear in it, and how low-dimensional it is.

    Runs the network over the data once; at most `SAMPLES` samples of each split are measured.

    Args:
        model: As in `profile`.
        data: A data set with numbers to be predicted (`lowdim.data.load_data` with ``task="regression"``), or what
            `lowdim.data.as_dataset` makes one of.
        layers: As in `profile`.
        pools: As in `profile`.
        feature: As in `profile`.
        splits: Which splits; default all.
        batch_size: As in `profile`.
        device: As in `profile`.
        seed: Of the subsample and the folds.
        folder: As in `profile`.
        cache: As in `profile`.
        cache_budget: As in `profile`.
        processes: As in `profile`.
        progress: As in `profile`.

    Returns:
        The profile. Samples with NaN, infinite or overflowing features in one layer are left out of all and named in the warnings.

    Raises:
        InputError: If the labels are no numbers, or a layer has no row per sample.
        NonFiniteError: If no sample of a split has finite features.
        UsageError: If a layer does not exist.

    References:
        Andriopoulos et al. (2024), arXiv:2409.04180; Rangamani and Unal (2026), arXiv:2603.23805.

    Example:
        >>> inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
        >>> found = regression_profile(network, (inputs, inputs[:, 0] - inputs[:, 1]), splits=["test"])
        >>> [(layer.name, round(layer.r2, 3)) for layer in found.layers]
        [('0', 1.0), ('1:input', 1.0)]
    """
    data = as_dataset(data, task="regression")
    model = model if isinstance(model, nn.Module | LoadedModel) else as_model(model, kind=data.kind)
    stage = staged(
        model, data, splits, feature, batch_size, device, seed, folder, cache, cache_budget, processes, progress
    )
    warned = [message for source in stage.sources.values() for message in source.warnings()]
    warned += copy_warnings(data, list(stage.sources))
    with stage.open() as features:
        keys = keys_of(stage.module, layers, pools, stage.feature)
        labels = {name: source.labels for name, source in stage.sources.items()}
        streams = stage.streams(keys, labels, features)
        step = Counter(sum(len(stream.mine) for stream in streams.values()), stage.job.reporter("measuring"))
        rows = {name: _collected(stream, data, name, stage.job, step, warned) for name, stream in streams.items()}
    return _told(stage.module, stage.feature, data, rows, seed, warned)


def _collected(
    stream: FeatureStream, data: Dataset, name: str, job: Job, step: Callable[[int], None], warned: list[str]
) -> _Rows:
    """The features of the samples that are measured: the same ones at every layer."""
    split = data[name]
    generator = np.random.default_rng(child_seed(job.seed, "subsample", name))
    chosen = np.sort(generator.permutation(len(split))[:SAMPLES])
    parts: list[tuple[np.ndarray, dict[Key, Tensor], Tensor | None]] = []
    types: Mapping[Key, str] = {}
    excluded: list[int] = []
    for batch in stream:
        width = sum(tensor.shape[1] for tensor in batch.features.values())
        few = chosen if len(chosen) * width * 4 <= SAMPLE_BYTES else thinned(chosen, int(SAMPLE_BYTES / (4 * width)))
        good = torch.stack([usable(tensor) for tensor in batch.features.values()]).all(dim=0).numpy()
        excluded += batch.positions[~good].tolist()
        kept = torch.from_numpy(np.flatnonzero(good & np.isin(batch.positions, few)))
        scores = None if batch.scores is None else batch.scores[kept]
        parts.append((batch.positions[kept.numpy()], {key: rows[kept] for key, rows in batch.features.items()}, scores))
        types = batch.dtypes
        step(1)
    gathered = [part for process in job.processes.gather(parts) for part in process]
    types = next((found for found in job.processes.gather(types) if found), types)
    excluded = sorted(position for process in job.processes.gather(excluded) for position in process)
    positions = np.concatenate([where for where, _, _ in gathered])
    if not len(positions):
        raise NonFiniteError(f"No sample of the {name} split has finite features at every layer.")
    if excluded:
        warned.append(
            f"{name}: {len(excluded)} of {len(split)} samples have NaN, infinite or overflowing features and are left out: {some(split.items, excluded)}."
        )
    if len(positions) + len(excluded) < len(split):
        warned.append(f"{name}: {len(positions):,} of {len(split):,} samples are measured.")
    order = np.argsort(positions)
    place = torch.from_numpy(order)
    outputs = [scores for _, _, scores in gathered]
    assert split.targets is not None
    return _Rows(
        positions[order],
        {key: torch.cat([rows[key] for _, rows, _ in gathered])[place] for key in gathered[0][1]},
        types,
        None if any(scores is None for scores in outputs) else torch.cat(outputs)[place],  # pyright: ignore[reportArgumentType]
        split.targets[positions[order]],
        split.copies[positions[order]],
    )


def _told(
    module: nn.Module, feature: Feature, data: Dataset, rows: Mapping[str, _Rows], seed: int, warned: list[str]
) -> RegressionProfile:
    """The numbers of every split."""
    linear = linear_head(module, feature)
    fits = linear is not None and linear.weight.shape[0] == len(data.outputs)
    weight = linear.weight.detach().cpu().flatten(1) if linear is not None and fits else None
    counts, own_r2 = list[dict[str, Any]](), dict[str, float]()
    layers, head = list[RegressionLayer](), dict[str, dict[str, float | None]]()

    def attempt(what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except LowdimError as error:
            warned.append(f"{what}: {error}")
            return None

    for split, part in rows.items():
        goal = torch.from_numpy(part.targets)
        means, deviations = part.targets.mean(axis=0).tolist(), part.targets.std(axis=0).tolist()
        counts.append({"split": split, "samples": len(part.targets), "mean": means, "deviation": deviations})
        if part.outputs is not None and part.outputs.shape == goal.shape:
            errors = (part.outputs.double() - goal).square().mean(dim=0)
            shares = 1 - errors / goal.var(dim=0, correction=0)
            if bool(torch.isfinite(shares).all()):
                own_r2[split] = float(shares.mean())
        order = {layer: index for index, layer in enumerate(dict.fromkeys(layer for layer, _ in part.features))}
        for key, hidden in part.features.items():
            what = f"{split}, {key[0] or OUTPUT} ({key[1]})"
            seen = rows.get("train") if split == "test" else None
            fitted, others = (part, None) if seen is None else (seen, part)
            held: HeldOut | None = attempt(
                what,
                lambda key=key, fitted=fitted, others=others: heldout_ridge(
                    fitted.features[key].numpy(),
                    fitted.targets,
                    others and (others.features[key].numpy(), others.targets),
                    copies=fitted.copies,
                    test_copies=others and others.copies,
                    seed=child_seed(seed, "folds"),
                ),
            )
            collapse = attempt(what, lambda hidden=hidden, goal=goal: regression_collapse(hidden, goal))
            layers.append(
                RegressionLayer(
                    name=key[0] or OUTPUT,
                    index=order[key[0]],
                    split=split,
                    width=hidden.shape[1],
                    pool=key[1],
                    r2=held and held.r2,
                    r2_interval=held and list(held.interval),
                    r2_by_output=held and held.by_output,
                    outside=collapse and collapse.outside,
                    unexplained=collapse and collapse.unexplained,
                    target_rank=collapse and collapse.rank,
                    effective_rank=attempt(what, lambda hidden=hidden: features_rank(hidden)),
                    samples=len(hidden),
                    dtype=part.types[key],
                )
            )
        if weight is not None and feature.key in part.features:
            hidden = part.features[feature.key]
            seen_by = attempt(
                f"{split}, head", lambda hidden=hidden, goal=goal: regression_collapse(hidden, goal, weight)
            )
            law = attempt(f"{split}, head", lambda goal=goal: root_law(weight, goal))
            head[split] = {"outside_rows": seen_by and seen_by.outside_rows, "root_law": law}
    said = as_measured(feature, layers)
    return RegressionProfile(said, data.outputs, counts, own_r2, layers, head, list(dict.fromkeys(warned)))
