"""Weights at time zero: orthogonal, normal or uniform, of one scale or one scale per layer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._problem import haar
from lowdim.errors import UsageError, did_you_mean

Initialization = Literal["orthogonal", "normal", "uniform"]
KINDS = ("orthogonal", "normal", "uniform")


def initialize(
    widths: Sequence[int],
    random_state: np.random.Generator,
    *,
    kind: Initialization = "orthogonal",
    scale: float | Sequence[float] = 1.0,
) -> list[Float[np.ndarray, "m n"]]:
    r"""Random factors $W_1, \dots, W_L$ of a linear network, first layer first.

    Every kind is scaled to the Frobenius norm of the orthogonal one, $\varepsilon_l \sqrt{\min(m, n)}$, so that the
    kinds differ only in their spectrum.

    Args:
        widths: ``d_x, d_1, …, d_y``: L + 1 numbers for L factors.
        random_state: Source of randomness.
        kind: ``"orthogonal"`` (semi-orthogonal where not square), ``"normal"`` or ``"uniform"`` entries.
        scale: $\varepsilon$ for all layers, or one per layer.

    Returns:
        L matrices of shape ``(widths[l], widths[l - 1])``.

    Raises:
        UsageError: If a width, the scale or the kind is unusable.

    Example:
        >>> first, last = initialize([4, 4, 2], np.random.default_rng(0), scale=0.5)
        >>> first.shape, last.shape, round(float(np.linalg.norm(first)), 12)
        ((4, 4), (2, 4), 1.0)
    """
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    if not shapes or min(widths) < 1:
        raise UsageError(f"widths must be at least two positive numbers, input first; they are {list(widths)}.")
    if kind not in KINDS:
        raise UsageError(f"there is no initialisation {kind!r}. {did_you_mean(kind, KINDS)}")
    scales = np.broadcast_to(np.asarray(scale, float), len(shapes))
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UsageError(
            f"the initialisation scale must be > 0, not {scale}: at 0 every gradient is 0 and nothing is learned."
        )
    return [eps * _draw(shape, kind, random_state) for eps, shape in zip(scales, shapes, strict=True)]


def _draw(shape: tuple[int, int], kind: Initialization, random_state: np.random.Generator) -> Float[np.ndarray, "m n"]:
    if kind == "orthogonal":
        return haar(shape, random_state)
    normal = kind == "normal"
    matrix = random_state.standard_normal(shape) if normal else random_state.uniform(-1.0, 1.0, shape)
    return matrix * (np.sqrt(min(shape)) / np.linalg.norm(matrix))
