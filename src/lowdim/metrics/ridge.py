"""How much of numbers to be predicted is linear in features: ridge regression judged on samples that it has not seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lowdim._intervals import Z, together
from lowdim.errors import InputError

FOLDS = 5
PENALTIES = np.logspace(-6, 2, 17)
"""Per sample, of standardised features: from none to one that keeps nothing."""
_FEWEST = 2 * FOLDS


@dataclass(frozen=True)
class HeldOut:
    """What a ridge explains of samples that it has not seen.

    Attributes:
        r2: Mean over the outputs of 1 - squared error / squared deviation from the mean; 1 is all, below 0 is worse than the mean.
        by_output: The same of each output.
        influence: What each sample adds to `r2`, to first order, with its copies: the sum of squares is its variance under resampling.

    Example:
        >>> low, high = HeldOut(0.5, [0.5], np.full(100, 0.01)).interval
        >>> round(low, 3), round(high, 3)
        (0.336, 0.664)
    """

    r2: float
    by_output: list[float]
    influence: Float[np.ndarray, " n"]

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of `r2` under resampling of the samples; no R² is above 1."""
        half = Z * float(np.sqrt(np.sum(self.influence**2)))
        return self.r2 - half, min(self.r2 + half, 1.0)


def heldout_ridge(
    features: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n m"],
    test: tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "N m"]] | None = None,
    *,
    copies: Int[np.ndarray, " n"] | None = None,
    test_copies: Int[np.ndarray, " N"] | None = None,
    seed: int = 0,
) -> HeldOut:
    r"""$R^2$ of a ridge on samples that it has not seen: those of `test`, or each of the given ones by a ridge fitted to other folds.

    Features and targets are standardised by the samples fitted to; one penalty for all outputs is chosen among them by their
    leave-one-out error.

    Args:
        features: Fitted to.
        targets: One column per output.
        test: Judged on; default by cross-validation in five folds.
        copies: A number per sample, the same for identical ones: they stay in one fold, and count once in the interval.
        test_copies: The same of `test`.
        seed: Of the folds.

    Raises:
        InputError: If there are too few samples, or an output is constant.

    Note:
        Cost: one decomposition of the features, or five.

    References:
        Hoerl and Kennard (1970), "Ridge regression", Technometrics 12(1); scikit-learn's `RidgeCV`.

    Example:
        >>> hidden = np.random.default_rng(0).standard_normal((50, 3))
        >>> round(heldout_ridge(hidden, hidden[:, :1] - 2 * hidden[:, 1:2]).r2, 3)
        1.0
    """
    if len(features) < _FEWEST or len(features) != len(targets):
        raise InputError(
            f"{len(features)} features and {len(targets)} targets: the held-out R² needs a target for each of at least {_FEWEST} samples."
        )
    for rows in (targets, *(test[1:] if test else ())):
        if not (np.ptp(rows, axis=0) > 0).all():
            raise InputError("An output is constant, so no part of it can be explained. Leave it out.")
    if test is not None:
        return _judged(_fitted(features, targets)(test[0]), test[1], test_copies)
    predictions = np.empty_like(targets, dtype=np.float64)
    groups = np.arange(len(targets)) if copies is None else np.unique(copies, return_inverse=True)[1]
    part = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups] % FOLDS
    for fold in range(FOLDS):
        held = part == fold
        if held.all():
            raise InputError("All samples are copies of each other, so none can be held out.")
        if held.any():
            predictions[held] = _fitted(features[~held], targets[~held])(features[held])
    return _judged(predictions, targets, copies)


def _fitted(
    features: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n m"]
) -> Callable[[np.ndarray], np.ndarray]:
    """The predictions of a ridge."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = RidgeCV(alphas=len(features) * PENALTIES)
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), ridge), transformer=StandardScaler())
    model.fit(np.asarray(features, np.float64), np.asarray(targets, np.float64))
    return lambda rows: model.predict(np.asarray(rows, np.float64)).reshape(len(rows), -1)


def _judged(predictions: np.ndarray, targets: np.ndarray, copies: np.ndarray | None) -> HeldOut:
    errors, deviations = (predictions - targets) ** 2, (targets - targets.mean(axis=0)) ** 2
    error, deviation = errors.mean(axis=0), deviations.mean(axis=0)
    by_output = 1 - error / deviation
    moved = error / deviation**2 * (deviations - deviation) - (errors - error) / deviation
    influence = moved.mean(axis=1) / len(targets)
    return HeldOut(
        float(by_output.mean()), by_output.tolist(), influence if copies is None else together(influence, copies)
    )
