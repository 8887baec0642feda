"""Turns the sums of the passes into the numbers of a profile, split after split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._linalg import effective_rank
from lowdim._random import child_seed
from lowdim.errors import LowdimError
from lowdim.features import Pool
from lowdim.metrics import (
    cdnv,
    chance_variability,
    class_distances,
    discrimination,
    heldout_variability,
    self_duality,
    separation,
    simplex_distance,
    variability,
)
from lowdim.models import INPUT
from lowdim.profiling._passes import Around, Head, Moments, Reference, Suspects
from lowdim.profiling._result import ClassMeasure, Law, LayerMeasure, Outlier, Profile
from lowdim.profiling._stream import Key
from lowdim.statistics import Weighting, centred_rows


@dataclass(frozen=True)
class Recipe:
    """How to measure: what `profile` was asked for, with names resolved."""

    layers: Sequence[str]
    head: str | None
    pools: Sequence[Pool]
    batch_size: int
    device: torch.device
    weighting: Weighting
    unbiased: bool
    outliers: int
    seed: int
    budget: float


@dataclass(frozen=True)
class Measured:
    """All sums of one split."""

    split: str
    labels: np.ndarray
    present: np.ndarray
    moments: Mapping[Key, Moments]
    around: Mapping[Key, Around]
    head: Head
    suspects: Suspects
    items: Sequence[str] | None


class Builder:
    """Turns the sums of the passes into a `Profile`, split after split."""

    def __init__(
        self, module: nn.Module, names: tuple[str, ...], known: tuple[str, ...] | None, recipe: Recipe
    ) -> None:
        self.module, self.names, self.recipe = module, names, recipe
        self.scored = self._scored(known)
        self.references: dict[Key, Reference] = {}
        self.data: list[dict[str, Any]] = []
        self.accuracy: dict[str, float] = {}
        self.layers: list[LayerMeasure] = []
        self.head: dict[str, dict[str, float | None]] = {}
        self.law: dict[str, Law] = {}
        self.classes: list[ClassMeasure] = []
        self.outliers: list[Outlier] = []
        self.warnings: list[str] = []

    def _scored(self, known: tuple[str, ...] | None) -> int:
        """Number of outputs of a head that is for these very classes; 0 where it is for others."""
        head = self.module.get_submodule(self.recipe.head) if self.recipe.head else None
        if not isinstance(head, nn.Linear) or head.out_features != len(self.names):
            return 0
        return len(self.names) if known is None or known == self.names else 0

    def head_key(self, moments: Mapping[Key, Moments]) -> Key | None:
        wanted = f"{self.recipe.head}{INPUT}"
        return next((key for key in moments if key[0] == wanted), None)

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def add(self, measured: Measured) -> None:
        """The numbers of one split."""
        split, labels = measured.split, measured.labels
        names = [self.names[index] for index in measured.present]
        counts = np.bincount(labels)
        self.data.append(
            {
                "split": split,
                "samples": len(labels),
                "classes": len(names),
                "per_class_min": int(counts.min()),
                "per_class_max": int(counts.max()),
            }
        )
        absent = [name for name in self.names if name not in names]
        if absent:
            self.warn(f"{split}: classes without a sample are left out: {', '.join(map(repr, absent))}.")
        single = [name for name, count in zip(names, counts, strict=True) if count == 1]
        if single:
            self.warn(f"{split}: classes with one sample have no within-class scatter: {', '.join(map(repr, single))}.")
        order = {layer: index for index, layer in enumerate(dict.fromkeys(layer for layer, _ in measured.moments))}
        for key in measured.moments:
            self._layer(measured, order[key[0]], key)
        if measured.head.samples:
            self.accuracy[split] = measured.head.correct / measured.head.samples
        self._head(measured)
        self._law(split)
        self._classes(measured, names)
        found = [
            Outlier(
                item=str(position) if measured.items is None else measured.items[position],
                split=split,
                position=position,
                class_=names[int(labels[position])],
                nearest_class=names[nearest],
                excess=excess,
            )
            for excess, position, nearest in measured.suspects.found
        ]
        self.outliers = sorted([*self.outliers, *found], key=lambda outlier: -outlier.excess)[: self.recipe.outliers]

    def _try(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except LowdimError as error:
            self.warn(f"{what}: {error}")
            return None

    def _layer(self, measured: Measured, index: int, key: Key) -> None:
        split, (layer, pool) = measured.split, key
        moments, around = measured.moments[key], measured.around[key]
        what = f"{split}, {layer} ({pool})"
        if moments.excluded:
            samples = len(measured.labels)
            self.warn(
                f"{what}: {moments.excluded} of {samples} samples have NaN or infinite features and are left out."
            )
        every, recipe = moments.all(), self.recipe
        kept = sorted(moments.sample)
        sample = torch.stack([moments.sample[position] for position in kept]) if kept else torch.zeros(0, every.width)
        sample_labels = torch.from_numpy(measured.labels[kept])
        weights: dict[str, Any] = {"weighting": recipe.weighting, "unbiased": recipe.unbiased}
        found = None
        if around.own is None:
            self._try(what, lambda: variability(every, **weights))
        else:
            found = self._try(what, lambda: variability(every, around.own, **weights))
            if split == "train":
                self.references[key] = Reference(around.own.span, torch.from_numpy(measured.present))
        distance = self._try(what, lambda: simplex_distance(every))
        pairs = self._try(what, lambda: cdnv(every))
        spread = self._try(what, lambda: separation(every, **weights))
        if found is not None and found.rank < min(every.width, every.classes - 1):
            self.warn(
                f"{what}: the class means span {found.rank} of {min(every.width, every.classes - 1)} possible directions; what "
                "lies in the others is rounding. Features that are constant or repeated do this, and so does one huge sample."
            )
        if found is not None and found.noise_share > 0.5:
            self.warn(
                f"{what}: {found.noise_share:.0%} of NC1 lies in directions where the class means differ by no more than "
                "sampling noise; more samples per class would change the value."
            )
        self.layers.append(
            LayerMeasure(
                name=layer,
                index=index,
                split=split,
                width=every.width,
                pool=pool,
                spectrum=[] if around.own is None else _shares(around.own.span.eigenvalues),
                nc1=None if found is None else found.value,
                nc1_chance=self._chance(what, sample, sample_labels, every.samples),
                nc1_heldout=self._heldout(what, moments, around),
                separation=None if spread is None else spread.value,
                ncc_accuracy=None if int(around.total.sum()) == 0 else int(around.hits.sum()) / int(around.total.sum()),
                cdnv=self._mean_cdnv(what, pairs),
                nc2=None if distance is None else vars(distance),
                discrimination=self._try(what, lambda: discrimination(every)),
                effective_rank=_effective_rank(sample),
                rank=None if found is None else found.rank,
                cutoff=None if found is None else found.cutoff,
                condition=None if found is None else found.condition,
                noise_share=None if found is None else found.noise_share,
                weighting=self.recipe.weighting,
                unbiased=self.recipe.unbiased,
                min_per_class=int(every.counts.min()),
                max_per_class=int(every.counts.max()),
                samples=every.samples,
                chance_samples=len(kept),
                dtype=moments.dtype,
            )
        )

    def _mean_cdnv(self, what: str, pairs: Tensor | None) -> float | None:
        if pairs is None:
            return None
        value = float(pairs.sum()) / (len(pairs) * (len(pairs) - 1))
        if value < float("inf"):
            return value
        self.warn(f"{what}: the means of two classes coincide, so CDNV has no value.")
        return None

    def _chance(self, what: str, sample: Tensor, labels: Tensor, samples: int) -> float | None:
        generator = torch.Generator().manual_seed(child_seed(self.recipe.seed, "chance"))
        options: dict[str, Any] = {"weighting": self.recipe.weighting, "unbiased": self.recipe.unbiased}
        return self._try(
            f"{what}, chance level",
            lambda: chance_variability(sample, labels, samples=samples, generator=generator, **options),
        )

    def _heldout(self, what: str, moments: Moments, around: Around) -> float | None:
        if not around.crossed:
            self.warn(f"{what}: the held-out NC1 needs two samples of every class and means that differ.")
            return None
        pairs = list(zip(moments.halves, around.crossed, strict=True))
        return self._try(what, lambda: heldout_variability(pairs, weighting=self.recipe.weighting))

    def _head(self, measured: Measured) -> None:
        key = self.head_key(measured.moments)
        if not self.scored or key is None:
            return
        split, head = measured.split, measured.head
        linear = self.module.get_submodule(self.recipe.head or "")
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.detach().cpu()[torch.from_numpy(measured.present)]
        nc3 = self._try(f"{split}, NC3", lambda: self_duality(measured.moments[key].all(), weight))
        self.head[split] = {"nc3": nc3, "nc4": head.disagree / head.compared if head.compared else None}

    def _law(self, split: str) -> None:
        line = [layer for layer in self.layers if layer.split == split and layer.pool == self.recipe.pools[0]]
        law = separation_law([layer.separation for layer in line])
        if law is not None:
            self.law[split] = law

    def _classes(self, measured: Measured, names: Sequence[str]) -> None:
        key = list(measured.moments)[-1]
        every, around = measured.moments[key].all(), measured.around[key]
        if around.own is None:
            return
        split = measured.split
        found = self._try(split, lambda: variability(every, around.own, weighting=self.recipe.weighting))
        pairs = self._try(split, lambda: cdnv(every))
        if pairs is None:
            return
        nearest: list[int] = class_distances(every).fill_diagonal_(float("inf")).argmin(dim=1).tolist()
        rows = [
            ClassMeasure(
                name=name,
                split=split,
                samples=int(every.counts[index]),
                nc1_share=None if found is None else found.class_share[index],
                cdnv=_finite(float(pairs[index, nearest[index]])),
                nearest_class=names[nearest[index]],
                ncc_accuracy=int(around.hits[index]) / int(around.total[index]) if int(around.total[index]) else None,
            )
            for index, name in enumerate(names)
        ]
        self.classes += sorted(rows, key=lambda row: -(row.nc1_share or 0))

    def result(self) -> Profile:
        return Profile(
            data=self.data,
            accuracy=self.accuracy,
            layers=self.layers,
            head=next(iter(self.head.values()), {}),
            head_by_split=self.head,
            law=self.law,
            classes=self.classes,
            outliers=self.outliers,
            warnings=self.warnings,
        )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _shares(eigenvalues: Tensor) -> list[float]:
    return (eigenvalues / eigenvalues.sum()).tolist()


def _effective_rank(sample: Tensor) -> float | None:
    if len(sample) < 2:
        return None
    rows = centred_rows(sample)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram)
    rounding = len(gram) * torch.finfo(gram.dtype).eps * float(values[-1])
    return effective_rank(values[values > rounding].sqrt().numpy())


def separation_law(values: Sequence[float | None]) -> Law | None:
    """Least-squares line of ``log D`` against the layer index; None with fewer than three layers or a missing value.

    Args:
        values: D of each layer, positive, in the order of the layers.

    Example:
        >>> law = separation_law([4.0, 2.0, 1.0])
        >>> round(law.slope, 6), round(law.intercept, 6), round(law.r2, 6)
        (-0.693147, 1.386294, 1.0)
    """
    if len(values) < 3 or any(value is None or not 0 < value < float("inf") for value in values):
        return None
    y = np.log(np.asarray(values, dtype=np.float64))
    x = np.arange(len(y))
    slope, intercept = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    residual = float(((y - slope * x - intercept) ** 2).sum())
    return Law(slope=float(slope), intercept=float(intercept), r2=1 - residual / spread) if spread > 0 else None
