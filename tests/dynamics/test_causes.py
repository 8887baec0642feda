"""Weights trained by PyTorch, which shares no code with the package: what `check` says of them, and why."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lowdim.dynamics import (
    Bases,
    GradientDescent,
    Polar,
    Problem,
    WeightHistory,
    balanced_labels,
    check_parsimony,
    check_separation,
    initialize,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    report_parsimony,
    simulate,
)
from lowdim.dynamics._network import gradients
from lowdim.dynamics.samples import read_samples
from lowdim.errors import InputError

WIDTH, SAMPLES = 30, 90
INPUTS = {
    "whitened": lambda random: orthogonal_inputs(WIDTH, SAMPLES, random),
    "covariance": lambda random: np.sqrt(SAMPLES) * orthogonal_inputs(WIDTH, SAMPLES, random),
    "gaussian": lambda random: random.standard_normal((WIDTH, SAMPLES)) / np.sqrt(SAMPLES),
}
OUTPUTS = {30: 3, 20: 2, 3: 3}  # and rank: Case 2, both parts, Case 1


@functools.cache
def samples(kind, outputs):
    random = np.random.default_rng(0)
    inputs = INPUTS[kind](random)
    targets = 2 * low_rank_target((outputs, WIDTH), OUTPUTS[outputs], random) @ inputs
    return inputs.astype(np.float32), targets.astype(np.float32)


def sgd(**options):
    return lambda network: torch.optim.SGD(network.parameters(), **options)


def adam(rate):
    return lambda network: torch.optim.Adam(network.parameters(), lr=rate)


def muon(network):
    return torch.optim.Muon([p for p in network.parameters() if p.ndim == 2], lr=1e-2)


def train(inputs, targets, optimizer, *, steps=40, eps=1.0, depth=3, bias=False, batch=None, kind=torch.float32):
    torch.manual_seed(0)
    widths = [len(inputs)] * depth + [len(targets)]
    layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(widths)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=eps)
    network = nn.Sequential(*layers).to(kind)
    x, y = torch.tensor(inputs.T, dtype=kind), torch.tensor(targets.T, dtype=kind)
    step = optimizer(network)
    history = []
    for _ in range(steps + 1):
        history.append([layer.weight.detach().numpy().copy() for layer in layers])
        rows = slice(None) if batch is None else torch.randperm(len(x))[:batch]
        step.zero_grad()
        (0.5 * (network(x[rows]) - y[rows]).square().sum()).backward()
        step.step()
    return history


def answers(history, problem=None):
    return [check.holds for check in check_parsimony(history, problem=problem)]


def cast(history, kind):
    return [[weight.astype(kind) for weight in step] for step in history]


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (sgd(lr=1e-2), []),
        (sgd(lr=2e-3, momentum=0.9), ["momentum 0.9"]),
        (sgd(lr=1e-2, weight_decay=0.5), ["weight decay 0.5"]),
        (sgd(lr=2e-3, momentum=0.9, weight_decay=0.5), ["momentum 0.9", "weight decay 0.5"]),
    ],
    ids=["plain", "heavy ball", "decay", "both"],
)
def test_full_batches_hold_and_their_update_is_named(outputs, kind, optimizer, words):
    inputs, targets = samples("whitened", outputs)
    history = train(inputs, targets, optimizer, kind=kind)
    report = report_parsimony(history, problem=Problem(targets, inputs))
    assert all(check.holds for check in report.checks), report.checks
    assert answers(history) == [True] * 3
    assert "gradient descent on all of the data" in report.update
    assert all(word in report.update for word in words)
    assert ("momentum" in report.update, "decay" in report.update) == ("momentum" in str(words), "decay" in str(words))
    assert report.causes == []
    assert report.share[-1].min() > 1 - 1e-6


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"optimizer": sgd(lr=3e-3), "bias": True}, "biases"),
        ({"optimizer": sgd(lr=1e-2), "batch": 16}, "minibatches"),
        ({"optimizer": sgd(lr=1e-2, momentum=0.5, weight_decay=0.1), "batch": 30}, "minibatches"),
        ({"optimizer": muon}, "Newton-Schulz"),
        ({"optimizer": muon, "eps": 0.3}, "Newton-Schulz"),
        ({"optimizer": adam(1e-3)}, "as Adam"),
    ],
    ids=["bias", "minibatch", "minibatch with momentum", "Muon", "Muon, small start", "Adam"],
)
def test_the_first_reason_is_the_true_one(outputs, options, cause):
    inputs, targets = samples("whitened", outputs)
    history = train(inputs, targets, **options)
    report = report_parsimony(history, problem=Problem(targets, inputs))
    broken = [check for check in report.checks if not check.holds]
    assert broken[0].name == "invariant subspaces"
    assert cause in broken[0].reason
    assert cause in report.causes[0]
    assert len(report.causes) == 1
    assert report.share[-1].min() < 1 - 1e-6


@pytest.mark.parametrize("eps", [1.0, 0.3, 0.1])
@pytest.mark.parametrize(("outputs", "width"), [(1, 12), (1, 30), (30, 30)])
def test_muon_on_gradients_of_rank_one_is_named(eps, outputs, width):
    """One visible singular value is all that bfloat16 leaves of the gradient; its noise fills the other directions."""
    random = np.random.default_rng(3)
    inputs = orthogonal_inputs(width, SAMPLES, random)
    targets = 2 * low_rank_target((outputs, width), 1, random) @ inputs
    history = train(inputs, targets, muon, steps=5, eps=eps)
    assert "Newton-Schulz" in report_parsimony(history, problem=Problem(targets, inputs)).causes[0]


@pytest.mark.parametrize("optimizer", [adam(1e-3), lambda network: torch.optim.RMSprop(network.parameters(), lr=1e-3)])
def test_other_optimizers_on_gradients_of_rank_one_are_not_taken_for_muon(optimizer):
    random = np.random.default_rng(3)
    inputs = orthogonal_inputs(12, SAMPLES, random)
    targets = 2 * low_rank_target((1, 12), 1, random) @ inputs
    report = report_parsimony(train(inputs, targets, optimizer, steps=5), problem=Problem(targets, inputs))
    assert "as Adam" in report.causes[0]


class Clipped(torch.optim.SGD):
    """Gradient descent with clipped gradients, as `torch.nn.utils.clip_grad_norm_` before each step."""

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.1)
        return super().step(closure)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("eps", "depth"), [(0.3, 2), (0.7, 3), (1.0, 4)])
def test_clipped_gradients_are_a_step_that_changes(kind, momentum, eps, depth):
    inputs, targets = samples("whitened", 30)
    history = train(inputs, targets, lambda network: Clipped(network.parameters(), lr=0.05, momentum=momentum), steps=8, eps=eps, depth=depth, kind=kind)  # fmt: skip
    report = report_parsimony(history, problem=Problem(targets, inputs))
    assert report.causes == []
    assert "a schedule, or clipped gradients" in report.update
    assert ("momentum 0.9" in report.update, "momentum" in report.update) == (momentum > 0, momentum > 0)


FAMILIES = [(2, 20, 1.0, 20, 2), (3, 60, 0.3, 40, 3), (4, 12, 0.3, 8, 2), (5, 30, 1.0, 3, 3)]
"""Depth, width, scale of the start, outputs, rank."""


def other_samples(width, outputs, rank):
    random = np.random.default_rng(1)
    inputs = orthogonal_inputs(width, 3 * width, random)
    targets = 2 * low_rank_target((outputs, width), rank, random) @ inputs
    return inputs.astype(np.float32), targets.astype(np.float32)


def weights_of(network):
    return [p for p in network.parameters() if p.ndim == 2]


OPTIMIZERS = {
    "minibatch": ({"optimizer": sgd(lr=5e-3), "batch": 8}, "minibatches"),
    "minibatch, small steps": ({"optimizer": sgd(lr=5e-4), "batch": 8}, "minibatches"),
    "bias": ({"optimizer": sgd(lr=5e-3), "bias": True}, "biases"),
    "Muon without decay": ({"optimizer": lambda n: torch.optim.Muon(weights_of(n), lr=5e-3, weight_decay=0)}, "Newton-Schulz"),
    "Muon with Adam's size": ({"optimizer": lambda n: torch.optim.Muon(weights_of(n), lr=5e-3, adjust_lr_fn="match_rms_adamw")}, "Newton-Schulz"),
    "AdamW": ({"optimizer": lambda n: torch.optim.AdamW(n.parameters(), lr=1e-3, weight_decay=0.1)}, "as Adam"),
    "RMSprop": ({"optimizer": lambda n: torch.optim.RMSprop(n.parameters(), lr=1e-4)}, "as Adam"),
    "Adagrad": ({"optimizer": lambda n: torch.optim.Adagrad(n.parameters(), lr=1e-3)}, "as Adam"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_reason_is_the_true_one_in_other_families(family, name):
    depth, width, eps, outputs, rank = family
    inputs, targets = other_samples(width, outputs, rank)
    options, cause = OPTIMIZERS[name]
    history = train(inputs, targets, depth=depth, eps=eps, **options)
    report = report_parsimony(history, problem=Problem(targets, inputs))
    assert cause in report.causes[0]
    if cause == "as Adam":
        assert cause in report_parsimony(history).causes[0]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize(
    ("optimizer", "momentum"),
    [(sgd(lr=5e-3), ""), (sgd(lr=1e-3, momentum=0.9), "0.9"), (sgd(lr=1e-3, momentum=0.9, nesterov=True), "0.9")],
    ids=["plain", "heavy ball", "Nesterov"],
)
def test_a_term_is_named_only_where_it_is_there(family, optimizer, momentum):
    depth, width, eps, outputs, rank = family
    inputs, targets = other_samples(width, outputs, rank)
    report = report_parsimony(
        train(inputs, targets, optimizer, depth=depth, eps=eps, kind=torch.float64), problem=Problem(targets, inputs)
    )
    assert all(check.holds for check in report.checks if check.name != "loss identity")
    assert "gradient descent on all of the data" in report.update
    assert ("momentum " + momentum in report.update) if momentum else ("momentum" not in report.update)
    assert "decay" not in report.update


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_beginning_that_is_missing_is_seen_in_other_families(family):
    depth, width, eps, outputs, rank = family
    inputs, targets = other_samples(width, outputs, rank)
    history = train(inputs, targets, sgd(lr=5e-3), depth=depth, eps=eps)
    assert "does not begin at the start" in check_parsimony(history[8:])[0].reason


def test_weights_of_another_distribution_are_not_taken_for_a_late_history():
    random = np.random.default_rng(0)
    for width in (10, 100):
        start = [random.standard_normal((width, width)) / np.sqrt(width) for _ in range(2)]
        assert "does not begin" not in check_parsimony([start, [1.1 * weight for weight in start]])[0].reason


def test_coarse_arithmetic_and_another_loss_are_named():
    """Products in bfloat16 on weights in float32, and full batches of the cross-entropy."""
    inputs, targets = other_samples(20, 20, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        history = train(inputs, targets, sgd(lr=5e-3))
    assert "coarser than those of the weights" in report_parsimony(history, problem=Problem(targets, inputs)).causes[0]
    labels = np.arange(60) % 3
    targets = np.eye(3, dtype=np.float32)[:, labels]
    layers = [nn.Linear(20, 20, bias=False), nn.Linear(20, 20, bias=False), nn.Linear(20, 3, bias=False)]
    torch.manual_seed(0)
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    network, history = nn.Sequential(*layers), []
    step = torch.optim.SGD(network.parameters(), lr=1e-2)
    for _ in range(20):
        history.append([layer.weight.detach().numpy().copy() for layer in layers])
        step.zero_grad()
        nn.functional.cross_entropy(network(torch.tensor(inputs.T)), torch.tensor(labels), reduction="sum").backward()
        step.step()
    report = report_parsimony(history, problem=Problem(targets, inputs))
    assert "cross-entropy" in report.causes[0]


OTHERS = {
    "a tenth of the samples": ({"batch": 9}, "9 of the 90 samples, so of minibatches"),
    "Huber": ({"loss": lambda out, y: nn.functional.huber_loss(out, y, reduction="sum", delta=0.1)}, "another loss or other targets"),
    "classes that weigh more": ({"loss": lambda out, y: (torch.linspace(1, 2, len(y))[:, None] * (out - y).square()).sum()}, "samples count differently"),
    "Adam with a large epsilon": ({"optimizer": lambda n: torch.optim.Adam(n.parameters(), lr=1e-2, eps=1.0)}, "a + b |g|"),
    "L1": ({"penalty": 0.5}, "an L1 penalty"),
    "ReLU": ({"between": torch.relu}, "nonlinearity between the layers (ReLU)"),
    "GELU": ({"between": nn.functional.gelu}, "nonlinearity between the layers (GELU)"),
    "residual": ({"skipped": (1,)}, "Factors 2 have skip connections"),
    "noise": ({"noise": 0.05}, "something was added (noise"),
    "dropout": ({"between": nn.functional.dropout}, "dropout"),
    "RAdam": ({"optimizer": lambda n: torch.optim.RAdam(n.parameters(), lr=1e-2)}, "RAdam begins to scale"),
}  # fmt: skip


def train_otherwise(
    inputs, targets, *, optimizer=None, loss=None, penalty=0.0, between=None, skipped=(), noise=0.0, batch=None
):
    """What is not a product of factors under the squared loss and an equivariant optimizer, one departure at a time."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise([len(inputs)] * 3 + [len(targets)]))
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=0.7)
    x, y = torch.tensor(inputs.T), torch.tensor(targets.T)
    step = (optimizer or sgd(lr=5e-3))(layers)
    history = []
    for _ in range(12):
        history.append([layer.weight.detach().numpy().copy() for layer in layers])
        rows = slice(None) if batch is None else torch.randperm(len(x))[:batch]
        out = x[rows]
        for index, layer in enumerate(layers):
            seen = layer(out)
            out = (between(seen) if between and index < len(layers) - 1 else seen) + (out if index in skipped else 0)
        step.zero_grad()
        value = loss(out, y[rows]) if loss else 0.5 * (out - y[rows]).square().sum()
        (value + penalty * sum(layer.weight.abs().sum() for layer in layers)).backward()
        for layer in layers:
            layer.weight.grad += noise * torch.randn_like(layer.weight)
        step.step()
    return history


