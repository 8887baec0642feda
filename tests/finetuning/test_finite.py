"""No answer, no accuracy and no choice comes from what is not finite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lowdim._preprocessing import Preprocessing
from lowdim.data import Dataset, dataset_from_arrays
from lowdim.errors import InputError, NonFiniteError
from lowdim.finetuning import advise, finetune, split_outputs
from lowdim.finetuning._delta import read_delta, tuned_preprocessing
from lowdim.finetuning._evaluate import accuracy_of, without_class
from lowdim.models import load_model


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(40) % 2
    return np.random.default_rng(seed).normal(size=(40, 3)) + 3 * labels[:, None], labels


def data(part: str, value: float) -> Dataset:
    """Features with two bad rows in one part."""
    parts = {"train": rows(), "test": rows(1)}
    parts[part][0][[3, 8], 1] = value
    return dataset_from_arrays(*parts["train"], *parts["test"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("part", ["train", "test"])
def test_training_on_what_is_not_finite_is_refused_by_name(tmp_path: Path, part: str, value: float) -> None:
    bad = data(part, value)
    with pytest.raises(NonFiniteError, match=rf"2 of 40 samples of the {part} split .*{part}\[3\], {part}\[8\]"):
        finetune(load_model("features"), bad, method="linear-probe")
    with pytest.raises(InputError, match=r"No candidate could be used.*train\[3\]|test\[3\]"):
        advise([lambda: load_model("features")], bad, tmp_path)


def test_features_that_vanish_in_a_network_are_refused() -> None:
    x, y = rows()
    with pytest.raises(NonFiniteError, match="vanishes in float32"):
        finetune(load_model("features"), dataset_from_arrays(x * 1e-200, y, x, y), method="linear-probe")


def test_what_float32_rounds_away_is_told() -> None:
    x, y = rows()
    network = load_model("features")
    for one in (np.array([1e8, 0, 0]), np.array([1e8, 3e5, -3e5])):
        tuned = finetune(network, dataset_from_arrays(x + one, y), method="linear-probe")
        assert any("rounds away most of what varies in columns (from 0) 0 of" in text for text in tuned.warnings)
    with pytest.raises(InputError, match="rounds away most of what varies in all columns of the train split"):
        finetune(network, dataset_from_arrays(x + 1e10, y), method="linear-probe")
    with pytest.raises(
        InputError, match=r"1 columns of the features vary so little .* exceed float32 \(the first, from 0: 0\)"
    ):
        finetune(network, dataset_from_arrays(x * [1e-42, 1, 1], y), method="linear-probe")
    for plain in (x, x + 1e4, (x + 1e8).astype(np.float32)):
        tuned = finetune(network, dataset_from_arrays(plain, y), method="linear-probe")
        assert not any("rounds away" in text for text in tuned.warnings)


def test_outputs_that_are_not_finite_have_no_class_whatever_the_network_makes_of_them() -> None:
    x, y = rows()
    x[2, 0], x[5, 1] = np.inf, np.nan
    network = nn.Sequential(nn.Linear(3, 2).double(), nn.Tanh(), nn.Hardtanh())
    logarithms, _ = split_outputs(network, dataset_from_arrays(x, y, x, y)["test"], Preprocessing(kind="features"))
    assert np.flatnonzero(without_class(logarithms)).tolist() == [2, 5]
    with pytest.raises(NonFiniteError, match="2 of 40 samples"):
        accuracy_of(logarithms, y)
    assert accuracy_of(np.log([[0.9, 0.1], [1.0, 1e-300]]), np.array([0, 1])) == 0.5


@pytest.mark.parametrize(
    "std",
    [(0.0, 1.0, 1.0), (float("nan"),) * 3, (float("inf"), 1.0, 1.0), (-1.0, 1.0, 1.0), (1e-320,) * 3, (1e39,) * 3],
)
def test_a_std_that_divides_by_nothing_is_refused(std: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="The std of each channel"):
        Preprocessing(std=std)
    with pytest.raises(InputError, match="The mean of each channel"):
        Preprocessing(mean=(float("nan"), 0.0, 0.0))
    with pytest.raises(InputError, match="The mean of each channel"):
        Preprocessing(mean=(1e39, 0.0, 0.0))


def test_a_delta_with_such_a_std_is_refused_by_name(tmp_path: Path) -> None:
    base = load_model("digits")
    digits = dataset_from_arrays(np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8), np.arange(20) % 2)
    finetune(base, digits, method="linear-probe").save(tmp_path, base)
    delta = read_delta(tmp_path)
    for std in ([0.0], [None]):
        delta.preprocessing["std"] = std  # type: ignore[index]
        with pytest.raises(InputError, match="The delta's preprocessing cannot be used"):
            tuned_preprocessing(delta, base.preprocessing)


def test_a_network_that_overflows_is_refused_with_the_images_named() -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.where(x > 5, x * 1e38 * 1e38, x))

    x, y = rows()
    x[7] = 9.0
    network = load_model("features")
    network = type(network)(**{**vars(network), "module": Overflowing().eval(), "name": "overflowing"})
    with pytest.raises(
        NonFiniteError, match=r"training samples have NaN or infinite features in overflowing: train\[7\]"
    ):
        finetune(network, dataset_from_arrays(x.astype(np.float32), y, x.astype(np.float32), y), method="linear-probe")


class Blinded(nn.Module):
    """Makes nothing of bright pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.body(x).mean(dim=(2, 3))
        return self.head(torch.where(x.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0] > 0.6, torch.nan, rows))


def test_pictures_of_which_a_frozen_head_could_see_nothing_are_named_with_the_network(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (20, 8, 8, 3), np.uint8)
    pixels[[3, 8]] = 250
    network = load_model("digits")
    plain = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    network = type(network)(**{**vars(network), "module": Blinded().eval(), "name": "blinded", "preprocessing": plain})
    data = dataset_from_arrays(pixels, np.arange(20) % 2, pixels[:2], [0, 1])
    said = r"2 of 20 training samples have NaN or infinite features in blinded: train\[3\], train\[8\]"
    with pytest.raises(NonFiniteError, match=said):
        finetune(network, data)
    with pytest.raises(InputError, match=f"No candidate could be used. blinded is left out: {said}"):
        advise([lambda: network], data, tmp_path)
