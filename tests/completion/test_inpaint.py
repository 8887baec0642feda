"""Pictures: the surfaces against their definitions, the weights against planted truth, tiles against one piece."""

import warnings

import numpy as np
import pytest

from lowdim.completion import DeepMatrixCompletion
from lowdim.completion.entries._inputs import Picture
from lowdim.completion.solvers import _inpaint as inpaint
from lowdim.errors import UsageError

GENERATOR = np.random.default_rng


def _holes(shape: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    return GENERATOR((seed, 9)).random(shape) < share


def _smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture in one colour of a few waves, from 0 to 255."""
    y, x = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")
    waves = GENERATOR(seed).uniform(1, 9, (4, 2))
    total = sum(np.cos(a * x + b * y + a) for a, b in waves)
    return (255 * (total - total.min()) / np.ptp(total))[:, :, None]


def _energy(pixels: np.ndarray, order: int) -> float:
    """Squared differences between neighbours, or squared sums of them around each pixel, by loops."""
    height, width = pixels.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            steps = [pixels[i, j] - pixels[a, b] for a, b in near if 0 <= a < height and 0 <= b < width]
            total += sum(step**2 for step in steps) / 2 if order == 1 else sum(steps) ** 2
    return total


@pytest.mark.parametrize("order", [1, 2])
def test_no_other_values_of_the_missing_pixels_have_less_energy(order: int) -> None:
    pixels, missing = GENERATOR(1).normal(size=(7, 9)), _holes((7, 9), 0.5)
    filled = inpaint._solved(pixels[:, :, None], missing, order)[:, :, 0]
    np.testing.assert_array_equal(filled[~missing], pixels[~missing])
    least = _energy(filled, order)
    for place in np.argwhere(missing):
        for step in (-1e-3, 1e-3):
            moved = filled.copy()
            moved[tuple(place)] += step
            assert _energy(moved, order) > least


@pytest.mark.parametrize("order", [1, 2])
def test_a_slope_is_continued_exactly_inside(order: int) -> None:
    y, x = np.mgrid[:20, :30]
    pixels = (3.0 * x - 2.0 * y + 7)[:, :, None]
    missing = np.zeros((20, 30), bool)
    missing[5:15, 8:20] = True
    np.testing.assert_allclose(inpaint._solved(pixels, missing, order), pixels, atol=1e-9)


def test_the_weights_are_those_of_a_planted_combination() -> None:
    generator = GENERATOR(0)
    parts = [generator.normal(size=5000) for _ in range(3)]
    planted = np.array([0.2, 0.0, 0.8])
    found = inpaint._weights([*parts, planted @ np.stack(parts)])
    np.testing.assert_allclose(found, planted, atol=1e-6)
    outside = inpaint._weights([parts[0], parts[1], 2 * parts[0] - parts[1]])  # nearest within the bounds
    np.testing.assert_allclose(outside, [1, 0], atol=1e-6)
    assert inpaint._weights([np.zeros(0)] * 3).tolist() == [1, 0]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("solid", [False, True])
def test_tiles_agree_with_one_piece(order: int, solid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, missing = _smooth((150, 170)), _holes((150, 170), 0.6)
    if solid:
        missing[:] = False
        missing[20:130, 30:140] = True
    whole = inpaint._solved(pixels, missing, order)
    monkeypatch.setattr(inpaint, "DIRECT", 1_000)
    monkeypatch.setattr(inpaint, "TILE", 48)
    tiles = inpaint._filled(pixels, missing, order)
    np.testing.assert_array_equal(tiles[~missing], pixels[~missing])
    error, own = np.sqrt(np.mean((tiles - whole)[missing] ** 2)), np.sqrt(np.mean((whole - pixels)[missing] ** 2))
    assert error < (0.5 * own if solid else 0.05 * own)


def test_held_pixels_lie_under_copies_of_wide_holes_and_alone_in_dense_ones() -> None:
    missing = np.zeros((60, 80), bool)
    missing[10:20, 10:22] = True
    checks = inpaint._checks(missing, 0)
    assert len(checks) == inpaint.ROUNDS
    for _, held in checks:
        assert not (held & missing).any()
        assert 0.1 <= held.sum() / (~missing).sum() < 0.13
        assert inpaint.scipy.ndimage.label(held)[1] <= 6
    dense = _holes((60, 80), 0.7)
    ((_, held),) = inpaint._checks(dense, 0)
    assert held[~dense].mean() == pytest.approx(inpaint.HELD, abs=0.03)


def test_the_pixels_hidden_by_a_seed_do_not_hide_those_to_be_held_out_by_it() -> None:
    ((_, held),) = inpaint._checks(GENERATOR(0).random((40, 50)) < 0.6, 0)
    assert held.any()


def test_of_many_missing_pixels_windows_around_some_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint, "DIRECT", 1_000)
    monkeypatch.setattr(inpaint, "WINDOW", 40)
    monkeypatch.setattr(inpaint, "TILE", 48)
    pixels, missing = np.round(_smooth((150, 170))).astype(np.uint8), _holes((150, 170), 0.3)
    picture = Picture(pixels, missing)
    rounds = [inpaint._Round.of(_smooth((150, 170)), missing, *check) for check in inpaint._checks(missing, 0)]
    assert all(one.held.shape == (40, 40) for one in rounds)
    held = rounds[0].held_of(picture.entries, missing)
    assert held.sum() == rounds[0].held.sum() == rounds[0].parts[-1].size
    np.testing.assert_allclose(picture.entries.values[held], rounds[0].parts[-1], atol=0.5)  # rounded
    model, filled = _fitted(picture)
    assert np.sqrt(np.mean((filled.astype(float) - pixels)[missing] ** 2)) < 1
    assert 0.3 < model.held_out_error_ / np.sqrt(np.mean((filled.astype(float) - pixels)[missing] ** 2)) < 3
    hole = np.zeros((150, 170), bool)
    hole[40:110, 50:120] = True
    assert all(window[0].stop - window[0].start >= 150 for window, _ in inpaint._checks(hole, 0))


def _fitted(picture: Picture, **options: object) -> tuple[DeepMatrixCompletion, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DeepMatrixCompletion(clip=(0, 255), keep_empty_features=True, **options).fit(picture)  # type: ignore[arg-type]
    return model, picture.filled(model.transform(picture.entries))


def test_a_texture_of_low_rank_is_told_by_its_factors() -> None:
    generator = GENERATOR(0)
    rows, columns = generator.integers(0, 2, (2, 60)), generator.integers(0, 2, (2, 70))
    pixels = np.round(20 + 100 * (rows.T @ columns)).clip(0, 255).astype(np.uint8)[:, :, None]
    picture = Picture(pixels, _holes((60, 70), 0.4))
    model, filled = _fitted(picture)
    assert (model.solver_, model.rank_ > 0) == ("inpaint", True)
    assert "low rank 1.00" in model.reason_
    assert np.abs(filled.astype(float) - pixels)[picture.missing].max() <= 1
    scale = model.singular_values_
    left, right = model.factors_
    np.testing.assert_allclose(np.linalg.svd(left @ right.T, compute_uv=False)[: scale.size], scale, rtol=1e-8)


def test_a_smooth_picture_with_whole_lines_missing() -> None:
    pixels = np.round(_smooth((50, 60))).astype(np.uint8)
    missing = _holes((50, 60), 0.2)
    missing[20], missing[:, 30:32] = True, True
    model, filled = _fitted(Picture(pixels, missing))
    assert model.solver_ == "inpaint"
    assert np.sqrt(np.mean((filled.astype(float) - pixels)[missing] ** 2)) < 3
    again, same = _fitted(Picture(pixels, missing))
    np.testing.assert_array_equal(filled, same)
    assert again.held_out_error_ == model.held_out_error_


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2), (3, 4)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    pixels = GENERATOR(0).integers(0, 256, (*shape, 3), np.uint8)
    missing = np.zeros(shape, bool)
    missing[0, 0] = True
    model = DeepMatrixCompletion(clip=(0, 255), keep_empty_features=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(Picture(pixels, missing))
    assert np.isfinite(model.transform(Picture(pixels, missing).entries)).all()


def test_where_nothing_can_be_checked_the_surface_is_used_and_that_is_said() -> None:
    missing = np.ones((20, 30), bool)
    missing[3, 4] = False
    picture = Picture(np.full((20, 30, 1), 77, np.uint8), missing)
    model = DeepMatrixCompletion(clip=(0, 255), keep_empty_features=True)
    with pytest.warns(UserWarning, match="nothing says how good"):
        model.fit(picture)
    assert (picture.filled(model.transform(picture.entries)) == 77).all()


def test_other_input_is_refused() -> None:
    with pytest.raises(UsageError, match="'inpaint' is for pictures"):
        DeepMatrixCompletion(solver="inpaint").fit(np.where(_holes((9, 9), 0.2), np.nan, 1.0 * np.arange(9)))