@pytest.mark.parametrize("name", OTHERS)
def test_departures_that_looked_like_another_are_told_apart(name):
    random = np.random.default_rng(0)
    inputs = samples("whitened", 20)[0]
    # singular values that differ: where they agree, noise cannot be told from Muon, which makes them agree
    targets = (
        initialize([20, 20], random)[0][:, :2] * [4.0, 2.0] @ initialize([30, 30], random)[0][:2] @ inputs
    ).astype(np.float32)
    options, words = OTHERS[name]
    report = report_parsimony(train_otherwise(inputs, targets, **options), problem=Problem(targets, inputs))
    assert words in report.causes[0]


def test_biases_are_seen_in_a_short_history_of_small_steps():
    random = np.random.default_rng(0)
    inputs = orthogonal_inputs(40, 200, random).astype(np.float32)
    targets = (2 * low_rank_target((4, 40), 3, random) @ inputs).astype(np.float32)
    history = train(inputs, targets, sgd(lr=5e-4), eps=0.3, depth=4, bias=True)
    assert "biases" in report_parsimony(history, problem=Problem(targets, inputs)).causes[0]


def test_equivariant_updates_that_are_no_plain_descent_hold():
    """Sharpness-aware steps, and a frozen first factor, of which the directions come from the data."""
    random = np.random.default_rng(0)
    problem = Problem(2 * low_rank_target((20, 30), 2, random))
    start = initialize([30, 30, 30, 20], random, scale=0.7)
    for radius, free in ((0.05, (1, 1, 1)), (0.0, (0, 1, 1))):
        history = [start]
        for _ in range(30):
            slopes = gradients(history[-1], problem.phi)
            size = np.sqrt(sum(np.sum(slope**2) for slope in slopes))
            ahead = [weight + radius / size * slope for weight, slope in zip(history[-1], slopes, strict=True)]
            slopes = gradients(ahead, problem.phi)
            history.append([w - 5e-3 * f * slope for w, slope, f in zip(history[-1], slopes, free, strict=True)])
        report = report_parsimony(history, problem=problem)
        assert all(check.holds for check in report.checks), report.checks
    with pytest.raises(InputError, match="factor 1 never changes while others do"):
        report_parsimony(history)


