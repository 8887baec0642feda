"""Profiles where labels are numbers: networks of scikit-learn on its own table, and planted collapse."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.neural_network import MLPRegressor
from torch import nn

from lowdim._processes import Processes
from lowdim.errors import InputError
from lowdim.metrics import heldout_ridge, regression_collapse, root_law
from lowdim.profiling import regression_profile

OUTPUTS = ["target", "bmi", "s5"]


def table():
    frame = load_diabetes(as_frame=True).frame
    frame = (frame - frame.mean()) / frame.std()
    x, y = frame.drop(columns=OUTPUTS).to_numpy(), frame[OUTPUTS].to_numpy()
    return {"train": (x[:350], y[:350]), "test": (x[350:], y[350:])}


def trained(decay):
    """scikit-learn's network as one of torch."""
    x, y = table()["train"]
    fitted = MLPRegressor(hidden_layer_sizes=(32,) * 4, alpha=decay, solver="lbfgs", max_iter=300, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(x, y)
    layers = []
    for weight, bias in zip(fitted.coefs_, fitted.intercepts_, strict=True):
        layer = nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = torch.tensor(weight.T).float(), torch.tensor(bias).float()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]), fitted


@pytest.fixture(scope="module")
def with_decay():
    return trained(2.0)


def test_numbers_are_those_of_the_definitions(with_decay):
    network, fitted = with_decay
    data = table()
    found = regression_profile(network, data, layers="8:input")
    with torch.no_grad():
        hidden = {name: network[:-1](torch.tensor(x).float()) for name, (x, _) in data.items()}
    layer = {layer.split: layer for layer in found.layers}
    goal = {name: torch.tensor(y) for name, (_, y) in data.items()}
    judged = heldout_ridge(hidden["train"].numpy(), data["train"][1], (hidden["test"].numpy(), data["test"][1]))
    assert layer["test"].r2 == pytest.approx(judged.r2, rel=1e-6)
    assert layer["test"].r2_interval == pytest.approx(judged.interval, rel=1e-6)
    assert abs(layer["train"].r2 - heldout_ridge(hidden["train"].numpy(), data["train"][1]).r2) < 0.1  # other folds
    weight = network[-1].weight.detach()
    for name in data:
        collapse = regression_collapse(hidden[name], goal[name], weight)
        assert (layer[name].outside, layer[name].unexplained) == pytest.approx(
            (collapse.outside, collapse.unexplained), rel=1e-4
        )
        assert found.head[name] == pytest.approx(
            {"outside_rows": collapse.outside_rows, "root_law": root_law(weight, goal[name])}, rel=1e-4
        )
        assert found.own_r2[name] == pytest.approx(fitted.score(*data[name]), abs=1e-4)
    assert found.outputs == ("y0", "y1", "y2")
    assert found.data[0]["samples"] == 350


def test_decay_collapses_what_no_decay_leaves(with_decay):
    collapsed, loose = (
        regression_profile(network, table(), layers="8:input", splits=["train"]).layers[0]
        for network in (with_decay[0], trained(0.0)[0])
    )
    assert collapsed.outside < 0.5 * loose.outside
    assert collapsed.target_rank == loose.target_rank == 3


def test_targets_that_mean_nothing_are_explained_by_no_layer(with_decay):
    x, y = table()["train"]
    shuffled = np.random.default_rng(0).permutation(y)
    layers = regression_profile(with_decay[0], {"train": (x, shuffled)}, splits=["test"]).layers
    assert max(layer.r2 for layer in layers) < 0.05


def test_samples_that_are_not_finite_are_left_out_everywhere():
    data = table()
    x = data["train"][0].copy()
    x[3] = np.nan
    network = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    found = regression_profile(network, {"train": (x, data["train"][1]), "test": data["test"]})
    assert {layer.samples for layer in found.layers if layer.split == "train"} == {349}
    assert any("1 of 350 samples have NaN" in warning for warning in found.warnings)


def test_a_constant_layer_has_no_value_and_says_so():
    network = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    network[0].weight.data.zero_()
    found = regression_profile(network, table(), layers="1")
    assert all(layer.outside is None for layer in found.layers)
    assert any("constant" in warning for warning in found.warnings)


def test_classes_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="is no number"):
        regression_profile(nn.Sequential(nn.Linear(8, 2)), (np.eye(8), np.array(list("abababab"))))


class Half(Processes):
    """Both shares in one process."""

    def share(self, items):
        return [*range(0, items, 2), *range(1, items, 2)]


def test_the_order_of_batches_does_not_matter(with_decay):
    kwargs = {"layers": "8:input", "batch_size": 32}
    one = regression_profile(with_decay[0], table(), **kwargs)
    assert regression_profile(with_decay[0], table(), processes=Half(), **kwargs).layers == one.layers
