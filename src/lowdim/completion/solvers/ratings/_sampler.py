"""The state of the `ratings` solvers: one sweep of Gibbs draws, or of variational updates, over the rows and the columns.

See `_ratings` for the model and its symbols.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._compiled import run_rows
from lowdim.completion.entries import Entries
from lowdim.completion.solvers.ratings._kernels import update_features, update_rows

Floats = NDArray[Any]

NOISE_SHAPE = 20.0  # of the gamma prior of the weights of single rows and columns
WEIGHTS_FROM_SWEEP = 4
WEAK = 0.1  # shape and rate of the gamma priors of lambda and kappa

MOVING = (  # what changes in a sweep
    "parameters", "centre", "features", "prior", "precision", "kappa", "weights", "errors", "covariances", "feature_variances",
    "effects", "beta", "effect_variances",
)  # fmt: skip


class Side:
    """The parameters of all rows, or of all columns; see the module for the symbols.

    Attributes:
        start, others, values: The ratings of each member: where they begin, of (or by) whom, and how much above mu.
        shares: ``s``.
        parameters: ``T``, ``(members, k + 1)``, the bias last.
        means: Of the last draw of ``T``, given the other side; without rows where `with_means` is false, and in the variational mode.
        centre: ``m``.
        features: ``z``, ``(others, k + 1)``.
        prior: The means of ``T``.
        precision: ``lambda``.
        kappa: The prior precision of the features.
        weights: ``w``.
        errors: Sums of squared residuals, weighted by the others' weights.
        covariances: In the variational mode, of ``[p, -b]``, packed; otherwise without rows.
        feature_variances: In the variational mode, of the features; otherwise without rows.
        known: ``(members, d)``, what a table says about the members, in orthogonal directions (see `directions`); d may be 0.
        effects: ``(d, k + 1)``, of these directions on the means of ``T``.
        beta: The prior precision of the effects.
        effect_variances: In the variational mode, of the effects; otherwise 0.
    """

    def __init__(
        self,
        start: NDArray[np.int64],
        others: NDArray[np.int32],
        values: Floats,
        other_members: int,
        factors: int,
        generator: np.random.Generator,
        *,
        variational: bool,
        with_means: bool = False,
        known: Floats | None = None,
    ) -> None:
        members, size = start.size - 1, factors + 1
        self.start, self.others, self.values = start, others, values
        self.counts = np.diff(start)
        self.shares = np.float32(1) / np.sqrt(np.maximum(self.counts, 1), dtype=np.float32)
        self.parameters = generator.standard_normal((members, size), np.float32)
        self.parameters *= np.float32(0.3 if variational else 0.1)
        self.means = np.zeros((members if with_means and not variational else 0, size), np.float32)
        self.centre = np.zeros(size, np.float32)
        self.features = np.zeros((other_members, size), np.float32)
        self.prior = np.zeros((members, size), np.float32)
        self.precision = np.full(size, 10.0, np.float32)
        self.kappa = np.full(size, 100.0, np.float32)
        self.weights = np.ones(members, np.float32)
        self.errors = np.zeros(members, np.float32)
        self.covariances = np.zeros((members if variational else 0, size * (size + 1) // 2), np.float32)
        self.feature_variances = np.zeros((other_members if variational else 0, size), np.float32)
        self.known = np.zeros((members, 0), np.float32) if known is None else known
        self.energies = np.einsum("ud,ud->d", self.known, self.known)[:, None]
        self.effects = np.zeros((len(self.energies), size), np.float32)
        self.beta = np.full(size, 10.0, np.float32)
        self.effect_variances = np.zeros_like(self.effects)

    def update(self, other: "Side", alpha: float, generator: np.random.Generator, *, weigh: bool) -> None:
        """One sweep over this side: parameters, their precision and centre, implicit features, weights."""
        self._update_parameters(other, alpha, generator)
        rest = self.parameters - self.prior
        squares = self._squares(rest, other)
        self.precision = self._gamma(WEAK + len(rest) / 2, WEAK + squares / 2, generator)
        rest += self.centre
        scale = 1 / np.sqrt(self.precision * (len(rest) + 1))
        self.centre = rest.sum(0) / np.float32(len(rest) + 1) + self._normal_row(generator) * scale
        rest -= self.centre
        self._update_features(other, rest, generator)
        self._update_effects(rest, generator)
        self.prior = self.parameters - rest
        if weigh:
            rate = (NOISE_SHAPE + alpha * self.errors) / 2
            self.weights = self._gamma((NOISE_SHAPE + self.counts) / 2, rate, generator)

    def _update_parameters(self, other: "Side", alpha: float, generator: np.random.Generator) -> None:
        columns = (other.parameters, other.weights, other.covariances)
        given = (self.prior, self.precision, np.float32(alpha), self.weights)
        normals = self._normals(self.parameters.shape, generator)
        written = (self.parameters, self.means, self.covariances, self.errors)
        work = self.others.size * self.precision.size**2
        entries = (self.others, self.values)
        run_rows(update_rows, self.start, work, *entries, *columns, *given, normals, *written)

    def _squares(self, rest: Floats, other: "Side") -> Floats:
        """The (expected) sums of squares of the parameters about their prior means."""
        squares = np.einsum("ia,ia->a", rest, rest)
        if self.covariances.size:
            size = self.precision.size
            diagonal = np.cumsum(np.arange(1, size + 1)) - 1
            strengths = np.bincount(other.members_of_entries, self.shares[other.others] ** 2, other.counts.size)
            squares = squares + self.covariances[:, diagonal].sum(0) + strengths @ self.feature_variances
            squares = squares + (self.energies * self.effect_variances).sum(0)
        return squares

    def _update_features(self, other: "Side", rest: Floats, generator: np.random.Generator) -> None:
        normals = self._normals(self.features.shape, generator)
        update_features(
            other.start,
            other.others,
            self.shares,
            self.precision,
            self.kappa,
            normals,
            self.features,
            rest,
            self.feature_variances,
        )
        squares = np.einsum("ja,ja->a", self.features, self.features) + self.feature_variances.sum(0)
        self.kappa = self._gamma(WEAK + len(self.features) / 2, WEAK + squares / 2, generator)

    def _update_effects(self, rest: Floats, generator: np.random.Generator) -> None:
        """Draw the effects of what is known: the directions are orthogonal, so each is drawn by itself."""
        if not self.effects.size:
            return
        posterior = self.precision * self.energies + self.beta
        new = self.precision * (self.known.T @ rest + self.energies * self.effects) / posterior
        if self.variational:
            self.effect_variances = 1 / posterior
        else:
            new += generator.standard_normal(new.shape, np.float32) / np.sqrt(posterior)
        rest -= self.known @ (new - self.effects)
        self.effects = new
        squares = (self.effects**2 + self.effect_variances).sum(0)
        self.beta = self._gamma(WEAK + len(self.effects) / 2, WEAK + squares / 2, generator)

    @property
    def members_of_entries(self) -> NDArray[np.intp]:
        """The member of each entry."""
        return np.repeat(np.arange(self.counts.size), self.counts)

    @property
    def variational(self) -> bool:
        return self.feature_variances.shape[0] > 0

    def _normals(self, shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
        """Noise of draws, none in the variational mode."""
        return generator.standard_normal((0, shape[1]) if self.variational else shape, np.float32)

    def _normal_row(self, generator: np.random.Generator) -> Floats:
        size = self.precision.size
        return np.zeros(size, np.float32) if self.variational else generator.standard_normal(size, np.float32)

    def _gamma(self, shape: Floats | float, rate: Floats, generator: np.random.Generator) -> Floats:
        """A draw, or the mean in the variational mode."""
        standard = shape if self.variational else generator.gamma(shape, size=rate.shape)
        return (standard / rate).astype(np.float32)


def row_means(
    start: NDArray[np.int64],
    cols: NDArray[np.int32],
    values: Floats,
    columns: tuple[Floats, Floats, Floats],
    prior: Floats,
    precision: Floats,
    alpha: Floats,
) -> Floats:
    """The posterior means of any rows ``(m, k + 1)`` of weight 1, from their entries and the parameters, weights and covariances of columns."""
    m, size = prior.shape
    none, out = np.zeros((0, size * (size + 1) // 2), np.float32), np.empty((m, size), np.float32)
    given = (prior.astype(np.float32), precision, np.float32(alpha), np.ones(m, np.float32))
    written = (out, np.zeros((0, size), np.float32), none, np.empty(m, np.float32))
    normals = np.zeros((0, size), np.float32)
    run_rows(update_rows, start, cols.size * size**2, cols, values, *columns, *given, normals, *written)
    return out


def directions(features: Floats | None) -> Floats | None:
    """What a table says about members ``(members, d)`` (0 where it says nothing), in orthogonal directions: the prior of their effects is
    the same in every basis, and in this one they are independent."""
    if features is None:
        return None
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    used = sizes > 1e-6 * max(sizes.max(initial=0), np.finfo(np.float64).tiny)
    return np.ascontiguousarray(left[:, used] * sizes[used], np.float32)


class Sampler:
    """The state of the chain (or of the variational iteration) over both sides."""

    def __init__(
        self,
        entries: Entries,
        factors: int,
        seed: int,
        *,
        variational: bool,
        known: tuple[Floats | None, Floats | None] = (None, None),
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.mean, (m, n) = float(entries.values.mean()), entries.shape
        values = (entries.values - self.mean).astype(np.float32)
        start, rows, by_col = entries.by_columns(values)
        common = (factors, self.generator)
        self.rows = Side(entries.row_start, entries.cols, values, n, *common, variational=variational, known=known[0])
        self.cols = Side(start, rows, by_col, m, *common, variational=variational, with_means=True, known=known[1])
        self.alpha, self.sweeps = 1.0, 0

    def state(self) -> dict[str, Floats]:
        """All that the next sweep depends on."""
        sides = (("rows", self.rows), ("cols", self.cols))
        moving = {f"{name}.{part}": getattr(side, part) for name, side in sides for part in MOVING}
        random = json.dumps(self.generator.bit_generator.state).encode()
        return moving | {"alpha": np.array([self.alpha, self.sweeps]), "random": np.frombuffer(random, np.uint8)}

    def restore(self, state: dict[str, Floats] | None) -> None:
        """Go on from a state; from here if it is None."""
        if state is None:
            return
        for name, side in (("rows", self.rows), ("cols", self.cols)):
            for part in MOVING:
                setattr(side, part, state[f"{name}.{part}"])
        self.alpha, self.sweeps = float(state["alpha"][0]), int(state["alpha"][1])
        self.generator.bit_generator.state = json.loads(state["random"].tobytes())

    def begin_from(self, other: "Sampler") -> None:
        """Take over where another one has come to, but for uncertainties and random numbers."""
        for mine, its in ((self.rows, other.rows), (self.cols, other.cols)):
            for part in MOVING:
                if not part.endswith(("variances", "covariances")):
                    setattr(mine, part, getattr(its, part))
        self.alpha, self.sweeps = other.alpha, other.sweeps

    def sweep(self) -> None:
        """Rows, columns, then the precision of the noise."""
        self.sweeps += 1
        weigh = self.sweeps >= WEIGHTS_FROM_SWEEP
        self.rows.update(self.cols, self.alpha, self.generator, weigh=weigh)
        self.cols.update(self.rows, self.alpha, self.generator, weigh=weigh)
        shape = 1 + self.rows.values.size / 2
        rate = 1 + float(self.cols.weights.astype(np.float64) @ self.cols.errors) / 2
        self.alpha = (shape if self.rows.variational else self.generator.gamma(shape)) / rate