def test_inputs_that_are_not_whitened_come_first_with_their_condition():
    inputs, targets = samples("gaussian", 20)
    condition = np.linalg.cond(inputs.astype(float))
    for optimizer, more in ((sgd(lr=1e-2), 0), (adam(1e-3), 1)):
        report = report_parsimony(train(inputs, targets, optimizer), problem=Problem(targets, inputs))
        first = next(check for check in report.checks if not check.holds)
        assert first.name == "whitened inputs"
        assert f"condition of X: {condition:.3g}" in first.reason
        assert first.reason.endswith(report.causes[0])
        assert len(report.causes) == 1 + more
    assert "as Adam" in report.causes[1]


def test_a_covariance_of_any_size_is_whitened():
    """X X^T = N I, as standardised data have it: only the clock is another."""
    inputs, targets = samples("covariance", 20)
    history = train(inputs, targets, sgd(lr=1e-2 / SAMPLES, weight_decay=9.0))
    report = report_parsimony(history, problem=Problem(targets, inputs))
    assert all(check.holds for check in report.checks), report.checks
    assert "X X^T / 90" in report.checks[1].reason
    assert (
        "step 0.000111" in report.update and "weight decay 9" in report.update
    )  # as they were set, not in units of X X^T


def test_from_weights_alone_the_kind_of_step_is_known():
    inputs, targets = samples("whitened", 20)
    for options, cause in (
        ({"optimizer": sgd(lr=1e-2), "batch": 16}, "The data (`data`) would tell"),
        ({"optimizer": adam(1e-3)}, "as Adam"),
        ({"optimizer": adam(1e-3)}, "signs are those of the gradient takes the data (`data`) to tell"),
        ({"optimizer": muon}, "Newton-Schulz"),
    ):
        report = report_parsimony(train(inputs, targets, **options))
        assert not report.checks[-1].holds
        assert cause in report.causes[0]


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("eps", [1.0, 0.05])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_adam_never_holds_and_float16_decides_nothing(rate, eps, kind):
    inputs, targets = samples("whitened", 30)
    problem = Problem(targets, inputs)
    history = train(inputs, targets, adam(rate), steps=20, eps=eps, kind=kind)
    for given in (problem, None):
        found = answers(history, given)
        assert False in found
        assert found[-1] is not True or given is not None
        coarse = answers(cast(history, np.float16), given)
        assert set(coarse) <= {None, True}
        assert coarse[-1] is None and coarse[-2] is None


