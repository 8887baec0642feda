"""The interface of the solvers: what they are asked, what they answer, and the record of what is true of one."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lowdim._files import load_tensors, save_tensors
from lowdim._intervals import Z
from lowdim._linalg import Array as Array
from lowdim._linalg import Indices as Indices
from lowdim._linalg import Mask as Mask
from lowdim.completion.entries import Entries

INTERVAL = 30.0  # seconds between two writes; a stage that takes less is not written
NOISY = 1e-3  # of the deviation of a column
TYPICAL_CALIBRATION, CALIBRATION_SPREAD = 0.97, 0.06  # over tables; the spread is of the logarithm
QUANTILE_VARIANCE = 0.78  # times 1 / n: of the logarithm of the 90 % quantile of n absolute normal values


class Completion(Protocol):
    """A fitted model of all cells of a matrix.

    Attributes:
        factors: ``(m, r)`` and ``(n, r)``; their product is the low-rank part of the training rows.
        iterations: Sweeps taken by the last fit.
        converged: Whether the last fit met its tolerance.
    """

    @property
    def factors(self) -> tuple[Array, Array]: ...
    @property
    def iterations(self) -> int: ...
    @property
    def converged(self) -> bool: ...

    def predict(self, rows: Indices, cols: Indices) -> Array:
        """The modelled values of cells of the training matrix."""
        ...

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        """One standard deviation of the predictive distribution of cells of the training matrix."""
        ...

    def complete(self, entries: Entries) -> Array:
        """The modelled values of all cells of any rows, ``(m', n)``, from their observed entries."""
        ...


@runtime_checkable
class WithDeviations(Protocol):
    """A completion that knows how sure it is of the cells of any rows, and can draw them; their times may say something."""

    def complete_in_time(self, entries: Entries, clock: Array | None) -> Array:
        """As `complete`, of rows in these groups and at these times, ``(m', 2)``."""
        ...

    def deviations(self, entries: Entries, clock: Array | None) -> Array:
        """One standard deviation of the predictive distribution of all cells, ``(m', n)``."""
        ...

    def draws(
        self, entries: Entries, clock: Array | None, count: int, generator: np.random.Generator
    ) -> Iterator[Array]:
        """Draws of all cells, ``(m', n)`` each, from their joint predictive distribution."""
        ...


@dataclass
class Journal:
    """What a long fit has done so far: told to whoever watches, and kept on disk between sweeps so that it can be continued.

    A fit is a fixed sequence of stages (of the search for a rank, of the check, of the final fit). Each asks the journal for its number,
    finds what an interrupted run left there, and reports after every sweep. Everything else is computed again: it is deterministic and
    cheap.

    Attributes:
        folder: For the state of the stages; None keeps nothing.
        watch: Called with the sweeps done and the most there will be, after every sweep.
        interval: Seconds between two writes.
        stages: Begun so far.
    """

    folder: Path | None = None
    watch: Callable[[int, int], None] = lambda done, total: None
    interval: float = INTERVAL
    stages: int = field(default=0, init=False)

    def stage(self, total: int) -> "Stage":
        """The next stage, of at most `total` sweeps."""
        self.stages += 1
        file = self.folder / f"stage-{self.stages}.safetensors" if self.folder else None
        return Stage(file, self.watch, self.interval, total)


class Stage:
    """One stage of a fit."""

    def __init__(self, file: Path | None, watch: Callable[[int, int], None], interval: float, total: int) -> None:
        self._file, self._watch, self._interval, self._total = file, watch, interval, total
        self._written = time.monotonic()

    def saved(self) -> dict[str, NDArray[Any]] | None:
        """What an interrupted run kept of this stage."""
        return load_tensors(self._file)[0] if self._file and self._file.exists() else None

    def report(self, done: int, state: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """A sweep is done; `state` gives all that the next one needs."""
        if self._file and time.monotonic() - self._written >= self._interval:
            save_tensors(self._file, {name: np.asarray(array) for name, array in state().items()})
            self._written = time.monotonic()
        self._watch(done, self._total)


@dataclass(frozen=True)
class HeldOut:
    """Predictions of held-out entries by a fit that did not see them."""

    cols: Indices
    values: Array
    predictions: Array
    deviations: Array

    @staticmethod
    def of(completion: Completion, entries: Entries, held: Mask) -> "HeldOut":
        """The predictions of a completion that was fitted without the held entries."""
        places = np.flatnonzero(held)
        rows, cols = entries.rows[places], entries.cols[places]
        return HeldOut(cols, entries.values[places], completion.predict(rows, cols), completion.deviation(rows, cols))

    @property
    def rmse(self) -> float:
        """Root mean square error; NaN when nothing was held out, or where that was not possible."""
        return root_mean_square(self.values - self.predictions)

    @property
    def rmse_interval(self) -> tuple[float, float] | None:
        """90 % of the root mean square error over all entries like the held-out ones; None where two were not predicted."""
        rmse = self.rmse
        if self.values.size < 2 or not np.isfinite(rmse):
            return None
        if rmse == 0:
            return 0.0, 0.0
        squares = ((self.values - self.predictions) / rmse) ** 2  # of any size
        half = Z * float(np.std(squares, ddof=1)) / math.sqrt(squares.size)
        return rmse * math.sqrt(max(1 - half, 0.0)), rmse * math.sqrt(1 + half)

    @staticmethod
    def by_parts(
        entries: Entries, checked: Mask, parts: Sequence[Mask], check: Callable[[Mask], "HeldOut"]
    ) -> "HeldOut":
        """Of the checked entries: each by what `check` predicts for the last of the parts that it is in."""
        predictions, deviations = np.full((2, entries.size), np.nan)
        for part in parts:
            held = check(part)
            predictions[part], deviations[part] = held.predictions, held.deviations
        return HeldOut(entries.cols, entries.values, predictions, deviations).of_places(checked)

    def in_units(self, scale: Array) -> "HeldOut":
        """The same with each entry multiplied by the scale ``(n,)`` of its column."""
        units = scale[self.cols]
        return HeldOut(self.cols, self.values * units, self.predictions * units, self.deviations * units)

    def joined(self, *others: "HeldOut") -> "HeldOut":
        """All together."""
        parts = [(one.cols, one.values, one.predictions, one.deviations) for one in (self, *others)]
        return HeldOut(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def of_places(self, places: Indices | Mask) -> "HeldOut":
        """Some of them, in this order."""
        return HeldOut(self.cols[places], self.values[places], self.predictions[places], self.deviations[places])

    def is_clearly_better(self, other: "HeldOut", margin: float = 1.0) -> bool:
        """Whether the squared errors are smaller than the other's on the same entries by more than so many standard errors."""
        gain = (other.values - other.predictions) ** 2 - (self.values - self.predictions) ** 2
        return bool(gain.size and gain.mean() > margin * gain.std() / np.sqrt(gain.size))

    def is_uniform(self, scale: Array) -> bool:
        """Whether the errors call for one scale: they are about the same in all columns before the division.

        The slope of log error on log scale would be 0 if the noise of a column grew with its deviation, and is -1 if it does not.
        No verdict (False) where the slope is not clearly beyond -1/2, or the errors are none to speak of.
        """
        errors = np.abs(self.values - self.predictions)
        if not (self.rmse > NOISY and np.isfinite(errors).all()):
            return False
        sizes = np.log(scale[self.cols])
        sizes -= sizes.mean()
        spread = float(sizes @ sizes)
        if errors.size < 50 or spread == 0:
            return False
        logarithms = np.log(np.maximum(errors, np.finfo(np.float64).tiny))
        slope = float(sizes @ logarithms) / spread
        return bool(slope + 2 * np.std(logarithms) / np.sqrt(spread) < -0.5)

    @property
    def calibration(self) -> float:
        """The factor on the deviations that makes 90 % intervals cover 90 % of the held-out entries.

        The factor that few entries call for is uncertain, and is drawn to that of most matrices, unless it contradicts them. With
        fewer than 20 entries it is 1.
        """
        if self.values.size < 20 or not np.isfinite(self.predictions).all():
            return 1.0
        ratio = np.abs(self.values - self.predictions) / np.maximum(self.deviations, np.finfo(np.float64).tiny)
        level = min(0.9 * (1 + 1 / ratio.size), 1.0)  # one more entry, the one to be predicted, is as likely anywhere
        factor = max(float(np.quantile(ratio, level)) / Z, np.finfo(np.float64).tiny)
        surprise = math.log(factor / TYPICAL_CALIBRATION)
        variance = QUANTILE_VARIANCE / ratio.size
        if surprise**2 > 9 * (variance + CALIBRATION_SPREAD**2):
            return factor
        return factor * math.exp(-surprise * variance / (variance + CALIBRATION_SPREAD**2))


@dataclass(frozen=True)
class Settings:
    """What the user asks of every solver.

    Attributes:
        rank: The number of factors, or None to find it.
        max_rank: The most factors tried when it is to be found.
        depth: Number of layers L of the network whose weight decay the regulariser imitates (the Schatten-2/L quasi-norm).
        biases: Whether row and column biases are modelled, or None to decide by the data.
        iterations: The most sweeps.
        tolerance: Relative change below which a fit has converged.
        seed: Of everything random.
        journal: Where long fits report and keep their state.
        together: For each column, those that are unknown whenever it is: the levels of one category. None if each stands alone.
        clock: ``(m, 2)``, the group and the time of each row, where rows have an order in time.
        units: ``(n,)``, by which columns that were divided one by one are multiplied to be divided by the same; None where they were.
        row_features: ``(m, d)``, what a table says about the rows, standardised, 0 where it says nothing; or None.
        col_features: ``(n, d)``, the same of the columns.
        channels: Of a picture, whose columns of pixels stand side by side, channel after channel; 0 of any other matrix.
    """

    rank: int | None = None
    max_rank: int = 20
    depth: int = 3
    biases: bool | None = None
    iterations: int = 100
    tolerance: float = 1e-4
    seed: int = 0
    journal: Journal = field(default_factory=Journal, compare=False)
    together: tuple[Indices, ...] | None = field(default=None, compare=False)
    clock: Array | None = field(default=None, compare=False)
    units: Array | None = field(default=None, compare=False)
    row_features: Array | None = field(default=None, compare=False)
    col_features: Array | None = field(default=None, compare=False)
    channels: int = 0


@dataclass(frozen=True)
class Solved:
    """A completion of all entries, the check on held-out ones, and remarks on how sure it is and on what that rests.

    `checked` says which entries the check is of, where these are not those that were to be held out, and `lacked` which entries each of the
    fits lacked that check them; none where each was left out by itself. `alone` has all entries, each left out by itself, NaN where that was
    not done. `one_scale` says that it is of columns divided by the same, as `Settings.units` makes them.
    """

    completion: Completion
    held_out: HeldOut
    sure: bool | None = None
    remarks: tuple[str, ...] = ()
    reason: str = ""
    checked: Mask | None = None
    lacked: tuple[Mask, ...] = ()
    alone: HeldOut | None = None
    one_scale: bool = False


class Solve(Protocol):
    """A fit: first of the entries that are not held out, to predict the held ones and to make its own choices by them, then of all.

    Everything it sees has been divided by the column scale. `start` is an earlier completion of a matrix of the same shape, or None.
    """

    def __call__(self, entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved: ...


def _never(entries: Entries, settings: Settings) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Solver:
    """All that is true of a solver.

    Attributes:
        name: What the user types.
        title: What it is for, for the help and the documentation.
        solve: The fit.
        memory: Bytes that a fit takes at most beside the entries, of (entries, shape, rank): from measured peaks.
        suits: Why it suits a matrix, or None where it does not: what ``auto`` asks.
        check: The predictions of held-out entries alone, where they cost less than the whole.
        rescue: An answer to be preferred to that of another solver that ``auto`` has chosen, and why; or None.
        rescued: Whether another solver's `rescue` is tried after it.
        reads: The settings that it reads beside the rank and the seed.
        biased: Whether it always (never) has biases; None where that is a setting it reads, or it has means of columns.
        one_scale: Whether all columns are divided by the same: it has a noise of each column in its model, or none at all.
        shrinks: Whether a row with few entries is shrunk to what is typical, and so needs no fallback to biases.
        fills_empty: Whether it knows something of a column without any entry.
    """

    name: str
    title: str
    solve: Solve
    memory: Callable[[int, tuple[int, int], int], int]
    suits: Callable[[Entries, Settings], str | None] = _never
    check: Callable[[Entries, Mask, Settings], HeldOut] | None = None
    rescue: Callable[[Entries, Mask, Settings, Solved], tuple[Solved, str] | None] | None = None
    rescued: bool = False
    reads: frozenset[str] = frozenset()
    biased: bool | None = None
    one_scale: bool = False
    shrinks: bool = False
    fills_empty: bool = False

    @property
    def quick_check(self) -> bool:
        """Whether several tenths can be held out for little, and with them the only entry of a row: it then is typical, as one without any."""
        return self.shrinks and self.check is not None

    def held_out(self, entries: Entries, held: Mask, settings: Settings) -> HeldOut:
        """What it predicts for held-out entries."""
        return self.check(entries, held, settings) if self.check else self.solve(entries, held, settings).held_out


def described(entries: Entries) -> str:
    """The shape of a matrix, for the reason of a choice."""
    return f"{entries.shape[0]} x {entries.shape[1]} with {entries.density:.1%} observed"


def singular_values(factors: tuple[Array, Array]) -> Array:
    """Singular values of ``left @ right.T``, descending, as many as there are factors. Costs ``O((m + n) r^2)``."""
    left, right = (np.asarray(np.linalg.qr(factor, mode="r")) for factor in factors)
    values = np.linalg.svd(left @ right.T, compute_uv=False)
    return np.concatenate([values, np.zeros(factors[0].shape[1] - values.size)])


def root_mean_square(errors: Array) -> float:
    """Root mean square; NaN of nothing."""
    if not errors.size:
        return float("nan")
    largest = float(np.abs(errors).max())
    return largest * float(np.sqrt(np.mean((errors / largest) ** 2))) if 0 < largest < np.inf else largest


def hold_out(entries: Entries, share: float, seed: int, part: int = 0, *, last: bool = False) -> Mask:
    """A random share of the entries, disjoint from its other parts. No row and no column loses its last entry, unless `last`."""
    draws = np.random.default_rng(seed).random(entries.size)
    held = (draws >= part * share) & (draws < (part + 1) * share)
    if last:
        return held
    for index, counts in ((entries.rows, entries.row_counts), (entries.cols, entries.col_counts)):
        taken = np.bincount(index[held], minlength=counts.size)
        emptied = (taken == counts) & (counts > 0)
        if emptied.any():
            held &= ~emptied[index]
    return held


def to_dense(entries: Entries) -> tuple[Array, Mask]:
    """The ``(m, n)`` values with zeros in the holes, and where the entries are."""
    values, observed = np.zeros(entries.shape), np.zeros(entries.shape, np.bool_)
    values[entries.rows, entries.cols] = entries.values
    observed[entries.rows, entries.cols] = True
    return values, observed
