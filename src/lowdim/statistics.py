"""Class statistics of features: counts, means and within-class scatter, in centred float64; accumulate, merge, save, load.

Two routes lead to the same within-class variability. The *one-pass* route keeps a d x d scatter. The *two-pass* route first
finds the class means, then measures the scatter only inside their span (`SpanScatter`), and never holds a d x d matrix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from lowdim._arguments import checked_arguments
from lowdim._files import load_tensors, save_tensors
from lowdim.errors import EmptyClassError, InputError, NonFiniteError

__all__ = ["BetweenSpan", "ClassStatistics", "SpanScatter", "between_span", "span_scatter"]

Scatter = Literal["none", "pooled", "per_class"]
Weighting = Literal["pooled", "class_balanced", "size_weighted"]


def as_float64(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The features in float64 on their own device, or on the CPU where the device has no float64 (MPS)."""
    return features.cpu().double() if features.device.type == "mps" else features.double()


def centred_rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The samples minus their mean, in float64; exactly zero when they differ by no more than rounding in their own type."""
    origin = as_float64(features[:1])
    rows = as_float64(features) - origin
    if bool((rows.abs() <= torch.finfo(features.dtype).eps * origin.abs()).all()):
        return torch.zeros_like(rows)
    return rows - rows.mean(dim=0)


BLOCK_BYTES = 2**22
"""Samples at hand are converted to float64 in blocks of about so many bytes, so that no second copy of them exists."""


def row_blocks(features: Float[Tensor, "n d"]) -> Iterator[slice]:
    """Blocks of rows that cover the features once."""
    rows = max(1, BLOCK_BYTES // (8 * max(features.shape[1], 1)))
    return (slice(start, start + rows) for start in range(0, len(features), rows))


def check_samples(features: Tensor, labels: Tensor, classes: int) -> None:
    """Refuses shapes, labels and values that statistics cannot use.

    Raises:
        InputError: If shapes do not match or labels lie outside 0 … classes - 1.
        NonFiniteError: If a feature is NaN or infinite; the message names the rows.
    """
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels):
        raise InputError(
            f"Features must be n x d and labels n, but got {tuple(features.shape)} and {tuple(labels.shape)}. "
            "Flatten or pool the features to one row per sample."
        )
    if not features.is_floating_point():
        raise InputError(f"Features must be floating point, not {features.dtype}. Convert them with `.float()`.")
    if not 0 <= classes < 2**31:
        raise InputError(f"There are {classes} classes; a whole number from 1 to 2**31 - 1 is needed.")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"Labels must be integers 0 … K - 1, not {labels.dtype}.")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise InputError(
            f"Labels must lie in 0 … {classes - 1} for {classes} classes, but range from {int(labels.min())} to "
            f"{int(labels.max())}. Map them first: `numpy.unique(labels, return_inverse=True)`."
        )
    # The sum is not finite if any term is not; the other way round it may also have overflowed.
    if not bool(torch.isfinite(features.sum())) and (rows := _not_finite(features)):
        raise NonFiniteError(
            f"{len(rows)} of {len(features)} samples have NaN or infinite features (rows {rows[:5]}{'…' if len(rows) > 5 else ''}). "
            "Drop them, or find out why the model produces them."
        )


def _not_finite(features: Float[Tensor, "n d"]) -> list[int]:
    finite = [torch.isfinite(features[block]).all(dim=1) for block in row_blocks(features)]
    return torch.nonzero(~torch.cat(finite)).flatten().tolist()


@dataclass
class ClassStatistics:
    """Moments of features by class: everything is float64 and centred, so merging loses no digits.

    Attributes:
        counts: Samples of each class, ``K``.
        means: Class means, ``K x d``; rows of empty classes are zero and never used.
        squares: Sum over the samples of each class of their squared distance to the class mean, ``K``.
        scatter: Sum of ``(h - mu_k)(h - mu_k)^T``: ``1 x d x d`` over all classes, ``K x d x d`` for each, or None.
        rounding: What `means` lost to rounding, ``K x d``: with an offset of 1e3 and deviations of 1e-6, merging would be
            wrong by 1e-7 without it.

    Memory is ``O(K d)``, plus ``d^2`` (or ``K d^2``) with a scatter. Updating costs ``O(n d)``, plus ``O(n d^2)``.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 2.0], [-1.0, 0.0], [-1.0, 2.0]])
        >>> statistics = ClassStatistics.from_samples(features, torch.tensor([0, 0, 1, 1]), classes=2)
        >>> statistics.means.tolist()
        [[1.0, 1.0], [-1.0, 1.0]]
    """

    counts: Int[Tensor, " K"]
    means: Float[Tensor, "K d"]
    squares: Float[Tensor, " K"]
    scatter: Float[Tensor, "g d d"] | None
    rounding: Float[Tensor, "K d"]

    @classmethod
    def empty(
        cls, classes: int, width: int, *, scatter: Scatter = "none", device: torch.device | None = None
    ) -> "ClassStatistics":
        """Statistics of no samples yet.

        Args:
            classes: ``K >= 1``.
            width: Feature dimension ``d >= 1``.
            scatter: Which d x d scatter to keep.
            device: Where to accumulate; must have float64.

        Raises:
            InputError: If there is no class or no feature.
        """
        if classes < 1 or width < 1:
            raise InputError(f"Statistics need at least one class and one feature, not {classes} and {width}.")
        groups = {"none": 0, "pooled": 1, "per_class": classes}[scatter]
        return cls(
            counts=torch.zeros(classes, dtype=torch.int64, device=device),
            means=torch.zeros(classes, width, dtype=torch.float64, device=device),
            squares=torch.zeros(classes, dtype=torch.float64, device=device),
            scatter=torch.zeros(groups, width, width, dtype=torch.float64, device=device) if groups else None,
            rounding=torch.zeros(classes, width, dtype=torch.float64, device=device),
        )

    @classmethod
    @checked_arguments
    def from_samples(
        cls, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, classes: int, scatter: Scatter = "pooled"
    ) -> "ClassStatistics":
        """Statistics of samples at hand.

        Args:
            features: Any floating dtype.
            labels: Integers 0 … K - 1.
            classes: ``K``; classes without a sample stay empty.
            scatter: ``"pooled"`` makes every collapse metric available; ``"none"`` is enough for means, traces and separation.

        Raises:
            InputError: If shapes or labels do not fit.
            NonFiniteError: If a feature is NaN or infinite.
        """
        check_samples(features, labels, classes)
        device = None if features.device.type == "mps" else features.device
        if not len(labels):
            return cls.empty(classes, features.shape[1], scatter=scatter, device=device)
        return _moments(features, labels.to(device or "cpu"), classes, scatter)

    @property
    def classes(self) -> int:
        """Number of classes, empty ones included."""
        return len(self.counts)

    @property
    def width(self) -> int:
        """Feature dimension."""
        return self.means.shape[1]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.counts.sum())

    def update(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> None:
        """Adds a batch. Costs one pass over it; nothing is changed when the batch is refused.

        Raises:
            InputError: If shapes or labels do not fit.
            NonFiniteError: If a feature is NaN or infinite.
        """
        check_samples(features, labels, self.classes)
        if features.shape[1] != self.width:
            raise InputError(
                f"These statistics hold features of width {self.width}, but the batch has {features.shape[1]}."
            )
        labels = labels.to(self.counts.device)
        self.add(features, labels)

    def add(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> None:
        """`update` without its checks, for finite features."""
        if len(labels):
            present, local = torch.unique(labels, return_inverse=True)
            self._absorb(_moments(features, local, len(present), self._kept), present)

    def merge(self, other: "ClassStatistics") -> None:
        """Adds the samples of other statistics: the pairwise update of Chan, Golub and LeVeque (1983), exact up to rounding.

        Raises:
            InputError: If the classes, the width or the kind of scatter differ.
        """
        if other.means.shape != self.means.shape or other._kept != self._kept:
            raise InputError("Only statistics of the same classes, width and scatter can be merged.")
        self._absorb(other, slice(None))

    @property
    def _kept(self) -> Scatter:
        if self.scatter is None:
            return "none"
        return "per_class" if len(self.scatter) == self.classes else "pooled"

    def _absorb(self, other: "ClassStatistics", rows: Tensor | slice) -> None:
        """Adds statistics whose classes are `rows` of these."""
        counts, means = self.counts[rows], self.means[rows]
        share = other.counts.double() / (counts + other.counts).clamp(min=1)
        step = (other.means - means) + (other.rounding - self.rounding[rows])
        moved, lost = _add(means, step * share.unsqueeze(1))
        both = counts * share
        self.rounding[rows] = torch.where((counts == 0).unsqueeze(1), other.rounding, self.rounding[rows] + lost)
        self.means[rows] = moved
        self.squares[rows] += other.squares + both * step.square().sum(dim=1)
        if self.scatter is not None and other.scatter is not None:
            if self._kept == "pooled":
                self.scatter[0] += other.scatter[0] + (step * both.unsqueeze(1)).T @ step
            else:
                self.scatter[rows] += other.scatter + torch.einsum("k,ki,kj->kij", both, step, step)
        self.counts[rows] += other.counts

    def without_empty(self) -> "ClassStatistics":
        """The same without the classes that have no sample; the others keep their order."""
        keep = self.counts > 0
        scatter = self.scatter
        if scatter is not None and len(scatter) > 1:
            scatter = scatter[keep]
        return ClassStatistics(self.counts[keep], self.means[keep], self.squares[keep], scatter, self.rounding[keep])

    def require_classes(self, at_least: int = 2) -> None:
        """Refuses statistics that describe no classification problem.

        Raises:
            EmptyClassError: If a class has no sample.
            InputError: If there are fewer than `at_least` classes, or no sample at all.
        """
        if self.samples == 0:
            raise InputError("There are no samples. Pass features and labels before asking for a metric.")
        empty = torch.nonzero(self.counts == 0).flatten().tolist()
        if empty:
            raise EmptyClassError(
                f"Every class needs at least one sample, but classes {empty} have none. "
                "Pass more data, or drop them with `statistics.without_empty()`."
            )
        if self.classes < at_least:
            raise InputError(f"At least {at_least} classes are needed, but there is {self.classes}.")

    def save(self, path: Path) -> None:
        """Writes a safetensors file with a checksum."""
        arrays = {"counts": self.counts, "means": self.means, "squares": self.squares, "rounding": self.rounding}
        if self.scatter is not None:
            arrays["scatter"] = self.scatter
        save_tensors(path, {name: tensor.cpu().numpy() for name, tensor in arrays.items()})

    @classmethod
    def load(cls, path: Path) -> "ClassStatistics":
        """Reads what `save` wrote.

        Raises:
            InputError: If the file is missing or damaged.
        """
        arrays, _ = load_tensors(path)
        return cls.from_tensors({name: torch.from_numpy(array) for name, array in arrays.items()})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "ClassStatistics":
        """From the fields by name (``scatter`` may be absent)."""
        counts, means, squares = (tensors[name] for name in ("counts", "means", "squares"))
        return cls(counts, means, squares, tensors.get("scatter"), tensors["rounding"])


def _add(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The sum in float64, and exactly what rounding took from it (Knuth's two-sum)."""
    total = first + second
    part = total - first
    return total, (total - part).neg_().add_(first).add_(second - part)


