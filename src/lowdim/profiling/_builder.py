"""Turns the sums of the passes into the numbers of a profile, split after split."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._balance import majority_warnings
from lowdim._intervals import independent
from lowdim.data._copies import said_without_copies
from lowdim.data._finite import some
from lowdim.data._labels import are_numbers
from lowdim.errors import LowdimError, NonFiniteError
from lowdim.features import Key, Pool
from lowdim.metrics import METRICS, LayerSums, cdnv, class_distances, self_duality, variability
from lowdim.models import OUTPUT, Feature
from lowdim.profiling._passes import Around, Head, Moments, Reference, Suspects
from lowdim.profiling._result import ClassMeasure, Law, LayerMeasure, Outlier, Profile
from lowdim.statistics import Weighting


@dataclass(frozen=True)
class Recipe:
    """What to measure: what `profile` was asked for, with names resolved."""

    keys: Sequence[Key]
    feature: Feature
    weighting: Weighting
    unbiased: bool
    outliers: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """All sums of one split."""

    split: str
    labels: np.ndarray
    copies: np.ndarray
    present: np.ndarray
    moments: Mapping[Key, Moments]
    around: Mapping[Key, Around]
    head: Head
    suspects: Suspects
    items: Sequence[str] | None
    exponents: Mapping[Key, int]


class Builder:
    """Turns the sums of the passes into a `Profile`, split after split."""

    def __init__(
        self, module: nn.Module, names: tuple[str, ...], known: tuple[str, ...] | None, recipe: Recipe
    ) -> None:
        self.module, self.names, self.recipe = module, names, recipe
        own = recipe.feature.outputs == len(names) and known in (None, names)
        self.scored = recipe.feature.outputs if own else 0
        """Number of outputs of a head that is for these very classes, as far as is known; 0 where it is for others."""
        self.places = torch.tensor(_places_elsewhere(names))
        """Place of each class in the order in which another program may have read it."""
        self.linear = linear_head(module, recipe.feature) if own else None
        self.references: dict[Key, Reference] = {}
        self.data: list[dict[str, Any]] = []
        self.accuracy: dict[str, float] = {}
        self.layers: list[LayerMeasure] = []
        self.head: dict[str, dict[str, float | None]] = {}
        self.law: dict[str, Law] = {}
        self.classes: list[ClassMeasure] = []
        self.outliers: list[Outlier] = []
        self.warnings: list[str] = []

    def head_key(self, moments: Mapping[Key, Moments]) -> Key | None:
        """The features that the head sees, where they are measured."""
        own = self.recipe.feature.key
        return own if self.recipe.feature.heads and own in moments else None

    def warn(self, message: str) -> None:
        """Says it once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def add(self, measured: Measured) -> None:
        """The numbers of one split."""
        split = measured.split
        names = [self.names[index] for index in measured.present]
        self._count(measured, names)
        self._left_out(measured)
        order = {layer: index for index, layer in enumerate(dict.fromkeys(layer for layer, _ in measured.moments))}
        sums = {key: self._layer(measured, order[key[0]], key) for key in measured.moments}
        if measured.head.samples:
            head = measured.head
            self.accuracy[split] = head.correct / head.samples
            if head.elsewhere > head.correct:
                here, there, remedy = "their numbers", "their letters (0, 1, 10, 11, …)", ""
                if not are_numbers(self.names):
                    here, there = "their letters", "the numbers in their names (1, 2, …, 10)"
                    remedy = " Write the names with leading zeros (01)."
                self.warn(
                    f"{split}: the network's own accuracy is {100 * self.accuracy[split]:.1f} % with the classes in the order of {here}, and "
                    f"{100 * head.elsewhere / head.samples:.1f} % in the order of {there}: it was trained with the latter.{remedy}"
                )
            if 0 < head.alone < head.samples:
                self.warn(said_without_copies(split, self.accuracy[split], head.correct_alone / head.alone))
        if measured.head.unknown:
            self.warn(
                f"{split}: the network's own scores of {measured.head.unknown} samples are NaN or infinite; they are left out of "
                "its accuracy."
            )
        self._head(measured)
        first = dict(reversed(list(measured.moments)))
        line = [one for one in self.layers if one.split == split and (one.name, one.pool) in _named(first)]
        law = separation_law([layer.separation for layer in line])
        if law is not None:
            self.law[split] = law
        last = list(sums)[-1]
        self._classes(split, sums[last], measured.around[last], names)
        self._suspects(measured, names)

    def _count(self, measured: Measured, names: Sequence[str]) -> None:
        split, counts = measured.split, np.bincount(measured.labels)
        sizes = {"per_class_min": int(counts.min()), "per_class_max": int(counts.max())}
        alone = round(independent(measured.copies), 3)
        self.data.append(
            {"split": split, "samples": len(measured.labels), "independent": alone, "classes": len(names), **sizes}
        )
        absent = [name for name in self.names if name not in names]
        if absent:
            self.warn(
                f"{split}: classes without a sample are left out: {some([*map(repr, absent)], range(len(absent)))}."
            )
        single = [name for name, count in zip(names, counts, strict=True) if count == 1]
        if single:
            self.warn(
                f"{split}: classes with one sample have no within-class scatter: {some([*map(repr, single)], range(len(single)))}."
            )

    def _left_out(self, measured: Measured) -> None:
        """Which samples have no part in a layer's numbers; layers that leave out the same are named together."""
        samples = len(measured.labels)
        by_samples: dict[tuple[int, ...], list[str]] = {}
        for (layer, pool), moments in measured.moments.items():
            if moments.excluded:
                by_samples.setdefault(tuple(sorted(moments.excluded)), []).append(f"{layer} ({pool})")
        if sum(len(layers) for left, layers in by_samples.items() if len(left) == samples) == len(measured.moments):
            raise NonFiniteError(
                f"No sample of the {measured.split} split has finite features at any layer. Check the inputs, or the network's precision."
            )
        items = measured.items or [f"row {position}" for position in range(samples)]
        for left, layers in by_samples.items():
            where = "every layer" if len(layers) == len(measured.moments) else ", ".join(layers)
            self.warn(
                f"{measured.split}: {len(left)} of {samples} samples have NaN, infinite or overflowing features and are left out "
                f"at {where}: {some(items, left)}."
            )
        for (layer, pool), exponent in measured.exponents.items():
            self.warn(
                f"{measured.split}, {layer} ({pool}): features are divided by 2^{exponent}, so that their squares are numbers; only "
                "the cut-off depends on it."
            )

    def _try(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except LowdimError as error:
            self.warn(f"{what}: {error}")
            return None

    def _layer(self, measured: Measured, index: int, key: Key) -> LayerSums:
        split, (layer, pool) = measured.split, key
        moments, around = measured.moments[key], measured.around[key]
        what = f"{split}, {layer} ({pool})"
        every, positions = moments.all(), sorted(moments.sample)
        rows = [moments.sample[position] for position in positions]
        sums = LayerSums(
            statistics=every,
            scatter=around.scatter,
            crossed=list(zip(moments.halves, around.crossed, strict=True)) if around.crossed else [],
            hits=int(around.hits.sum()),
            compared=int(around.total.sum()),
            left_out=(int(around.left_out[0]), int(around.left_out[1])),
            sample=torch.stack(rows) if rows else torch.zeros(0, every.width),
            sample_labels=torch.from_numpy(measured.labels[positions]),
            sample_copies=measured.copies[positions],
            independent=independent(measured.copies) / len(measured.copies),
            weighting=self.recipe.weighting,
            unbiased=self.recipe.unbiased,
            seed=self.recipe.seed,
            note=lambda message: self.warn(f"{what}: {message}"),
        )
        if split == "train" and around.scatter is not None:
            self.references[key] = Reference(around.scatter.span, torch.from_numpy(measured.present))
        self.layers.append(
            LayerMeasure(
                name=layer or OUTPUT,
                index=index,
                split=split,
                width=every.width,
                pool=pool,
                values={m.name: self._try(what, lambda measure=m.measure: measure(sums)) for m in METRICS},
                weighting=self.recipe.weighting,
                unbiased=self.recipe.unbiased,
                min_per_class=int(every.counts.min()),
                max_per_class=int(every.counts.max()),
                samples=every.samples,
                chance_samples=len(positions),
                dtype=moments.dtype,
            )
        )
        return sums

    def _head(self, measured: Measured) -> None:
        key = self.head_key(measured.moments)
        if not self.scored or key is None:
            return
        split, head = measured.split, measured.head
        nc3 = None
        if self.linear is not None:
            weight = self.linear.weight.detach().cpu()[torch.from_numpy(measured.present)].flatten(1)
            nc3 = self._try(f"{split}, NC3", lambda: self_duality(measured.moments[key].all(), weight))
        self.head[split] = {"nc3": nc3, "nc4": head.disagree / head.compared if head.compared else None}

    def _classes(self, split: str, sums: LayerSums, around: Around, names: Sequence[str]) -> None:
        pairs: Tensor | None = None if sums.scatter is None else self._try(split, lambda: cdnv(sums.statistics))
        if pairs is None:
            return
        # Shares of the biased value: what the unbiased one scales each class by is no trouble of its own.
        whole = self._try(split, lambda: variability(sums.statistics, sums.scatter, weighting=sums.weighting))
        nearest: list[int] = class_distances(sums.statistics).fill_diagonal_(float("inf")).argmin(dim=1).tolist()
        rows = [
            ClassMeasure(
                name=name,
                split=split,
                samples=int(sums.statistics.counts[index]),
                nc1_share=None if whole is None else whole.class_share[index],
                cdnv=_finite(float(pairs[index, nearest[index]])),
                nearest_class=names[nearest[index]],
                ncc_accuracy=int(around.hits[index]) / int(around.total[index]) if int(around.total[index]) else None,
            )
            for index, name in enumerate(names)
        ]
        sizes, right = around.total.int().tolist(), around.hits.int().tolist()
        labels = np.repeat(np.arange(len(sizes)), sizes)
        correct = np.concatenate([np.arange(size) < hits for size, hits in zip(sizes, right, strict=True)]).astype(
            float
        )
        for warning in majority_warnings(
            f"{split}, nearest class mean", correct, labels, names, weighted=True, independent=sums.independent
        ):
            self.warn(warning)
        hardest = [(1.0 if row.ncc_accuracy is None else row.ncc_accuracy, -(row.nc1_share or 0)) for row in rows]
        self.classes += [rows[index] for index in sorted(range(len(rows)), key=hardest.__getitem__)]

    def _suspects(self, measured: Measured, names: Sequence[str]) -> None:
        outliers = [
            Outlier(
                item=str(position) if measured.items is None else measured.items[position],
                split=measured.split,
                position=position,
                class_=names[int(measured.labels[position])],
                nearest_class=names[nearest],
                excess=None if measured.suspects.probed else value,
                probability=value if measured.suspects.probed else None,
            )
            for value, position, nearest in measured.suspects.worst
        ]
        known = sorted([*self.outliers, *outliers], key=lambda one: (one.probability or 0.0, -(one.excess or 0.0)))
        self.outliers = known[: self.recipe.outliers]

    def result(self) -> Profile:
        """What was added."""
        return Profile(
            feature=as_measured(self.recipe.feature, self.layers),
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


def linear_head(module: nn.Module, feature: Feature) -> nn.Linear | nn.Conv2d | None:
    """The classifier, where it is one linear layer."""
    head = module.get_submodule(feature.heads[0]) if len(feature.heads) == 1 else None
    return head if isinstance(head, nn.Linear | nn.Conv2d) else None


def as_measured(feature: Feature, layers: Sequence[Any]) -> dict[str, Any]:
    """The feature with the width that it was measured with: another pooling may have been asked for."""
    said = feature.as_dict()
    width = (one.width for one in layers if (one.name, one.pool) == (said["layer"], said["pool"]))
    return {**said, "width": next(width, said["width"])}


def _named(keys: Mapping[str, Pool]) -> set[tuple[str, str]]:
    return {(layer or OUTPUT, pool) for layer, pool in keys.items()}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


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


def _places_elsewhere(names: Sequence[str]) -> list[int]:
    """The place of each class where numbers are ordered by their letters, or names by the numbers in them."""
    parts = [[name] if are_numbers(names) else re.split(r"(\d+)", name) for name in names]
    keys = [[part.zfill(20) if number % 2 else part for number, part in enumerate(name)] for name in parts]
    order = sorted(range(len(names)), key=lambda index: keys[index])
    return np.argsort(order).tolist()
