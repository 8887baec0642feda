r"""Progressive separation: how within-class scatter falls from layer to layer, in numbers and in theory."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from lowdim.dynamics._bases import Bases, Block
from lowdim.dynamics._network import partial_products
from lowdim.dynamics._trajectory import Trajectory
from lowdim.errors import EmptyClassError, InputError


def class_separation(
    features: Float[np.ndarray, "*batch d N"], labels: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "*batch"]:
    r"""$D = \operatorname{tr}\Sigma_W / \operatorname{tr}\Sigma_B$ of features given as columns; smaller is better separated.

    $\Sigma_W$ is the mean over samples of the squared deviation from their class mean, $\Sigma_B$ the mean over
    classes of the squared deviation of the class means from their mean.

    Args:
        features: One column per sample.
        labels: 0 … K - 1.

    Returns:
        Dimensionless, >= 0; 0 is full collapse.

    Raises:
        EmptyClassError: If a class below the largest label has no sample.
        InputError: If the class means coincide (D is undefined).

    Example:
        >>> class_separation(np.array([[0.0, 2.0, 10.0, 12.0]]), np.array([0, 0, 1, 1]))
        np.float64(0.04)
    """
    means, spread = _class_means(features, labels)
    return _within(features, means, labels) / spread


def separation_profile(
    weights: Sequence[Float[np.ndarray, "m n"]], inputs: Float[np.ndarray, "d_x N"], labels: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " L"]:
    r"""$D_0, \dots, D_{L-1}$ of the inputs and the outputs of all factors but the last.

    Args:
        weights: Factors, first layer first.
        inputs: One column per sample.
        labels: 0 … K - 1.

    Returns:
        L values, dimensionless; smaller is better separated.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If the class means of a layer coincide.

    Example:
        >>> stretch = np.diag([2.0, 1.0])  # the first axis separates the classes, the second does not
        >>> inputs = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
        >>> separation_profile([stretch, stretch, stretch], inputs, np.array([0, 0, 1, 1])).tolist()
        [1.0, 0.25, 0.0625]
    """
    features = [inputs]
    for weight in weights[:-1]:
        features.append(weight @ features[-1])
    return np.array([class_separation(z, labels) for z in features])


def separation_over_time(
    run: Trajectory, labels: Int[np.ndarray, " N"], time: float | None = None
) -> Float[np.ndarray, "*batch L"]:
    """`separation_profile` of a run at one time (None: all recorded), from the cores alone when it is reduced.

    The invariant parts of the inputs have no class mean (class means lie in the row space of ``Y X^T``), so each adds
    ``rho_1^2 … rho_l^2`` times its energy to the within-class scatter only.

    Args:
        run: A simulated run.
        labels: Class of each sample.
        time: One recorded time, or None.

    Returns:
        L values per run and time.

    Raises:
        EmptyClassError: If a class has no sample.

    Example:
        >>> from lowdim.dynamics import GradientDescent, Problem, balanced_labels, initialize, one_hot, simulate
        >>> labels = balanced_labels(classes=2, per_class=3)
        >>> weights = initialize([6, 6, 6, 2], np.random.default_rng(0))
        >>> run = simulate(Problem(one_hot(labels, 2)), weights, GradientDescent(0.1), steps=1)
        >>> np.round(separation_over_time(run, labels, time=0), 12).tolist()  # orthogonal layers separate nothing
        [4.0, 4.0, 4.0]
        >>> round(input_separation(per_class=3, samples=6), 12)
        4.0
    """
    inputs = np.eye(run.problem.phi.shape[1]) if run.problem.inputs is None else run.problem.inputs
    states = run.states.at(time)
    if run.reduction is None:
        features = [inputs, *(product @ inputs for product in partial_products(states)[:-1])]
        return np.stack(np.broadcast_arrays(*(class_separation(z, labels) for z in features)), -1)
    bases = run.reduction.bases
    inner = bases.right[0].swapaxes(-1, -2) @ inputs
    beside = _energy_beside(bases, inputs, inner)
    products = [np.eye(states[0].shape[-1]), *partial_products(states)[:-1]]
    values: list[np.ndarray] = []
    for layer, product in enumerate(products):
        features = run.reduction.inner(product, max(layer, 1)) @ inner
        means, spread = _class_means(features, labels)
        within = _within(features, means, labels)
        for block, energy in beside.items():
            within = within + run.reduction.number(product, max(layer, 1), block) ** 2 * energy
        values.append(within / spread)
    return np.stack(np.broadcast_arrays(*values), -1)


def _energy_beside(bases: Bases, inputs: np.ndarray, inner: np.ndarray) -> dict[Block, np.ndarray]:
    """Mean squared length of the inputs' silent and fading parts."""
    rest = np.sum(inputs**2) - np.sum(inner**2, (-2, -1))
    blocks = bases.blocks(1)
    if len(blocks) == 1:
        return {blocks[0]: rest / inputs.shape[1]}
    seen = np.sum((bases.through[0] @ inputs) ** 2, (-2, -1))
    fading = seen - np.sum(inner[..., : bases.sizes.outputs, :] ** 2, (-2, -1))
    return {"silent": (rest - fading) / inputs.shape[1], "fading": fading / inputs.shape[1]}


