"""Files of weights as other programs write them, and which of their tensors are the factors."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lowdim.dynamics import WeightHistory
from lowdim.dynamics._weight_files import find_factors
from lowdim.errors import InputError
from lowdim.models._weights import read_pickled_arrays


@pytest.mark.parametrize(
    ("shapes", "ordered", "expected"),
    [
        ({"10.weight": (3, 8), "2.weight": (8, 8), "0.weight": (8, 5), "0.bias": (8,)}, False, "0 2 10"),
        ({"head.weight": (3, 8), "body.2.weight": (8, 8), "body.10.weight": (8, 8)}, False, "body.2 body.10 head"),
        ({"c.weight": (3, 8), "b.weight": (8, 7), "a.weight": (7, 9)}, False, "a b c"),
        ({"up.weight": (8, 8), "down.weight": (8, 8)}, True, "up down"),  # as a state dict has them
        ({"up.weight": (8, 8), "down.weight": (8, 8)}, False, ""),
        ({"in.weight": (5, 8), "out.weight": (8, 5)}, False, ""),  # either may come first
        ({"0.weight": (5, 8), "2.weight": (7, 6)}, True, ""),
        ({"conv.weight": (8, 1, 3, 3), "fc.weight": (3, 8)}, True, ""),
    ],
)
def test_the_factors_are_found_where_their_order_is_certain(shapes, ordered, expected):
    assert find_factors(shapes, ordered=ordered) == [f"{name}.weight" for name in expected.split()]


def networks():
    torch.manual_seed(0)
    for _ in range(2):
        yield nn.Sequential(nn.Linear(6, 6), nn.Identity(), nn.Linear(6, 3)).double()


def test_state_dicts_tensors_and_arrays_give_the_same_history(tmp_path):
    for kind in ("pt", "pth", "npz", "safetensors"):
        (tmp_path / kind).mkdir()
    for step, network in enumerate(networks()):
        weights = network.state_dict()
        torch.save(weights, tmp_path / "pt" / f"{step}.pt")
        checkpoint = {"epoch": step, "model": weights, "optimizer": torch.optim.SGD(network.parameters()).state_dict()}
        torch.save(checkpoint, tmp_path / "pth" / f"{step}.pth")
        np.savez(tmp_path / "npz" / f"{step}.npz", **{name: tensor.numpy() for name, tensor in weights.items()})
        save_file(weights, tmp_path / "safetensors" / f"{step}.safetensors")
    for kind in ("pt", "pth", "npz", "safetensors"):
        history = WeightHistory.from_folder(tmp_path / kind, read_pickle=read_pickled_arrays)
        assert (history.factors, history.kind) == (["0.weight", "2.weight"], f".{kind}")
        np.testing.assert_array_equal(history.weight(2, 1), weights["2.weight"].numpy())


def test_a_pickle_of_code_is_refused_and_bfloat16_is_read(tmp_path):
    network = next(networks())
    torch.save(network, tmp_path / "0.pt")
    with pytest.raises(InputError, match="holds more than tensors"):
        WeightHistory.from_folder(tmp_path, read_pickle=read_pickled_arrays)
    torch.save(network.bfloat16().state_dict(), tmp_path / "0.pt")
    assert WeightHistory.from_folder(tmp_path, read_pickle=read_pickled_arrays).precision == 2.0**-7


def test_a_single_file_is_one_time(tmp_path):
    np.savez(tmp_path / "0.npz", a=np.eye(2))
    with pytest.raises(InputError, match="Give the folder that holds one file per time"):
        WeightHistory.from_folder(tmp_path / "0.npz")


def test_times_are_called_by_their_names(tmp_path):
    history = WeightHistory(["0", "step200", "end"], [(1, 1)], 1e-16, lambda layer, index: np.eye(1))
    assert [history.time(index) for index in range(3)] == ["step 0", "step200", "end"]