def test_a_change_below_the_precision_is_undecided():
    inputs, targets = samples("whitened", 30)
    problem = Problem(targets, inputs)
    short = train(inputs, targets, sgd(lr=1e-6), steps=3)
    assert answers(short, problem)[2:] == [None] * 3
    assert "Undecided at this precision" in check_parsimony(short, problem=problem)[2].reason
    tiny = train(inputs, targets, adam(1e-9), steps=3)
    assert False not in answers(tiny, problem)
    assert None in answers(tiny, problem)


def test_bfloat16_stays_bfloat16_in_other_files(tmp_path):
    """NumPy has no bfloat16; and numbers that are bfloat16 numbers are not more precise for being stored as float32."""
    inputs, targets = samples("whitened", 30)
    history = train(inputs, targets, sgd(lr=1e-2), steps=2)
    for step, weights in enumerate(history):
        tensors = {str(number): torch.tensor(weight).bfloat16() for number, weight in enumerate(weights, 1)}
        save_file(tensors, tmp_path / f"{step}.safetensors")
    found = WeightHistory.from_folder(tmp_path)
    assert found.precision == 2**-7
    np.testing.assert_array_equal(found.weight(2, 1), torch.tensor(history[1][1]).bfloat16().double().numpy())
    again = WeightHistory.of(
        [[np.asarray(found.weight(layer, t), np.float32) for layer in (1, 2, 3)] for t in range(3)]
    )
    assert again.precision == 2**-7
    assert answers(again)[-1] is None


