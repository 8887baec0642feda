"""A deep linear network as a list of factors, first layer first: products and gradients, of one or a batch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Factors = Sequence[Float[np.ndarray, "*batch m n"]]


def partial_products(factors: Factors) -> list[Float[np.ndarray, "*batch m n"]]:
    r"""$W_1,\; W_2 W_1,\; \dots,\; W_L \cdots W_1$."""
    products = [factors[0]]
    for factor in factors[1:]:
        products.append(factor @ products[-1])
    return products


def end_to_end(factors: Factors) -> Float[np.ndarray, "*batch m n"]:
    r"""$W_{L:1} = W_L \cdots W_1$."""
    return partial_products(factors)[-1]


def gradients(
    factors: Factors,
    phi: Float[np.ndarray, "*batch d_y d_x"],
    gram: Float[np.ndarray, "d_x d_x"] | None = None,
) -> list[Float[np.ndarray, "*batch m n"]]:
    r"""Gradient of $\tfrac12\lVert W_{L:1}X - Y\rVert_F^2$ in every factor.

    $$\nabla_l = W_{L:l+1}^\top \, (W_{L:1} X X^\top - Y X^\top) \, W_{l-1:1}^\top$$

    Args:
        factors: L factors.
        phi: ``Y X^T``.
        gram: ``X X^T``; None when it is the identity.

    Returns:
        L matrices. Cost: 6 (L - 1) d^3 operations for square factors of width d.
    """
    products = partial_products(factors)
    backward = products[-1] - phi if gram is None else products[-1] @ gram - phi
    result = [backward] * len(factors)
    for layer in range(len(factors) - 1, 0, -1):
        result[layer] = backward @ products[layer - 1].swapaxes(-1, -2)
        backward = factors[layer].swapaxes(-1, -2) @ backward
    result[0] = backward
    return result
