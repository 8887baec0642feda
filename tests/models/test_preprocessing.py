import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lowdim._preprocessing import Preprocessing, preprocessing_with
from lowdim.errors import InputError


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(5, 90),
    st.integers(5, 90),
    st.sampled_from([(32, 32), (31, 31), (32, 24), (17, 40)]),
    st.sampled_from([0.875, 0.9, 0.95, 1.0]),
    st.sampled_from(["center", "squash", "border"]),
    st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos"]),
)
def test_images_equal_timms_own_transform_bit_for_bit(
    width: int, height: int, size: tuple[int, int], crop: float, mode: str, interpolation: str
) -> None:
    create = pytest.importorskip("timm.data").create_transform
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = picture(width, height)
    expected = create(
        (3, *size), is_training=False, mean=mean, std=std, crop_pct=crop, crop_mode=mode, interpolation=interpolation
    )(image)
    ours = Preprocessing(
        image_size=size,
        crop=crop,
        crop_mode=mode,  # type: ignore[arg-type]
        interpolation=interpolation,  # type: ignore[arg-type]
        mean=mean,
        std=std,
    ).normalised(image)
    torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=0, atol=0)


def test_own_size_only_scales_and_normalises() -> None:
    image = picture(7, 5)
    ours = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)).normalised(image)
    expected = (np.asarray(image, float) / 255 - [0.1, 0.2, 0.3]) / [1, 2, 4]
    np.testing.assert_allclose(ours, expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-7)


def test_colours_follow_the_network() -> None:
    grey = Preprocessing(channels=1, mean=(0.0,), std=(1.0,))
    assert grey.normalised(picture(4, 4)).shape == (1, 4, 4)
    assert Preprocessing().normalised(picture(4, 4, "L")).shape == (3, 4, 4)
    assert Preprocessing().normalised(picture(4, 4, "RGBA")).shape == (3, 4, 4)
    padded = Preprocessing(channels=1, mean=(0.5,), std=(1.0,), image_size=(8, 8), crop_mode="border")
    assert padded.normalised(picture(4, 2, "L")).shape == (1, 8, 8)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 256 * 128], [256 * 255, 65535]], dtype=np.uint16))
    pixels = Preprocessing(channels=1, mean=(0.0,), std=(1.0,)).normalised(deep)
    np.testing.assert_allclose(255 * pixels[0], [[0, 128], [255, 255]], rtol=1e-6)


def test_what_the_user_says_comes_first() -> None:
    own = Preprocessing(image_size=(224, 224), crop=0.875, resize=(256, 256))
    changed = preprocessing_with(own, mean=[0.5], std=[0.1, 0.2, 0.3], image_size=64)
    assert changed.mean == (0.5, 0.5, 0.5)
    assert changed.std == (0.1, 0.2, 0.3)
    assert (changed.image_size, changed.resize, changed.crop) == ((64, 64), None, 0.875)
    assert preprocessing_with(own) is own


@pytest.mark.parametrize(
    "changes",
    [{"mean": [1.0, 2.0]}, {"std": [0.0]}, {"std": [float("nan")]}, {"mean": [float("inf")]}, {"image_size": 0}],
)
def test_settings_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        preprocessing_with(Preprocessing(), **changes)  # type: ignore[arg-type]


def test_only_images_are_normalised() -> None:
    with pytest.raises(InputError, match="for images"):
        preprocessing_with(Preprocessing(kind="features"), mean=[0.5])


def test_settings_are_json() -> None:
    import json

    for kind in ("image", "text", "features"):
        own = Preprocessing(kind=kind)  # type: ignore[arg-type]
        assert json.loads(json.dumps(own.as_dict()))["kind"] == kind
        assert own.describe()