def test_precision_and_time_of_a_history(tmp_path):
    random = np.random.default_rng(0)
    for name, kind in (("step-0", np.float64), ("step-100", np.float32)):
        save_file({"1": torch.tensor(random.standard_normal((4, 4)).astype(kind))}, tmp_path / f"{name}.safetensors")
    history = WeightHistory.from_folder(tmp_path)
    assert history.precision == np.finfo(np.float32).eps  # of the coarsest file, not of the first
    assert history.iterations.tolist() == [0, 100]
    np.testing.assert_allclose(history.rounding, 2.0**-23 * np.array([2, 42]))
    assert WeightHistory(["start", "end"], [(4, 4)], 1e-16, history.read).iterations.tolist() == [0, 1e4]


def test_the_files_of_a_float32_training(tmp_path):
    """What `check --data` reads: both arrays in float32, the rank cut-off follows them."""
    inputs, targets = samples("whitened", 30)
    np.savez(tmp_path / "data.npz", x=inputs, y=targets)
    problem = read_samples(tmp_path / "data.npz", (30, 30)).problem
    assert problem.precision == np.finfo(np.float32).eps
    assert answers(train(inputs, targets, sgd(lr=1e-2)), problem) == [True] * 5
    np.savez(tmp_path / "data.npz", x=np.eye(3, dtype=np.float16), y=np.eye(3, dtype=np.float16))
    assert (
        read_samples(tmp_path / "data.npz", (3, 3)).problem.precision == np.finfo(float).eps
    )  # whole numbers are exact


def history_of(*shapes, zero=None):
    random = np.random.default_rng(0)
    start = [np.linalg.svd(random.standard_normal(shape), full_matrices=False) for shape in shapes]
    weights = [u @ v for u, _, v in start]
    if zero is not None:
        weights[zero] = 0 * weights[zero]
    return [weights, [w + 0.1 * random.standard_normal(w.shape) for w in weights]]


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (history_of((4, 30), (30, 4), zero=1), ["meet in 4 dimensions, as those of LoRA", "factor 2 starts at zero"]),
        (history_of((30, 30), (30, 30), zero=1), ["factor 2 is zero at the start", "no gradient"]),
        (history_of((40, 30), (30, 40)), ["factor 1 is 40 x 30", "square factors"]),
        (history_of((30, 30), (30, 30))[1:] * 2, ["drawn otherwise, or are not the first"]),
    ],
    ids=["LoRA", "zero", "not square", "Gaussian"],
)
def test_factors_outside_the_theorem_get_a_true_sentence(history, words):
    report = report_parsimony(history)
    assert [check.holds for check in report.checks] == [False]
    assert all(word in report.checks[0].reason for word in words)
    assert report.causes == [report.checks[0].reason]


