"""Networks of transformers see what their own image processors make."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lowdim._preprocessing import Preprocessing, preprocessing_with
from lowdim.errors import InputError
from lowdim.models import load_model
from lowdim.models._hf import image_preprocessing

transformers = pytest.importorskip("transformers")

PICTURES = ((90, 60), (48, 120), (64, 64))


def picture(width: int, height: int) -> Image.Image:
    """Waves of all lengths: smooth enough to be a photograph, with detail to lose."""
    y, x = np.mgrid[:height, :width] / 60
    waves = [np.sin(7 * x * (k + 1) + 5 * y * y) * np.cos(9 * y + k) for k in range(3)]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


def assert_same(ours: Preprocessing, own: Any, pictures: tuple[tuple[int, int], ...] = PICTURES) -> None:
    for size in pictures:
        image = picture(*size)
        expected = own(image, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(
            torch.from_numpy(ours.normalised(image)), expected.float(), rtol=0, atol=1e-6
        )  # near 1


@functools.cache
def backbone() -> Any:
    config = transformers.MobileNetV1Config(depth_multiplier=0.25, min_depth=2, image_size=32)
    return transformers.MobileNetV1Model(config).eval()


def save(folder: Path, settings: str) -> Path:
    backbone().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(settings)
    return folder


PUBLISHED = {
    "flips channels and does not normalise": """{"crop_size": 256, "do_center_crop": true, "do_flip_channel_order": true,
        "do_resize": true, "feature_extractor_type": "MobileViTFeatureExtractor", "resample": 2, "size": 288}""",
    "normalises twice": """{"crop_size": {"height": 289, "width": 289}, "do_center_crop": false, "do_normalize": true,
        "do_rescale": true, "do_resize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864,
        0.47434163], "include_top": true, "image_processor_type": "EfficientNetImageProcessor", "resample": 0,
        "rescale_factor": 0.00392156862745098, "rescale_offset": false, "size": {"height": 224, "width": 224}}""",
    "crops .875 below 384": """{"crop_pct": 0.875, "do_normalize": true, "do_resize": true, "feature_extractor_type":
        "ConvNextFeatureExtractor", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "size": 224}""",
    "crops before it resizes": """{"crop_size": 256, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "PerceiverFeatureExtractor", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224,
        0.225], "resample": 3, "size": 224}""",
    "has no size": """{"do_rescale": true, "do_resize": true, "image_processor_type": "GLPNImageProcessor", "size_divisor": 32,
        "resample": 2}""",
    "scales by 256 / 224": """{"do_center_crop": true, "do_normalize": true, "do_resize": true, "feature_extractor_type":
        "LevitFeatureExtractor", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3,
        "size": 224}""",
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_configurations(case: str, tmp_path: Path) -> None:
    folder = save(tmp_path, PUBLISHED[case])
    model = load_model(f"hf:{folder}")
    assert_same(model.preprocessing, transformers.AutoImageProcessor.from_pretrained(folder))
    example = torch.from_numpy(model.preprocessing.normalised(picture(64, 64)))[None]
    assert model.module(example).last_hidden_state.shape[0] == 1


def test_every_class_of_processors_is_run_as_it_is_or_refused() -> None:
    from transformers.models.auto import image_processing_auto as auto

    large = {"DonutImageProcessor", "DepthProImageProcessor", "UltraVBertImageProcessor", "PerceptionLMImageProcessor"}
    names = {name for kinds in vars(auto)["IMAGE_PROCESSOR_MAPPING_NAMES"].values() for name in kinds.values() if name}
    same, refused = set(), set()
    for name in sorted(names - large - {f"{name}Pil" for name in names}):
        try:
            own = getattr(transformers, name)()
        except (TypeError, ImportError):
            continue  # needs arguments, or packages
        try:
            ours = image_preprocessing(own)
        except InputError as error:
            assert name in str(error)
            refused.add(name)
            continue
        assert_same(ours, own, PICTURES[:1])
        same.add(name)
    assert len(same) >= 60
    assert {"ViTImageProcessor", "CLIPImageProcessor", "DetrImageProcessor", "SegformerImageProcessor"} <= same
    assert {"Qwen2VLImageProcessor", "VideoMAEImageProcessor", "SuperGlueImageProcessor"} <= refused


def test_of_two_networks_for_pictures_and_texts_the_one_for_pictures(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 8}
    config = transformers.SiglipConfig(text_config={**small, "vocab_size": 64}, vision_config=vision)
    network = transformers.SiglipModel(config).eval()
    network.save_pretrained(tmp_path)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model = load_model(f"hf:{tmp_path}")
    pixels = torch.from_numpy(model.preprocessing.normalised(picture(50, 40)))[None]
    with torch.inference_mode():
        expected = network.get_image_features(pixels)
        found = model.module(pixels).pooler_output
    torch.testing.assert_close(found, getattr(expected, "pooler_output", expected), rtol=1e-5, atol=1e-6)


def test_settings_that_the_class_does_not_know_are_named(tmp_path: Path) -> None:
    known = '{"image_processor_type": "ViTImageProcessor", "size": 32, "processor_class": "X", "do_sharpen": false'
    folder = save(tmp_path, known + "}")
    assert load_model(f"hf:{folder}").preprocessing.image_size == (32, 32)
    save(tmp_path, known + ', "do_solarize": true}')
    with pytest.raises(InputError, match="asks for do_solarize, which ViTImageProcessor does not know"):
        load_model(f"hf:{folder}")


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("ViTImageProcessor", 40),
        ("CLIPImageProcessor", (40, 64)),
        ("ConvNextImageProcessor", 224),
        ("EfficientNetImageProcessor", (60, 50)),
        ("DetrImageProcessor", (64, 48)),
        ("PerceiverImageProcessor", 64),
        ("ViTImageProcessorPil", 40),
    ],
)
def test_another_size_is_what_comes_out(kind: str, size: int | tuple[int, int]) -> None:
    ours = preprocessing_with(image_preprocessing(getattr(transformers, kind)()), image_size=size)
    expected = (size, size) if isinstance(size, int) else size
    assert ours.image_size == expected
    assert {ours.normalised(picture(*other)).shape for other in PICTURES} == {(3, *expected)}


def test_another_size_keeps_the_share_that_is_cropped() -> None:
    own = image_preprocessing(transformers.CLIPImageProcessor(size={"shortest_edge": 256}, crop_size=224))
    ours = preprocessing_with(own, image_size=112)
    assert_same(ours, transformers.CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=112))


def test_sizes_that_cannot_be() -> None:
    own = image_preprocessing(transformers.GLPNImageProcessor())
    assert own.image_size is None
    with pytest.raises(InputError, match="GLPNImageProcessor cannot make pictures of 64 x 64"):
        preprocessing_with(own, image_size=64)
    with pytest.raises(InputError, match="million pixels"):
        image_preprocessing(transformers.ViTImageProcessor(size={"height": 10**5, "width": 10**5}))
    sliver = Image.new("RGB", (50_000, 1))
    with pytest.raises(InputError, match="would become"):
        image_preprocessing(transformers.CLIPImageProcessor()).normalised(sliver)


def test_mean_and_std_of_the_user_come_first() -> None:
    own = image_preprocessing(transformers.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False))
    ours = preprocessing_with(own, mean=[0.5, 0.4, 0.3], std=[0.25])
    white = Image.new("RGB", (40, 40), "white")
    np.testing.assert_allclose(ours.normalised(white)[:, 0, 0], [2, 2.4, 2.8], rtol=1e-5)
    for kind in ("EfficientNetImageProcessor", "MobileViTImageProcessor"):
        with pytest.raises(InputError, match="in a way of its own"):
            preprocessing_with(image_preprocessing(getattr(transformers, kind)()), mean=[0.2])


def test_grey_networks() -> None:
    own = transformers.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    ours = image_preprocessing(own, channels=1)
    assert ours.normalised(picture(30, 20)).shape == (1, 8, 8)
    with pytest.raises(InputError, match="ViTImageProcessor"):
        image_preprocessing(transformers.ViTImageProcessor(), channels=1)


def test_settings_alone_say_everything() -> None:
    import json
    from dataclasses import replace

    ours = image_preprocessing(transformers.MobileViTImageProcessor())
    again = replace(Preprocessing(), **json.loads(json.dumps({**ours.as_dict(), "image_size": None})))
    assert_same(again, transformers.MobileViTImageProcessor())
    assert "MobileViTImageProcessor" in ours.describe()
    forged = replace(ours, processor={"image_processor_type": "pipeline"})
    with pytest.raises(InputError, match="no image processor 'pipeline'"):
        forged.normalised(picture(30, 20))