def _moments(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int, scatter: Scatter
) -> ClassStatistics:
    width, counts = features.shape[1], torch.bincount(labels, minlength=classes)
    # Sums of differences from one sample: an offset common to all features costs no digits.
    origin = as_float64(features[:1])[0].clone()
    moments = ClassStatistics.empty(classes, width, scatter=scatter, device=origin.device)
    for block in row_blocks(features):
        present, local = torch.unique(labels[block], return_inverse=True)
        moments.means[present] += class_sums(_minus(features[block], origin), local, len(present))
    steps = moments.means / counts.clamp(min=1).unsqueeze(1)
    for block in row_blocks(features):
        here = labels[block]
        centred = _minus(features[block], origin).sub_(steps[here])
        moments.squares += class_sums(torch.linalg.vecdot(centred, centred).unsqueeze(1), here, classes).squeeze(1)
        if moments.scatter is not None and scatter == "pooled":
            moments.scatter[0] += centred.T @ centred
        elif moments.scatter is not None:
            for label in torch.unique(here).tolist():
                rows = centred[here == label]
                moments.scatter[label] += rows.T @ rows
    moments.counts = counts
    moments.means, moments.rounding = _add(origin, steps)
    moments.means[counts == 0] = 0
    moments.rounding[counts == 0] = 0
    return moments