def sharp_ratio(scale: float, per_class: int, depth: int) -> float:
    r"""The ratio $D_{l+1}/D_l = \varepsilon^2 n^{-1/L}$ of a network trained from orthogonal weights of scale $\varepsilon$.

    A law found by this project for whitened square inputs and one-hot targets of balanced classes, not a published bound.

    Args:
        scale: $\varepsilon$ of the orthogonal initialisation.
        per_class: n.
        depth: L.

    Example:
        >>> round(sharp_ratio(0.1, per_class=10, depth=8), 5)
        0.0075
    """
    return scale**2 * per_class ** (-1 / depth)


def ratio_bound(scale: float, classes: int) -> float:
    r"""The proven bound $D_{l+1}/D_l \le 2(\sqrt K + 1)\varepsilon^2$; says nothing when it exceeds 1.

    Args:
        scale: $\varepsilon$ of the orthogonal initialisation.
        classes: K.

    References:
        Wang et al. (2023), arXiv:2311.02960.

    Example:
        >>> round(float(ratio_bound(0.1, classes=4)), 12)  # 2 x (2 + 1) x 0.01
        0.06
    """
    return 2 * (np.sqrt(classes) + 1) * scale**2


def input_separation(per_class: int, samples: int) -> float:
    r"""$D_0 = (1 - 1/n) / (1/n - 1/N)$ of orthonormal inputs.

    Args:
        per_class: n.
        samples: N.

    Example:
        >>> input_separation(per_class=10, samples=50)
        11.25
    """
    return (1 - 1 / per_class) / (1 / per_class - 1 / samples)


def last_pair_bound(scale: float, dimension: int, classes: int) -> float:
    r"""$\varepsilon^2\sqrt{d - K}$: the gap $\lVert W_L^\top W_L - W_{L-1} W_{L-1}^\top\rVert_F$ that the flow conserves.

    Args:
        scale: $\varepsilon$ of the orthogonal initialisation.
        dimension: d.
        classes: K.

    References:
        Wang et al. (2023), arXiv:2311.02960.

    Example:
        >>> float(last_pair_bound(0.5, dimension=20, classes=4))
        1.0
    """
    return scale**2 * np.sqrt(dimension - classes)


def log_line(values: Float[np.ndarray, " L"]) -> tuple[float, float]:
    """Slope and R^2 of the least-squares line through ``log values`` against the layer number.

    Args:
        values: Positive, one per layer.

    Returns:
        Slope per layer (natural logarithm) and R^2, 1 for an exact line.

    Example:
        >>> log_line(np.array([8.0, 4.0, 2.0, 1.0]))[1]
        1.0
    """
    logs, layers = np.log(values), np.arange(len(values))
    slope, offset = np.polyfit(layers, logs, 1)
    residual = np.sum((logs - slope * layers - offset) ** 2)
    return float(slope), float(1 - residual / np.sum((logs - logs.mean()) ** 2))


