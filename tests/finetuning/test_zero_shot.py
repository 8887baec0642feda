"""Zero-shot: the logits of a real (untrained) CLIP of transformers, and text features from a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowdim.data import Dataset, dataset_from_arrays, load_data
from lowdim.errors import InputError, UsageError
from lowdim.finetuning import finetune, load_delta
from lowdim.finetuning._zero_shot import encode_classes, read_text_features
from lowdim.models import LoadedModel, load_model

transformers = pytest.importorskip("transformers")
CLASSES = ("black_cat", "red_dog", "tree")
PROMPTS = ("a photo of a {}", "a drawing of the {}.")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP checkpoint in the official layout, with a byte-level tokenizer without merges."""
    folder = tmp_path_factory.mktemp("clip")
    alphabet = [chr(code) for code in range(33, 127)]
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, **size}
    torch.manual_seed(3)
    config = transformers.CLIPConfig(
        text_config={**text, "max_position_embeddings": 48},
        vision_config={"image_size": 32, "patch_size": 8, **size},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(4):
                pixels = generator.integers(0, 256, (40, 52, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return load_data(str(folder))


@pytest.fixture(scope="module")
def network(clip: Path) -> LoadedModel:
    return load_model(f"hf:{clip}")


def test_logits_are_those_of_clip(clip: Path, network: LoadedModel, pictures: Dataset, tmp_path: Path) -> None:
    """One prompt: `logits_per_image` of transformers, from its own image processor."""
    tuned = finetune(network, pictures, method="zero-shot", prompts=PROMPTS[:1])
    whole: Any = transformers.CLIPModel.from_pretrained(clip).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
    processor = transformers.CLIPImageProcessor.from_pretrained(clip)
    images = [pictures["test"].load(index) for index in range(len(pictures["test"]))]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    words = tokenizer([f"a photo of a {name.replace('_', ' ')}" for name in CLASSES], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = whole(pixel_values=pixels, **words).logits_per_image
        found = tuned.model(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01, "the comparison must have something to compare"
    right = expected.argmax(dim=1).numpy() == pictures["test"].labels
    assert tuned.accuracy["test"] == pytest.approx(right.mean())
    assert tuned.trained_parameters == 0
    assert tuned.save(tmp_path / "delta", network)["verified"] is True
    again = load_delta(network.module, tmp_path / "delta")
    with torch.inference_mode():
        assert torch.equal(again(pixels), found)


def test_prompts_are_averaged_at_length_one(network: LoadedModel) -> None:
    one, two, both = (encode_classes(network, CLASSES, prompts) for prompts in (PROMPTS[:1], PROMPTS[1:], PROMPTS))
    scale = np.linalg.norm(one, axis=1)
    assert scale == pytest.approx(np.full(3, scale[0]))
    mean = one + two
    np.testing.assert_allclose(both, scale[0] * mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-5)
    assert np.abs(one - two).max() > 1e-3


def test_text_features_from_elsewhere(network: LoadedModel, pictures: Dataset) -> None:
    """Features that are the classes' own image features must be found by the nearest one."""
    planted = np.random.default_rng(1).normal(size=(3, 24))
    tuned = finetune(network, pictures, method="zero-shot", text_features=read_text_features(planted, 3))
    weight = tuned.model.get_submodule("head").get_parameter("weight").numpy(force=True)
    np.testing.assert_allclose(weight, 100 * planted / np.linalg.norm(planted, axis=1, keepdims=True), rtol=1e-5)


def test_text_features_are_drawn_towards_the_labels(network: LoadedModel, tmp_path: Path) -> None:
    """Dark, middling and bright pictures, for which the text of an untrained network knows nothing."""
    generator = np.random.default_rng(2)
    x = np.concatenate([generator.integers(80 * k, 80 * k + 60, (8, 32, 32, 3), dtype=np.uint8) for k in range(3)])
    data = dataset_from_arrays(
        x[::2], [CLASSES[k // 8] for k in range(0, 24, 2)], x[1::2], [CLASSES[k // 8] for k in range(1, 24, 2)]
    )
    plain, drawn, projected = (
        finetune(network, data, method=method) for method in ("zero-shot", "text-probe", "text-projection")
    )
    assert min(drawn.accuracy["test"], projected.accuracy["test"]) > plain.accuracy["test"] + 0.2
    assert (drawn.trained_parameters, projected.trained_parameters) == (0, 24 * 32)
    before, after = network.module.state_dict(), projected.model.get_submodule("base").state_dict()
    assert [name for name in after if not torch.equal(before[name], after[name])] == ["visual_projection.weight"]
    pixels = torch.rand(2, 3, 32, 32)
    for tuned in (drawn, projected):
        folder = tmp_path / tuned.method
        assert tuned.save(folder, network)["verified"] is True
        assert torch.equal(load_delta(network.module, folder)(pixels), tuned.model(pixels))


def test_other_methods_start_before_the_projection(network: LoadedModel, pictures: Dataset) -> None:
    tuned = finetune(network, pictures, method="linear-probe")
    assert tuned.model.get_submodule("head").get_parameter("weight").shape == (3, 32)
    assert finetune(network, pictures, method="layer", epochs=1).layer == "vision_model.encoder.layers.1"


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_used_is_said(network: LoadedModel, pictures: Dataset) -> None:
    with pytest.raises(UsageError, match="where the class goes"):
        finetune(network, pictures, method="zero-shot", prompts=["a photo"])
    with pytest.raises(InputError, match="come from different models"):
        finetune(network, pictures, method="zero-shot", text_features=np.ones((3, 5)))
    with pytest.raises(InputError, match="no trained text encoder"):
        finetune(load_model("digits"), load_data("digits"), method="zero-shot")
    for rows in (np.ones((2, 24)), np.ones(3), np.ones((3, 24), dtype=int)):
        with pytest.raises(InputError, match="one per class"):
            read_text_features(rows, 3)
    with pytest.raises(InputError, match="zero or not finite"):
        read_text_features(np.zeros((3, 24)), 3)