def _minus(features: Float[Tensor, "n d"], origin: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """The difference in float64, in memory of its own."""
    rows = as_float64(features)
    return rows - origin if rows is features else rows.sub_(origin)


def class_sums(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, "K d"]:
    """Sum of the rows of each class."""
    if features.device.type == "cpu":
        # torch's index_add_ starts its threads for every small batch; a sparse product adds the rows in one thread, in order.
        rows = features.detach().numpy()
        starts = np.concatenate([[0], np.cumsum(np.bincount(labels.numpy(), minlength=classes))])
        order = np.argsort(labels.numpy(), kind="stable")
        pick = sparse.csr_array((np.ones(len(rows), rows.dtype), order, starts), shape=(classes, len(rows)))
        return torch.from_numpy(pick @ rows)
    return torch.zeros(classes, features.shape[1], dtype=features.dtype, device=features.device).index_add_(
        0, labels, features
    )


@dataclass(frozen=True)
class BetweenSpan:
    """The span of the centred class means, from their singular values: ``Sigma_B = sum_j lambda_j u_j u_j^T``.

    Attributes:
        eigenvalues: ``lambda_j > cutoff``, largest first, ``r``.
        basis: Orthonormal ``u_j`` as columns, ``d x r``.
        centre: The mean of the class means, ``d``.
        coordinates: Centred class means in the basis, ``K x r``.
        cutoff: Eigenvalues at or below it are rounding noise.
        condition: Largest over smallest kept eigenvalue (infinite when none is kept).
        size_weighted: Whether classes count by their samples.

    Example:
        >>> means = ClassStatistics.from_samples(torch.tensor([[1.0, 9.0], [3.0, 9.0]]), torch.tensor([0, 1]), classes=2)
        >>> span = between_span(means)
        >>> span.rank, round(float(span.eigenvalues[0]), 12), span.centre.tolist()
        (1, 1.0, [2.0, 9.0])
    """

    eigenvalues: Float[Tensor, " r"]
    basis: Float[Tensor, "d r"]
    centre: Float[Tensor, " d"]
    coordinates: Float[Tensor, "K r"]
    cutoff: float
    condition: float
    size_weighted: bool

    @property
    def rank(self) -> int:
        """Number of kept directions."""
        return len(self.eigenvalues)


# Below this ratio of eigenvalues the Gram matrix has lost half of their digits, and a singular value decomposition is used instead.
_GRAM_LIMIT = 1e-6


def between_span(statistics: ClassStatistics, *, weighting: Weighting = "pooled") -> BetweenSpan:
    """Eigenpairs of the between-class covariance without forming it: at most ``min(d, K - 1)`` of them.

    Args:
        statistics: ``K >= 2`` classes, none empty.
        weighting: ``"size_weighted"`` weights classes by their samples, also in the centre; the others weight them equally.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If there is only one class.

    Returns:
        Eigenpairs above rounding noise, and the class means in them.

    Example:
        >>> corners = ClassStatistics.from_samples(torch.eye(4), torch.arange(4), classes=4)
        >>> [round(value, 12) for value in between_span(corners).eigenvalues.tolist()]  # a simplex: K - 1 equal ones
        [0.25, 0.25, 0.25]
    """
    statistics.require_classes()
    share = class_shares(statistics, weighting)
    centre, centred = centred_means(statistics, share)
    rows = centred * share.sqrt().unsqueeze(1)
    values, basis = _right_singular(rows)
    rounding = max(float(values[0]) * max(rows.shape) * torch.finfo(torch.float64).eps, means_rounding(statistics))
    keep = values > rounding
    values, basis = values[keep], basis[:, keep]
    eigenvalues = values.square()
    condition = float(eigenvalues[0] / eigenvalues[-1]) if len(eigenvalues) else float("inf")
    size_weighted = weighting == "size_weighted"
    return BetweenSpan(eigenvalues, basis, centre, centred @ basis, rounding**2, condition, size_weighted)


def class_shares(statistics: ClassStatistics, weighting: Weighting) -> Float[Tensor, " K"]:
    """Weights of the classes in the between-class covariance and its centre: equal, or by their samples."""
    if weighting == "size_weighted":
        return statistics.counts.double() / statistics.samples
    return torch.full_like(statistics.squares, 1 / statistics.classes)


def centred_means(
    statistics: ClassStatistics, share: Float[Tensor, " K"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, "K d"]]:
    """The weighted mean of the class means, and the class means minus it: exactly zero when they all coincide."""
    origin = statistics.means[0]
    moved = statistics.means - origin
    shift = share @ moved
    return origin + shift, moved - shift


def means_rounding(statistics: ClassStatistics) -> float:
    """How far class means can be apart by rounding alone: an offset much larger than their spread limits what can be told from 0."""
    return torch.finfo(torch.float64).eps * float(torch.linalg.vector_norm(statistics.means, dim=1).max())


def _right_singular(rows: Float[Tensor, "K d"]) -> tuple[Float[Tensor, " s"], Float[Tensor, "d s"]]:
    """Singular values, largest first, and right singular vectors as columns; by the smaller Gram matrix where that is accurate."""
    classes, width = rows.shape
    wide = classes <= width
    gram = rows @ rows.T if wide else rows.T @ rows
    eigenvalues, vectors = torch.linalg.eigh(gram)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    # The centred means add up to zero, so the last of K directions is rounding noise whatever its size.
    rank = min(classes - 1, width)
    if float(eigenvalues[rank - 1]) > _GRAM_LIMIT * float(eigenvalues[0]):
        values = eigenvalues[:rank].sqrt()
        basis = rows.T @ vectors[:, :rank] / values if wide else vectors[:, :rank]
        return values, basis
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    return values[:rank], right[:rank].T.contiguous()


@dataclass
class SpanScatter:
    """Second pass: the within-class scatter of each class inside a span, sample by sample.

    Attributes:
        span: Where to look.
        means: The class means that samples are compared with, ``K x d``.
        projected: Sum over the samples of each class of ``(u_j^T (h - mu_k))^2``, ``K x r``; or ``1 x r`` over those of all.
        counts: Samples of each class, ``K``.

    Costs ``O(n d r)`` per batch and ``O(K r)`` memory.

    Example:
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> statistics = ClassStatistics.from_samples(features, labels, classes=2, scatter="none")
        >>> scatter = SpanScatter.empty(statistics, between_span(statistics))
        >>> for batch in (slice(0, 3), slice(3, 4)):
        ...     _ = scatter.update(features[batch], labels[batch])
        >>> scatter.projected.tolist()
        [[2.0], [2.0]]
    """

    span: BetweenSpan
    means: Float[Tensor, "K d"]
    projected: Float[Tensor, "g r"]
    counts: Int[Tensor, " K"]

    @classmethod
    def empty(cls, statistics: ClassStatistics, span: BetweenSpan) -> "SpanScatter":
        """No samples yet; `statistics` gives the class means."""
        means = statistics.means
        projected = means.new_zeros(statistics.classes, span.rank)
        return cls(span, means, projected, torch.zeros_like(statistics.counts))

    def update(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n r"]:
        """Adds a batch of finite features; returns their coordinates ``u_j^T (h - mu_k)``."""
        coordinates = self.means[labels].neg_().add_(as_float64(features)) @ self.span.basis
        if not len(labels):
            return coordinates
        present, local = torch.unique(labels, return_inverse=True)
        self.projected[present] += class_sums(coordinates.square(), local, len(present))
        self.counts += torch.bincount(labels, minlength=len(self.counts))
        return coordinates

    def tensors(self) -> list[Tensor]:
        """The sums, which add up over processes."""
        return [self.projected, self.counts]


def span_scatter(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], statistics: ClassStatistics, span: BetweenSpan
) -> SpanScatter:
    """`SpanScatter` of samples at hand.

    Args:
        features: Finite.
        labels: Integers 0 … K - 1.
        statistics: Give the class means.
        span: Of the class means.

    Example:
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> statistics = ClassStatistics.from_samples(features, labels, classes=2, scatter="none")
        >>> span_scatter(features, labels, statistics, between_span(statistics)).projected.tolist()
        [[2.0], [2.0]]
    """
    scatter = SpanScatter.empty(statistics, span)
    labels = labels.to(scatter.counts.device)
    for block in row_blocks(features):
        scatter.update(features[block], labels[block])
    return scatter
