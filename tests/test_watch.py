import numpy as np
import pytest
import torch
from torch import nn

from lowdim.dynamics import GradientDescent, Problem, initialize, low_rank_target, report_parsimony, simulate
from lowdim.errors import NonFiniteError, UsageError
from lowdim.figures import Lines, Panels
from lowdim.watch import WeightWatcher


def train(model, optimizer, loss, watcher, steps):
    for step in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        watcher(step)
        optimizer.step()


def linear_network(weights):
    layers = [nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=torch.float64) for w in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = torch.tensor(weight)
    return nn.Sequential(*layers)


@pytest.fixture
def watched():
    random = np.random.default_rng(0)
    problem, weights = Problem(low_rank_target((2, 12), 2, random)), initialize([12, 12, 12, 2], random, scale=0.5)
    model = linear_network(weights)
    watcher = WeightWatcher(model, ["0.weight", "1.*"], classes=2, reference=1)
    target = torch.tensor(problem.phi)
    eye = torch.eye(12, dtype=torch.float64)
    train(
        model,
        torch.optim.SGD(model.parameters(), lr=1e-2),
        lambda net: 0.5 * (net(eye).T - target).square().sum(),
        watcher,
        40,
    )
    return watcher, simulate(problem, weights, GradientDescent(1e-2), steps=40, mode="full")


def test_a_linear_network_is_seen_as_the_simulation_knows_it(watched):
    watcher, run = watched
    assert list(watcher.history) == ["0.weight", "1.weight"]
    for layer, name in enumerate(watcher.history, 1):
        for seen in watcher.history[name]:
            np.testing.assert_allclose(seen.values, run.singular_values(layer, seen.step), rtol=1e-10)
        change = run.weight(layer, 39) - run.weight(layer, 0)
        last = watcher.history[name][-1]
        size = np.linalg.norm(change)
        assert last.relative_change == pytest.approx(size / np.linalg.norm(run.weight(layer, 0)), rel=1e-9)


def test_share_and_angles_against_the_definitions(watched):
    watcher, run = watched
    weights = run.weights(0)
    slope = weights[1].T @ weights[2].T @ (weights[2] @ weights[1] @ weights[0] - run.problem.phi)
    left, _, right = np.linalg.svd(slope)
    change = run.weight(1, 39) - run.weight(1, 0)
    assert np.linalg.matrix_rank(slope) == 2
    first = weights[0]
    sides = [
        np.linalg.qr(np.concatenate([own, moved], 1))[0]
        for own, moved in ((left[:, :2], first @ right[:2].T), (right[:2].T, first.T @ left[:, :2]))
    ]
    p, q = (side @ side.T for side in sides)
    beside = (np.eye(12) - p) @ first @ (np.eye(12) - q)
    inside = p @ change @ q + np.sum(change * beside) / np.sum(beside**2) * beside
    history = watcher.history["0.weight"]
    assert history[0].share is None
    assert history[-1].share == pytest.approx(np.sum(inside**2) / np.sum(change**2), rel=1e-8)
    assert history[1].share == pytest.approx(1, abs=1e-12)  # the first step is the gradient itself, of rank 2
    then, now = run.svd(1, 1), run.svd(1, 39)
    expected = np.arccos(np.minimum(1, np.abs(np.sum(then.right * now.right, axis=1))))
    np.testing.assert_allclose(history[-1].right_angles[:2], expected[:2], rtol=1e-6)
    assert history[1].right_angles.max() < 1e-12
    assert history[1].subspace_angle < 1e-7


