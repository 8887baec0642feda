"""A picture is decoded and resized once for all networks of one input size, and every number stays the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lowdim._preprocessing import Preprocessing
from lowdim.data import _folder as folder_module
from lowdim.data import _kept as kept_module
from lowdim.data import load_data
from lowdim.data._batches import batches
from lowdim.data._kept import keeping_pictures
from lowdim.ranking import candidates_of, rank

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("photos")
    for name, shade in (("dark", 40), ("light", 200)):
        (where / name).mkdir()
        for index in range(8):
            pixels = np.clip(rng.normal(shade, 30, (20, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(where / name / f"{index}.png")
    return where


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was decoded."""
    count: Counter[str] = Counter()
    original = folder_module.open_image

    def counted(path: Path, root: Path) -> Image.Image:
        count[path.name + path.parent.name] += 1
        return original(path, root)

    monkeypatch.setattr(folder_module, "open_image", counted)
    return count


def test_each_picture_is_decoded_once_for_networks_of_one_size(photos: Path, opened: Counter[str]) -> None:
    data = load_data(photos, test_share=0)
    found = rank(candidates_of(["digits", "digits-0-4"]), data)
    assert set(opened.values()) == {1} and len(opened) == 16
    assert [place.candidate.name for place in found.places]
    assert kept_module._open == []


def test_numbers_are_the_same_to_the_bit_and_sizes_stay_apart(photos: Path, opened: Counter[str]) -> None:
    split = load_data(photos, test_share=0)["train"]
    forms = [
        Preprocessing(image_size=(8, 8), mean=(0.5,) * 3),
        Preprocessing(image_size=(8, 8), std=(0.3,) * 3),
        Preprocessing(image_size=(8, 8), crop_mode="squash"),
        Preprocessing(image_size=(8, 8), crop_mode="border", mean=(0.5,) * 3),
        Preprocessing(image_size=(8, 8), crop_mode="border", mean=(0.9,) * 3),
        Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,)),
    ]

    def read(form: Preprocessing) -> np.ndarray:
        ((inputs, _, _),) = batches(split, form, batch_size=16)
        return np.asarray(inputs)

    plain = [read(form) for form in forms]
    opened.clear()
    with keeping_pictures():
        for _ in range(2):
            assert all(np.array_equal(read(form), one) for form, one in zip(forms, plain, strict=True))
    assert set(opened.values()) == {5}, "two of the six differ in mean and deviation alone"


def test_what_has_no_room_is_made_each_time(
    photos: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "_MOST", 5 * 8 * 8 * 3)
    split = load_data(photos, test_share=0)["train"]
    with keeping_pictures():
        for _ in range(2):
            list(batches(split, Preprocessing(image_size=(8, 8)), batch_size=4))
    assert sorted(opened.values()) == [1] * 5 + [2] * 11