def test_a_history_that_begins_later_says_so():
    inputs, targets = samples("whitened", 20)
    history = train(inputs, targets, sgd(lr=1e-2))
    check = check_parsimony(history[10:])[0]
    assert check.holds is False
    assert "does not begin at the start" in check.reason


def test_a_single_factor_is_linear_regression():
    random = np.random.default_rng(0)
    phi = low_rank_target((12, 12), 2, random)
    weights = [initialize([12, 12], random)[0]]
    for _ in range(20):
        weights.append(weights[-1] - 0.05 * (weights[-1] - phi))
    checks = check_parsimony([[weight] for weight in weights], problem=Problem(phi))
    assert all(check.holds for check in checks)
    assert "linear regression" in checks[0].reason


def test_exact_polar_steps_hold_while_rho_is_away_from_zero():
    """Of steps 1e-2 from rho = 1 the hundredth reaches 0; from then on rounding is amplified."""
    random = np.random.default_rng(0)
    problem = Problem(low_rank_target((12, 12), 2, random))
    run = simulate(problem, initialize([12] * 4, random), Polar(1e-2), steps=200, mode="full")
    history = [run.weights(time) for time in run.times]
    assert answers(history[:51], problem) == [True] * 5
    report = report_parsimony(history, problem=problem)
    assert "exact polar factor" in report.causes[0]


@pytest.mark.parametrize("seed", range(3))
def test_both_parts_are_found_in_weights_alone(seed):
    """m_1 = 8 and m_2 = 16 of 30: one common number for both took the smaller part for learned directions."""
    random = np.random.default_rng(seed)
    problem = Problem(low_rank_target((20, 30), 2, random))
    run = simulate(problem, initialize([30, 30, 30, 20], random, scale=0.3), GradientDescent(0.02, 0.01), steps=200, mode="full", record=10)  # fmt: skip
    report = report_parsimony(run)
    assert all(check.holds for check in report.checks), report.checks
    assert (
        "8 singular values of each factor but the last and 16 singular values of each factor" in report.checks[2].reason
    )
    np.testing.assert_allclose(report.chance, report_parsimony(run, problem=problem).chance)


def separating(kind=np.float32):
    random = np.random.default_rng(0)
    labels = balanced_labels(3, 10)
    inputs = orthogonal_inputs(30, 30, random)
    problem = Problem(one_hot(labels, 3), inputs)
    run = simulate(problem, initialize([30, 30, 30, 3], random, scale=0.2), GradientDescent(4e-3), steps=4000, mode="full", record=4000)  # fmt: skip
    return [run.weights(0), run.weights(4000)], Problem(one_hot(labels, 3), inputs.astype(kind)), labels


def test_separation_in_float32_holds_and_in_float16_is_undecided():
    history, problem, labels = separating()
    checks = check_separation(cast(history, np.float32), problem, labels)
    assert all(check.holds for check in checks), checks
    assert next(check for check in checks if check.name == "D_0 by formula").residual > 1e-12
    _, coarse, _ = separating(np.float16)
    found = {check.name: check.holds for check in check_separation(cast(history, np.float16), coarse, labels)}
    assert found["D_0 by formula"] is None and found["unchanged spectrum"] is None
    assert False not in found.values()


def test_separation_holds_for_descent_that_ran_in_float32(plain):
    """PyTorch's SGD, and a loop in NumPy all of whose arrays are float32."""
    _, problem, labels = separating()
    trained = train(np.asarray(problem.inputs), problem.targets, sgd(lr=4e-3), steps=1500, eps=0.2)
    start = [np.asarray(weight, np.float32) for weight in trained[0]]
    target = (problem.targets @ np.asarray(problem.inputs).T).astype(np.float32)  # of inputs that are orthonormal
    looped = plain.descent(start, target, 1500, np.float32(4e-3))
    assert {weight.dtype for weight in looped[-1]} == {np.dtype(np.float32)}
    for history in (trained, looped):
        checks = check_separation([history[0], history[-1]], problem, labels)
        assert [check.holds for check in checks] == [True] * len(checks), checks
        assert all(check.holds for check in check_parsimony(history, problem=problem))


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
def test_separation_never_holds_for_adam(rate):
    _, problem, labels = separating()
    history = train(np.asarray(problem.inputs), problem.targets, adam(rate), steps=300, eps=0.2)
    assert False in [check.holds for check in check_separation([history[0], history[-1]], problem, labels)]