@pytest.mark.parametrize(("outputs", "rank"), [(12, 2), (2, 2)])
def test_the_share_is_that_of_the_law(outputs, rank):
    """1 under gradient descent with decay, as `report_parsimony` has it; between chance and 1 under Adam; chance for noise."""
    random = np.random.default_rng(0)
    problem = Problem(low_rank_target((outputs, 12), rank, random))
    weights = initialize([12, 12, 12, outputs], random, scale=0.5)
    target, eye = torch.tensor(problem.phi), torch.eye(12, dtype=torch.float64)
    loss = lambda net: 0.5 * (net(eye).T - target).square().sum()  # noqa: E731
    for make, low, high in (
        (lambda p: torch.optim.SGD(p, lr=1e-2, weight_decay=0.1), 1 - 1e-10, 1 + 1e-10),
        (lambda p: torch.optim.Adam(p, lr=1e-2), 0.2, 0.95),
    ):
        model = linear_network(weights)
        watcher = WeightWatcher(model, classes=rank)
        history = []
        train(model, make(model.parameters()), loss, lambda step: (watcher(step), history.append([p.detach().numpy().copy() for p in model.parameters()])), 30)  # noqa: B023  # fmt: skip
        report = report_parsimony(history, problem=problem)
        for layer, seen in enumerate(watcher.history.values()):
            assert low <= seen[-1].share <= high
            assert seen[-1].share == pytest.approx(report.share[-1, layer], abs=1e-9)
            assert seen[-1].chance == pytest.approx(
                report.chance[layer], abs=1.1 / 24
            )  # the last factor may lack the number
    start = next(iter(watcher._start.values()))
    noise = [start.share(random.standard_normal((12, 12))) for _ in range(500)]
    assert np.mean(noise) == pytest.approx(start.chance, abs=0.01)  # standard error 1e-3


def test_the_angle_of_the_leading_subspace():
    """Singular vectors turned by a known angle, out of the leading plane."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False, dtype=torch.float64))
    watcher = WeightWatcher(model, classes=1)
    turn = torch.eye(4, dtype=torch.float64)
    turn[1, 1] = turn[2, 2] = np.cos(0.3)
    turn[1, 2], turn[2, 1] = np.sin(0.3), -np.sin(0.3)
    for step, rotation in enumerate((torch.eye(4, dtype=torch.float64), turn)):
        model[0].weight.data = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)) @ rotation
        watcher(step)
    seen = watcher.history["0.weight"][1]
    assert seen.subspace_angle == pytest.approx(0.3, rel=1e-12)
    np.testing.assert_allclose(seen.right_angles, [0, 0.3, 0.3, 0], atol=1e-12)
    np.testing.assert_allclose(seen.left_angles, 0, atol=1e-12)


def test_any_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    twin.load_state_dict(model.state_dict())
    images, labels = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2] * 2)

    def loss(net):
        return nn.functional.cross_entropy(net(images), labels)

    watcher = WeightWatcher(model, classes=3, every=2)
    train(model, torch.optim.Adam(model.parameters()), loss, watcher, 5)
    train(twin, torch.optim.Adam(twin.parameters()), loss, lambda step: None, 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert {name: [s.step for s in seen] for name, seen in watcher.history.items()} == {
        "0.weight": [0, 2, 4],
        "3.weight": [0, 2, 4],
    }
    assert watcher.history["0.weight"][0].values.shape == (4,)  # 4 x 9
    figures = watcher.figures()
    assert [type(figure) for figure in figures] == [Panels] * 3 + [Lines] * 3
    assert figures[0].panels[0].z.shape == (3, 4)


def test_what_cannot_be_watched_is_named():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"no weight matrix '0\.wieght'.*Did you mean 0\.weight"):
        WeightWatcher(model, ["0.wieght"], classes=2)
    with pytest.raises(UsageError, match="no weight matrix to watch"):
        WeightWatcher(nn.BatchNorm1d(3), classes=2)
    with pytest.raises(UsageError, match=">= 1"):
        WeightWatcher(model, classes=0)
    watcher = WeightWatcher(model, classes=1)
    with pytest.raises(UsageError, match="at least two steps"):
        watcher.figures()
    watcher(0)
    assert watcher.history["0.weight"][0].share is None
    model[0].weight.data[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"0\.weight contains NaN or infinity at step 1"):
        watcher(1)


def test_what_has_no_real_finite_values_is_refused_by_name():
    for layer, why in (
        (nn.Linear(4, 3, dtype=torch.complex64), "complex"),
        (nn.Linear(4, 3, device="meta"), "no values yet"),
    ):
        with pytest.raises(UsageError, match=f"weight .*{why}.* cannot be watched"):
            WeightWatcher(layer, classes=1)
    layer = nn.Linear(4, 3)
    layer.weight.grad = torch.full((3, 4), torch.inf)
    with pytest.raises(NonFiniteError, match="the gradient of weight contains NaN or infinity at step 0"):
        WeightWatcher(layer, classes=1)(0)
    with pytest.raises(UsageError, match="`step` takes a whole number"):
        WeightWatcher(layer, classes=1)("1")
