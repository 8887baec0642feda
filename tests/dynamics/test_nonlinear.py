"""A nonlinearity between the layers is seen in the data, and never where there is none."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from lowdim.dynamics import Problem, WeightHistory, balanced_labels, check_separation, one_hot, report_parsimony

WIDTH, CLASSES = 16, 4
LABELS = balanced_labels(CLASSES, WIDTH // CLASSES)
SOME = np.random.default_rng(0).standard_normal((CLASSES, WIDTH))
OPTIMIZERS = {
    "descent": functools.partial(torch.optim.SGD, lr=0.03),
    "momentum": functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "decay": functools.partial(torch.optim.SGD, lr=0.03, weight_decay=0.03),
    "adam": functools.partial(torch.optim.Adam, lr=2e-3),
}


def train(
    seed,
    activation,
    optimizer="descent",
    *,
    targets=None,
    scale=0.8,
    bias=False,
    batch=WIDTH,
    steps=150,
    every=30,
    rate=1.0,
):
    """Factors over time, and the loss at the end, of layers trained on the squared loss."""
    torch.manual_seed(seed)
    inputs = torch.eye(WIDTH, dtype=torch.float64)
    goals = torch.tensor(one_hot(LABELS, CLASSES) if targets is None else targets).T
    layers = [nn.Linear(WIDTH, WIDTH, bias=bias).double() for _ in range(3)]
    layers.append(nn.Linear(WIDTH, CLASSES, bias=bias).double())
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=scale)
    network = nn.Sequential(*(part for layer in layers for part in (layer, activation())))[:-1]
    stepper = OPTIMIZERS[optimizer](network.parameters())
    for group in stepper.param_groups:
        group["lr"] *= rate
    history, loss = [], torch.zeros(())
    for step in range(steps + 1):
        if step % every == 0:
            history.append([layer.weight.detach().numpy().copy() for layer in layers])
        chosen = torch.randperm(WIDTH)[:batch]
        loss = 0.5 * ((network(inputs[chosen]) - goals[chosen]) ** 2).sum() * WIDTH / batch
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    return history, loss.item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_nonlinearity_is_named_with_its_number(seed, activation):
    history, loss = train(seed, activation, targets=SOME, steps=900, every=150)
    report = report_parsimony(history, problem=Problem(SOME))
    assert report.causes[0].startswith("There is a nonlinearity between the layers")
    product = np.linalg.multi_dot(history[-1][::-1])
    assert loss < 0.5 * np.sum((product - SOME) ** 2)
    assert f"{np.sum((product - SOME) ** 2) / np.sum(SOME**2):.3g} of ||Y||^2 at step 6" in report.causes[0]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"bias": True}, {"batch": 4}, {"scale": 0.3}, {"steps": 20, "every": 10}])
def test_it_is_never_named_in_a_linear_network(seed, optimizer, options):
    for targets in (None, SOME):
        history, _ = train(seed, nn.Identity, optimizer, targets=targets, rate=0.25, **options)
        problem = Problem(one_hot(LABELS, CLASSES) if targets is None else targets)
        assert not any(
            "There is a nonlinearity" in cause for cause in report_parsimony(history, problem=problem).causes
        )


def test_separation_names_it_and_otherwise_how_to_go_on():
    problem = Problem(one_hot(LABELS, CLASSES))
    reasons = {}
    for name, activation, options in (
        ("relu", nn.ReLU, {"steps": 900, "every": 150}),
        ("short", nn.Identity, {"steps": 10, "every": 5}),
    ):
        history, _ = train(0, activation, **options)
        reasons[name] = check_separation(WeightHistory.of(history), problem, LABELS)[0].reason
    assert "nonlinearity between the layers" in reasons["relu"]
    assert "train longer" in reasons["short"]