def noisy(steps=40, size=0.3, seed=0, depth=3):
    """Descent whose gradients have equal leading singular values, with noise of a part of their length."""
    random = np.random.default_rng(seed)
    problem = Problem(2 * low_rank_target((20, 20), 2, random))
    history = [initialize([20] * (depth + 1), random, scale=0.5)]
    for _ in range(steps):
        slopes = gradients(history[-1], problem.phi)
        noise = [size * np.linalg.norm(s) / 20 * random.standard_normal(s.shape) for s in slopes]
        history.append([w - 0.02 * (s + n) for w, s, n in zip(history[-1], slopes, noise, strict=True)])
    return history, problem


@pytest.mark.parametrize("size", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_on_agreeing_singular_values_is_not_muon(size, seed):
    """bfloat16 fills the other directions of a gradient as noise does; the length of the steps, which follows the gradient, tells."""
    for steps in (5, 120):
        history, problem = noisy(steps, size, seed)
        for given in (problem, None):
            cause = report_parsimony(history, problem=given).causes[0]
            assert "noise" in cause
            assert "noise" in cause.split(":")[0] or "Muon's Newton-Schulz iteration, which is not" not in cause


def sparse(history, times):
    weights = [[np.asarray(weight) for weight in history[time]] for time in times]
    found = WeightHistory.of(weights)
    return WeightHistory([str(time) for time in times], found.shapes, found.precision, found.read)


@pytest.mark.parametrize("times", [(0, 40), (0, 13, 26, 40)])
def test_nothing_is_said_of_the_first_step_where_many_lie_between(times):
    inputs, targets = samples("whitened", 20)
    for options in (
        {"optimizer": sgd(lr=1e-2), "batch": 8},
        {"optimizer": muon},
        {"optimizer": sgd(lr=3e-3, momentum=0.5), "batch": 30},
    ):
        history = sparse(train(inputs, targets, **options), times)
        cause = report_parsimony(history, problem=Problem(targets, inputs)).causes[0]
        assert f"{times[1]} iterations" in cause
        assert "first step is" not in cause and "whose X_B" not in cause


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3, 1e-2])
def test_an_epoch_of_minibatches_recorded_as_one_step_never_holds(rate):
    """Every sample once: to first order the step of all the data, which obeys the law; the rest is seen, or it is undecided."""
    inputs, targets = samples("whitened", 20)
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise([30, 30, 30, 20])]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=0.5)
    network, x, y, history = nn.Sequential(*layers), torch.tensor(inputs.T), torch.tensor(targets.T), []
    step = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(4):
        history.append([layer.weight.detach().numpy().copy() for layer in layers])
        for rows in torch.randperm(len(x)).split(9):
            step.zero_grad()
            (0.5 * (network(x[rows]) - y[rows]).square().sum()).backward()
            step.step()
    for given in (Problem(targets, inputs), None):
        report = report_parsimony(history, problem=given)
        assert not all(check.holds for check in report.checks)
        assert all("epoch" in cause or "cannot be told" in cause or "minibatches" in cause for cause in report.causes)


def test_it_stayed_needs_a_change_that_is_larger_than_what_is_tolerated():
    """Weights that start in float32 and go on in float64 with tiny steps: eight times the change itself was tolerated."""
    inputs, targets = samples("whitened", 20)
    history = train(inputs, targets, sgd(lr=1e-6), steps=5, eps=0.3, kind=torch.float64)
    check = check_parsimony(history, problem=Problem(targets, inputs))[2]
    assert check.holds is None
    assert check.tolerance > 1e-2


def test_one_gradient_step_shows_nothing_in_weights_alone():
    """Inputs that are not whitened, but so few small steps that each is the first one again."""
    inputs, targets = samples("gaussian", 3)
    report = report_parsimony(train(inputs, targets, sgd(lr=1e-4), steps=5))
    assert [check.holds for check in report.checks[1:]] == [None, None]
    assert "one gradient step" in report.checks[1].reason
    assert False in answers(train(inputs, targets, sgd(lr=1e-2), steps=60))


def test_two_iterations_leave_any_descent_in_few_directions():
    inputs, targets = samples("whitened", 20)
    history = sparse(train(inputs, targets, sgd(lr=3e-2), batch=1, steps=4, kind=torch.float64), (0, 1, 2, 3, 4))
    report = report_parsimony(history)
    assert report.checks[1].holds is None
    assert "tell of 4 iterations" in report.checks[1].reason


