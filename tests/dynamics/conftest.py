"""Plain gradient descent in a few lines of NumPy, sharing no code with the package."""

import numpy as np
import pytest


def plain_gradients(weights, phi):
    """Gradient of ||W_L … W_1 - Phi||_F^2 / 2, each factor on its own."""
    error, kind = np.linalg.multi_dot(weights[::-1]) - phi, weights[0].dtype
    result = []
    for layer in range(len(weights)):
        after = np.eye(weights[layer].shape[0], dtype=kind)
        for weight in weights[layer + 1 :]:
            after = weight @ after
        before = np.eye(phi.shape[1], dtype=kind)
        for weight in weights[:layer]:
            before = weight @ before
        result.append(after.T @ error @ before.T)
    return result


def plain_descent(weights, phi, steps, step, decay=0.0):
    history = [[w.copy() for w in weights]]
    for _ in range(steps):
        slopes = plain_gradients(history[-1], phi)
        history.append([(1 - step * decay) * w - step * g for w, g in zip(history[-1], slopes, strict=True)])
    return history


def plain_adam(weights, phi, steps, step):
    history = [[w.copy() for w in weights]]
    mean = [np.zeros_like(w) for w in weights]
    square = [np.zeros_like(w) for w in weights]
    for t in range(1, steps + 1):
        slopes = plain_gradients(history[-1], phi)
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, slopes, strict=True)]
        square = [0.999 * s + 0.001 * g * g for s, g in zip(square, slopes, strict=True)]
        history.append(
            [
                w - step * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
                for w, m, s in zip(history[-1], mean, square, strict=True)
            ]
        )
    return history


def plain_orthogonal(width, random_state):
    from scipy.stats import ortho_group

    return ortho_group.rvs(width, random_state=random_state)


class Plain:
    gradients = staticmethod(plain_gradients)
    descent = staticmethod(plain_descent)
    adam = staticmethod(plain_adam)
    orthogonal = staticmethod(plain_orthogonal)


@pytest.fixture(scope="session")
def plain():
    return Plain
