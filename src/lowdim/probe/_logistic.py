"""Penalised multinomial logistic regression in the basis of principal directions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from lowdim.errors import InputError

_ITERATIONS = 2000
ROUGH = {"gtol": 1e-5, "ftol": 1e-9}
"""On the path: held-out log losses right to four digits, in half the time."""
FINE = {"gtol": 1e-7, "ftol": 1e-14}


@dataclass(frozen=True)
class Rotated:
    """The features in the basis of their principal directions, scaled to total variance 1.

    The penalty does not change under rotation. There the Hessian is nearly diagonal, which the optimiser is told, and with
    fewer samples than features there are fewer coordinates.
    """

    rows: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    variances: np.ndarray
    scaled: bool

    @classmethod
    def of(cls, x: np.ndarray, units: np.ndarray | None = None) -> "Rotated":
        """The features rotated, each column divided by its unit first where those are given."""
        mean = x.mean(axis=0)
        divisors = np.ones(x.shape[1]) if units is None else units
        centred = (x - mean) / divisors
        scale = np.sqrt(np.mean(np.sum(centred**2, axis=1)))
        if scale == 0:
            raise InputError("The features are constant, so no probe can be fitted. Look at an earlier layer.")
        centred /= scale
        wide = len(x) < x.shape[1]
        gram = centred @ centred.T if wide else centred.T @ centred
        values, vectors = np.linalg.eigh(gram / len(x))
        keep = values > len(gram) * np.finfo(np.float64).eps * values[-1]
        values, vectors = values[keep], vectors[:, keep]
        basis = centred.T @ (vectors / np.sqrt(values * len(x))) if wide else vectors
        return cls(centred @ basis, mean, basis / scale / divisors[:, None], values, units is not None)


def minimise(
    problem: Rotated,
    chosen: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    strength: float,
    start: np.ndarray | None,
    tolerance: Mapping[str, float],
    curvature: float = 0.25,
) -> tuple[np.ndarray, bool]:
    """Weights and biases, ``(r + 1) x K``, of the penalised regression on the chosen rows; and whether it converged.

    `curvature` is what the loss curves by about, per sample; the closer, the fewer steps.
    """
    rows = problem.rows[chosen]
    hot = np.eye(int(labels.max()) + 1, dtype=rows.dtype)[labels[chosen]]
    classes = hot.shape[1]
    shares = (weights[chosen] / weights[chosen].sum())[:, None].astype(rows.dtype)
    # In these coordinates the Hessian is about diagonal; a quarter of the variances at most.
    scale = np.append(1 / np.sqrt(curvature * problem.variances + strength), 1 / np.sqrt(curvature))[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = (flat.reshape(-1, classes) * scale).astype(rows.dtype, copy=False)
        weight = solution[:-1]
        logits = rows @ weight + solution[-1]
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1, keepdims=True)
        difference = (likely / total - hot) * shares
        own = (logits * hot).sum(axis=1, keepdims=True)
        value = float(((np.log(total) - own) * shares).sum()) + 0.5 * strength * float((weight**2).sum())
        gradient = np.vstack([rows.T @ difference + strength * weight, difference.sum(axis=0)]) * scale
        return value, gradient.ravel().astype(np.float64, copy=False)

    first = np.zeros((rows.shape[1] + 1, classes)) if start is None else start / scale
    options = {"maxiter": _ITERATIONS, **tolerance}
    result = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(-1, classes) * scale, bool(result.success)
