"""What the experiments after the lecture share."""

import numpy as np
from jaxtyping import Float

BEYOND = 5
"""Section of what came after the lecture."""


def stack_aligned(
    factors: Float[np.ndarray, "L r"],
    left: Float[np.ndarray, "r r"],
    right: Float[np.ndarray, "r r"],
    inner: list[Float[np.ndarray, "r r"]],
) -> list[Float[np.ndarray, "r r"]]:
    """Full factors with the given singular values: `right` and `left` outside, the rotations `inner` between the factors."""
    between = [right.T, *inner, left]
    return [
        (between[layer + 1] * factors[layer]) @ (between[layer] if layer == 0 else between[layer].T)
        for layer in range(len(factors))
    ]
