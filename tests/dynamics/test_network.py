import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowdim.dynamics import (
    Adam,
    GradientDescent,
    Polar,
    Problem,
    RMSprop,
    initialize,
    low_rank_target,
    simulate,
    train_relu,
)
from lowdim.dynamics._network import end_to_end, gradients, hessian
from lowdim.dynamics._rules import polar_factor

SHAPES = [(4, 3), (5, 4), (2, 5)]


def random_factors(seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape) for shape in SHAPES], random


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_gradients_against_autograd_on_unwhitened_inputs(seed):
    factors, random = random_factors(seed)
    x, y = random.standard_normal((3, 7)), random.standard_normal((2, 7))
    leaves = [torch.tensor(f, requires_grad=True) for f in factors]
    product = leaves[2] @ leaves[1] @ leaves[0]
    (0.5 * (product @ torch.tensor(x) - torch.tensor(y)).square().sum()).backward()
    problem = Problem(y, x)
    for ours, leaf in zip(gradients(factors, problem.phi, problem.gram), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-10, atol=1e-10)  # entries of order 10


def test_gradients_of_a_batch_are_those_of_each_run():
    random = np.random.default_rng(0)
    factors = [random.standard_normal((6, *shape)) for shape in SHAPES]
    phi = random.standard_normal((2, 3))
    batched = gradients(factors, phi)
    for run in range(6):
        for whole, single in zip(batched, gradients([f[run] for f in factors], phi), strict=True):
            np.testing.assert_allclose(whole[run], single, rtol=1e-12)


def test_hessian_against_finite_differences():
    factors, random = random_factors(1)
    phi = random.standard_normal((2, 3))
    directions = [random.standard_normal(shape) for shape in SHAPES]
    flat = np.concatenate([d.ravel() for d in directions])

    def slope(t):
        moved = [f + t * d for f, d in zip(factors, directions, strict=True)]
        return np.concatenate([g.ravel() for g in gradients(moved, phi)])

    second = hessian(factors, phi)
    np.testing.assert_allclose(second @ flat, (slope(1e-6) - slope(-1e-6)) / 2e-6, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(second, second.T)


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (GradientDescent(1e-2), lambda p: torch.optim.SGD(p, lr=1e-2)),
        (
            GradientDescent(1e-2, weight_decay=0.3, momentum=0.9),
            lambda p: torch.optim.SGD(p, lr=1e-2, weight_decay=0.3, momentum=0.9),
        ),
        (Adam(1e-2), lambda p: torch.optim.Adam(p, lr=1e-2)),
        (RMSprop(1e-2), lambda p: torch.optim.RMSprop(p, lr=1e-2)),
    ],
)
def test_rules_against_torch_optimizers(rule, reference):
    random = np.random.default_rng(0)
    weights = initialize([6, 6, 6, 4], random, kind="normal")
    phi = low_rank_target((4, 6), 2, random)
    run = simulate(Problem(phi), weights, rule, steps=40, mode="full")
    leaves = [torch.tensor(w, requires_grad=True) for w in weights]
    optimizer = reference(leaves)
    for _ in range(40):
        optimizer.zero_grad()
        (0.5 * (leaves[2] @ leaves[1] @ leaves[0] - torch.tensor(phi)).square().sum()).backward()
        optimizer.step()
    for layer, leaf in enumerate(leaves, 1):
        np.testing.assert_allclose(run.weight(layer, 40), leaf.detach().numpy(), rtol=1e-9, atol=1e-10)


def test_polar_factor_against_scipy():
    from scipy.linalg import polar

    matrix = np.random.default_rng(0).standard_normal((5, 5))
    np.testing.assert_allclose(polar_factor(matrix), polar(matrix)[0], atol=1e-13)  # entries of order 1


def test_polar_decay_is_decoupled():
    random = np.random.default_rng(0)
    weights, phi = initialize([5, 5, 5], random), low_rank_target((5, 5), 2, random)
    run = simulate(Problem(phi), weights, Polar(0.1, weight_decay=0.5), steps=1, mode="full")
    expected = 0.95 * weights[0] - 0.1 * polar_factor(weights[1].T @ (weights[1] @ weights[0] - phi))
    np.testing.assert_allclose(run.weight(1, 1), expected, atol=1e-14)  # entries of order 1


@pytest.mark.parametrize("kind", ["orthogonal", "normal", "uniform"])
@pytest.mark.parametrize("shape", [(6, 6), (4, 6), (6, 4)])
def test_every_initialization_has_the_norm_of_the_orthogonal_one(kind, shape):
    (weight,) = initialize([shape[1], shape[0]], np.random.default_rng(0), kind=kind, scale=0.3)
    assert weight.shape == shape
    np.testing.assert_allclose(np.linalg.norm(weight), 0.3 * 2 if 4 in shape else 0.3 * np.sqrt(6))
    if kind == "orthogonal":
        np.testing.assert_allclose(np.linalg.svd(weight, compute_uv=False), 0.3)


def test_haar_signs_are_random():
    """A QR without sign correction has a positive mean on the diagonal."""
    random = np.random.default_rng(0)
    corners = [initialize([3, 3], random)[0][0, 0] for _ in range(2000)]
    assert abs(np.mean(corners)) < 0.05  # standard error 0.013


def test_relu_network_against_autograd():
    random = np.random.default_rng(0)
    weights = initialize([6, 6, 6, 3], random, kind="normal")
    x, y = random.standard_normal((6, 9)), random.standard_normal((3, 9))
    run = train_relu(Problem(y, x), weights, step=1e-2, steps=30)
    leaves = [torch.tensor(w, requires_grad=True) for w in weights]
    optimizer = torch.optim.SGD(leaves, lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        hidden = torch.relu(leaves[1] @ torch.relu(leaves[0] @ torch.tensor(x)))
        (0.5 * (leaves[2] @ hidden - torch.tensor(y)).square().sum()).backward()
        optimizer.step()
    for ours, leaf in zip(run.weights, leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.detach().numpy(), rtol=1e-9, atol=1e-11)
    assert run.iterations == 30
    assert not run.converged
    np.testing.assert_allclose(run.features[2], np.maximum(run.weights[1] @ run.features[1], 0))


def test_end_to_end_is_the_product_in_the_right_order():
    factors, _ = random_factors(2)
    np.testing.assert_allclose(end_to_end(factors), factors[2] @ factors[1] @ factors[0])
