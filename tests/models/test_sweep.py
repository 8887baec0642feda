"""Every family of timm and of the encoders of transformers: the feature is the library's own, and measure, rank and layer run.

Slow: some minutes on two cores. `pytest -m slow tests/models/test_sweep.py -s` prints the tables.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from families import PICTURES, TEXTS, mean, pictures, tokens
from lowdim._preprocessing import Preprocessing
from lowdim.data import Dataset, Split
from lowdim.errors import InputError
from lowdim.features import recorded
from lowdim.finetuning import finetune
from lowdim.models import LoadedModel, find_feature, fingerprint
from lowdim.models._loaded import example_of
from lowdim.models._timm import timm_preprocessing
from lowdim.profiling import profile
from lowdim.ranking import Candidate, evaluate

pytestmark = pytest.mark.slow
MOST = 60e6
"""Parameters."""


class Words:
    """A tokenizer: a number per word."""

    def __call__(self, texts: list[str], **options: Any) -> dict[str, Tensor]:
        rows = [[5 + sum(map(ord, word)) % 25 for word in text.split()] for text in texts]
        longest = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        }


def dataset(kind: Any, side: int) -> Dataset:
    """Two classes of four samples each."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 4)
    if kind == "text":
        samples: list[Any] = [
            " ".join(rng.choice(["one", "two", "three", "four"], 4 + index % 3)) for index in range(8)
        ]
    else:
        samples = [Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(8)]
    items = [str(index) for index in range(8)]
    split = Split(name="train", kind=kind, labels=labels, items=items, read=lambda index: samples[index])
    return Dataset(name="noise", kind=kind, classes=("a", "b"), splits={"train": split})


def error_of(network: nn.Module, inputs: Any, expected: Tensor) -> str:
    """How far the feature is from what the library says it is, of the largest number."""
    feature = find_feature(network, inputs)
    rows = recorded(network, feature.layer, inputs, [feature.pool], feature.layout)
    found = rows[feature.pool]
    assert found.shape == expected.shape, f"{feature.describe()}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, f"{feature.describe()}: {error}"
    return f"{feature.describe()}, {error:.0e}"


def commands_run(
    network: nn.Module, preprocessing: Preprocessing, data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The features that measure, rank and layer took, which must be one; or why layer has no block."""
    with torch.no_grad():
        model = LoadedModel(
            name="tiny",
            module=network,
            preprocessing=preprocessing,
            classes=None,
            random_weights=True,
            fingerprint=fingerprint(network),
            source={},
        )
    monkeypatch.setattr(Candidate, "load", lambda candidate, kind: model)
    found = [profile(model, data, batch_size=4).feature]
    found.append(evaluate(Candidate(name="tiny", model="tiny"), data, folder=folder, probe=False, batch_size=4).feature)
    try:
        found.append(finetune(model, data, method="layer", epochs=1, batch_size=4).as_dict()["feature"])
    except InputError as error:
        assert "no blocks" in str(error), str(error)
        return "no blocks"
    assert found[0] == found[1] == found[2]
    return ""


def swept(names: Any, one: Callable[[str], str]) -> None:
    """Tries all; prints a table; fails with those that are not right."""
    wrong: dict[str, str] = {}
    for name in names:
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                torch.manual_seed(0)
                print(f"{name:32} {one(name)}", flush=True)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
            print(f"{name:32} WRONG {wrong[name]}", flush=True)
    assert not wrong, wrong


def smallest(timm: Any, family: str) -> str | None:
    """The model of a family with the fewest parameters, if that is few enough."""
    sizes: dict[str, int] = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            sizes[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    name = min(sizes, key=lambda name: sizes[name], default=None)
    return None if name is None or sizes[name] > MOST else name


def built(timm: Any, name: str) -> tuple[nn.Module, Preprocessing]:
    """A network of timm in the smallest of a few sizes of pictures that it runs on."""
    for side in (96, 128, 160, 192, None):
        try:
            network = timm.create_model(name, **({} if side is None else {"img_size": side}))
        except TypeError:
            network = timm.create_model(name)
        found = timm_preprocessing(network.eval())
        found = found if side is None else replace(found, image_size=(side, side))
        try:
            with torch.no_grad():
                network(example_of(found))
        except (RuntimeError, ValueError, AssertionError):
            continue
        return network, found
    raise AssertionError(f"{name} does not run")


def test_families_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def one(family: str) -> str:
        name = smallest(timm, family)
        if name is None:
            return "too large"
        network, preprocessing = built(timm, name)
        inputs = example_of(preprocessing)
        with torch.no_grad():
            expected = network.forward_head(network.forward_features(inputs), pre_logits=True).flatten(1)
        said = error_of(network, inputs, expected)
        ran = commands_run(network, preprocessing, dataset("image", 64), tmp_path / family, monkeypatch)
        return f"{name}: {said} {ran}"

    swept(sorted(timm.list_modules()), one)


def test_families_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    assert len(TEXTS) + len(PICTURES) >= 40

    def one(family: str) -> str:
        kind, settings, *reference = {**TEXTS, **PICTURES}[family]
        stem, _, model = kind.partition(":")
        network = getattr(transformers, model or f"{stem}Model")(
            getattr(transformers, f"{stem}Config")(**settings)
        ).eval()
        with torch.no_grad():
            # Some families leave weights as they lie in memory.
            for name, parameter in network.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=min(0.2, parameter[0].numel() ** -0.5))
                else:
                    parameter.fill_(0 if name.endswith("bias") else 1)
        side = settings.get("image_size", 32)
        side = side[0] if isinstance(side, list) else side
        inputs = tokens() if family in TEXTS else pictures(side)
        with torch.no_grad():
            output = network(**inputs) if isinstance(inputs, dict) else network(inputs)
        said = error_of(network, inputs, (reference[0] if reference else mean)(output))
        preprocessing = Preprocessing(kind="text", max_length=16, tokenizer=Words())
        if family in PICTURES:
            preprocessing = Preprocessing(image_size=(side, side))
        data = dataset(preprocessing.kind, side)
        return f"{said} {commands_run(network, preprocessing, data, tmp_path / family, monkeypatch)}"

    swept([*TEXTS, *PICTURES], one)
