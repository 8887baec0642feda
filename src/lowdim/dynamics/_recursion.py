r"""The scalar $\rho(t)$ of the law of parsimony, from its own recursion: no matrix, no gradient."""

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._rules import GradientDescent, Polar, Rule, at
from lowdim.errors import UsageError


def scale_recursion(
    scale: float, rule: Rule, steps: int, *, depth: int, full_output: bool = True
) -> Float[np.ndarray, " steps+1"]:
    r"""$\rho(0), \dots, \rho(T)$ of one run in which all factors start at the same scale.

    With as many outputs as inputs (Case 2), gradient descent gives
    $\rho \leftarrow \rho\,(1 - \eta\lambda - \eta\rho^{2(L-1)})$, heavy-ball
    $v \leftarrow \beta v + \rho^{2L-1} + \lambda\rho,\; \rho \leftarrow \rho - \eta v$, and the polar update
    $\rho \leftarrow (1 - \eta\lambda)\rho - \eta\,\mathrm{sign}(\rho)$. With fewer outputs (Case 1) the gradient of the
    invariant part is zero and only weight decay acts: $\rho(t) = \varepsilon(1 - \eta\lambda)^t$.

    Args:
        scale: $\varepsilon = \rho(0)$.
        rule: `GradientDescent` or `Polar` with numbers for one run.
        steps: T.
        depth: L.
        full_output: Case 2 when True.

    Raises:
        UsageError: If the rule is neither.

    References:
        Yaras et al. (2023), arXiv:2306.01154.

    Example:
        >>> float(scale_recursion(1.0, GradientDescent(step=0.1), 1, depth=3)[1])
        0.9
    """
    if not isinstance(rule, GradientDescent | Polar):
        raise UsageError(f"{type(rule).__name__} has no recursion for rho: its update is not equivariant.")
    decay = float(np.asarray(rule.weight_decay))
    values = np.empty(steps + 1)
    values[0] = rho = float(scale)
    velocity = 0.0
    for iteration in range(steps):
        step = float(at(rule.step, iteration))
        slope = rho ** (2 * depth - 1) if full_output else 0.0
        if isinstance(rule, Polar):
            rho = (1 - step * decay) * rho - step * np.sign(slope)
        else:
            velocity = rule.momentum * velocity + slope + decay * rho
            rho -= step * velocity
        values[iteration + 1] = rho
    return values