def insert_unbalanced(
    weights: Sequence[Float[np.ndarray, "m n"]], inputs: Float[np.ndarray, "d_x N"], labels: Int[np.ndarray, " N"]
) -> list[Float[np.ndarray, "m n"]]:
    r"""Another optimum with the same end-to-end matrix but no separation from layer to layer: a negative control.

    Inserts $A_l = P_l + c_l (I - P_l)$ after factor l and its inverse before factor l + 1, with $P_l$ the projector on the
    class means of layer l and $c_l = \sqrt{D_0 / D_l}$.

    Args:
        weights: An optimum, square but for the last factor.
        inputs: Orthonormal, one column per sample.
        labels: 0 … K - 1.

    Example:
        >>> labels = np.array([0, 0, 1, 1])
        >>> phi = np.eye(2)[:, labels]
        >>> optimum = untrained_optimum(phi, per_class=2, gains=[0.5, 0.5])
        >>> control = insert_unbalanced(optimum, np.eye(4), labels)
        >>> np.round(separation_profile(control, np.eye(4), labels), 12).tolist()
        [2.0, 2.0, 2.0]
        >>> np.allclose(control[2] @ control[1] @ control[0], phi)
        True
    """
    values = separation_profile(weights, inputs, labels)
    result: list[np.ndarray] = []
    features, undo = inputs, np.eye(inputs.shape[0])
    for weight, value in zip(weights[:-1], values[1:], strict=True):
        features = weight @ features
        means = np.linalg.qr(_class_means(features, labels)[0])[0]
        projector = means @ means.T
        rest = np.eye(len(projector)) - projector
        stretch = np.sqrt(values[0] / value)
        result.append((projector + stretch * rest) @ weight @ undo)
        undo = projector + rest / stretch
    return [*result, weights[-1] @ undo]


def untrained_optimum(
    phi: Float[np.ndarray, "K d"], per_class: int, gains: Sequence[float]
) -> list[Float[np.ndarray, "m n"]]:
    r"""An optimum written down without training: $W_l = P + g_l (I - P)$, $W_L = \Phi$, with $P = \Phi^\top\Phi / n$.

    Its ratios are $D_{l+1}/D_l = g_l^2$ for any gains: optimality alone says nothing about separation.

    Args:
        phi: ``Y X^T`` of one-hot targets and orthonormal inputs: balanced classes, so that ``phi phi^T = n I``.
        per_class: n.
        gains: One per factor but the last.

    Example:
        >>> labels = np.array([0, 0, 1, 1])
        >>> optimum = untrained_optimum(np.eye(2)[:, labels], per_class=2, gains=[0.5, 0.5])
        >>> separation_profile(optimum, np.eye(4), labels).tolist()
        [2.0, 0.5, 0.125]
    """
    projector = phi.T @ phi / per_class
    rest = np.eye(len(projector)) - projector
    return [*(projector + gain * rest for gain in gains), phi]


def _class_means(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class means as columns, and the trace of their scatter."""
    counts = np.bincount(labels)
    if len(labels) != features.shape[-1]:
        raise InputError(f"there are {features.shape[-1]} samples (columns) but {len(labels)} labels.")
    if len(counts) < 2 or not counts.all():
        raise EmptyClassError(
            f"separation needs samples of at least two classes 0..K-1, but the counts are {counts.tolist()}."
        )
    averaging = (labels[:, None] == np.arange(len(counts))) / counts
    means = features @ averaging
    spread = np.sum((means - means.mean(-1, keepdims=True)) ** 2, (-2, -1)) / len(counts)
    if not (spread > 0).all():
        raise InputError("the class means coincide: D = tr Sigma_W / tr Sigma_B is undefined (or features are NaN).")
    return means, spread


def _within(features: np.ndarray, means: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.sum((features - means[..., labels]) ** 2, (-2, -1)) / features.shape[-1]