@pytest.mark.parametrize("seed", [6, 8, 9, 11])
def test_weights_that_were_never_trained_get_no_cause_that_is_false(seed):
    random = np.random.default_rng(seed)
    inputs, targets = samples("whitened", 20)
    start = initialize([30, 30, 30, 20], random, scale=0.5)
    drawn = [start, *([random.standard_normal(w.shape) / np.sqrt(30) for w in start] for _ in range(4))]
    again = [initialize([30, 30, 30, 20], random, scale=0.5) for _ in range(4)]
    walk = [start]
    for _ in range(5):
        walk.append([w + 1e-3 * random.standard_normal(w.shape) for w in walk[-1]])
    for history in (drawn, again, walk):
        for given in (Problem(targets, inputs), None):
            cause = report_parsimony(history, problem=given).causes[0]
            assert cause.startswith("The reason cannot be told") or "or noise was added" in cause


def test_a_nonlinearity_is_found_in_the_units_of_the_data():
    """Inputs of covariance N: those of unit covariance are another network's, where layers are not linear."""
    inputs, targets = samples("covariance", 20)
    report = report_parsimony(
        train_otherwise(inputs, targets, between=torch.tanh, optimizer=sgd(lr=1e-4)), problem=Problem(targets, inputs)
    )
    assert "nonlinearity between the layers (tanh)" in report.causes[0]


def test_a_mean_that_is_met_once_by_chance_is_no_bias():
    """Two silent directions only, and an epoch of minibatches whose forbidden part crosses that of the mean."""
    inputs, targets = samples("whitened", 20)
    problem = Problem(targets, inputs)
    start = initialize([30, 30, 30, 20], np.random.default_rng(0), scale=0.5)
    bases = Bases.from_data(problem, start)
    mean = inputs.sum(axis=1)
    silent = mean - bases.right[0] @ (bases.right[0].T @ mean)
    other = np.linalg.qr(np.column_stack([bases.right[0], silent]), mode="complete")[0][:, -1]
    history = [start]
    for direction, size in ((other, 1e-5), (silent / np.linalg.norm(silent), 4e-5)):
        moved = start[0] + size * np.outer(bases.left[0][:, 0], direction)
        history.append([1.001 * moved, *(1.001 * w for w in start[1:])])
    history = cast(history, np.float32)
    assert "biases, which" not in report_parsimony(history, problem=problem).causes[0]
    assert "biases, which" in report_parsimony([history[0], history[2], history[2]], problem=problem).causes[0]


def test_directions_that_changed_little_are_known_less_well():
    """What rounding leaves of weak directions beside the network's sight counted as more rank, or as no invariant part at all."""
    random = np.random.default_rng(0)
    start = initialize([10, 10, 5], random)
    passed = np.linalg.qr((start[1] @ start[0]).T, mode="complete")[0]
    directions = passed[:, [0, 1, 5, 6, 2, 3, 4]]
    errors = np.array([1e-5, 1e-5, 1e-5, 1e-5, 3e-3, 3e-3, 3e-3])
    directions = np.linalg.qr(directions + errors * random.standard_normal((10, 7)) / 4)[0]
    assert Bases.from_change(start, directions, precision=1e-7, errors=errors).rank == 3
    with pytest.raises(InputError, match="no part of the weights is invariant"):
        Bases.from_change(start, directions, precision=1e-7)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_random_signs_are_no_weights_after_some_training_and_no_optimizer(kind):
    """Whole numbers are exact: one bit each does not make them numbers of a coarse type, in which nearly everything agrees."""
    random = np.random.default_rng(7)
    history = [[np.sign(random.standard_normal((20, 20))).astype(kind) for _ in range(3)] for _ in range(6)]
    report = report_parsimony(history)
    assert report.checks[0].holds is False
    assert "were drawn otherwise" in report.checks[0].reason
    assert report.causes == [report.checks[0].reason]


@pytest.mark.parametrize("seed", range(3))
def test_steps_of_random_signs_are_not_taken_for_adam(seed):
    random = np.random.default_rng(seed)
    inputs, targets = samples("whitened", 30)
    start = train(inputs, targets, sgd(lr=1e-3), steps=0, kind=torch.float64)[0]
    walk = [start]
    for _ in range(5):
        walk.append([weight + 0.01 * np.sign(random.standard_normal(weight.shape)) for weight in walk[-1]])
    (cause, *_) = report_parsimony(walk, problem=Problem(targets, inputs)).causes
    assert "same size" in cause and "no more those of the data's gradient than random" in cause
    (cause, *_) = report_parsimony(train(inputs, targets, adam(1e-3), steps=5), problem=Problem(targets, inputs)).causes
    assert "as Adam" in cause
