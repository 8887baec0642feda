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


def hessian(factors: Factors, phi: Float[np.ndarray, "d_y d_x"]) -> Float[np.ndarray, "p p"]:
    r"""Second derivative of the loss (whitened inputs) in all entries, factors one after the other, row by row.

    Block (l, k) acts on a change $\mathrm dW_k$ as
    $A_l^\top A_k\, \mathrm dW_k\, P_{k-1} P_{l-1}^\top + C_{kl}^\top\, \mathrm dW_k^\top A_k^\top E P_{l-1}^\top$ (the second
    term for k > l), with $A_l = W_{L:l+1}$, $P_l = W_{l:1}$, $C_{kl} = W_{k-1:l+1}$ and $E = W_{L:1} - \Phi$.
    """
    depth = len(factors)
    before = [np.eye(factors[0].shape[1]), *partial_products(factors)]
    error = before[-1] - phi
    after = [np.eye(factors[-1].shape[0])]
    for factor in reversed(factors[1:]):
        after.insert(0, after[0] @ factor)
    ends = np.cumsum([0, *(factor.size for factor in factors)])
    result = np.empty((ends[-1], ends[-1]))
    for row in range(depth):
        between = np.eye(factors[row].shape[0])
        for column in range(row, depth):
            left, right = after[row].T @ after[column], before[row] @ before[column].T
            block = left[:, None, :, None] * right[None, :, None, :]
            if column > row:
                outer = before[row] @ error.T @ after[column]
                block += between.T[:, None, None, :] * outer[None, :, :, None]
                between = factors[column] @ between
            flat = block.reshape(factors[row].size, factors[column].size)
            result[ends[row] : ends[row + 1], ends[column] : ends[column + 1]] = flat
            result[ends[column] : ends[column + 1], ends[row] : ends[row + 1]] = flat.T
    return result
