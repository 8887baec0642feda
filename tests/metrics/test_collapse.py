import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from lowdim.errors import EmptyClassError, InputError, UsageError
from lowdim.metrics import heldout_variability, separation, variability, within_class_variability
from lowdim.statistics import ClassStatistics, SpanScatter, between_span, span_scatter
from problems import blobs, problems, rotation, simplex, tensors

SCATTERS = (oracles.between_scatter, oracles.within_scatter)


def collect(features, labels, classes, scatter="per_class", batch=None):
    features, labels = tensors(features, labels)
    found = ClassStatistics.empty(classes, features.shape[1], scatter=scatter)
    for start in range(0, len(labels), batch or len(labels)):
        rows = slice(start, start + (batch or len(labels)))
        found.update(features[rows], labels[rows])
    return found


def two_pass(features, labels, classes, weighting="pooled", batch=None):
    statistics = collect(features, labels, classes, "none", batch)
    span = between_span(statistics, weighting=weighting)
    return statistics, span_scatter(*tensors(features, labels), statistics, span)


def is_well_conditioned(features, labels, classes):
    values = np.linalg.eigvalsh(oracles.between_scatter(features, labels, classes))[::-1]
    return values[min(classes - 1, features.shape[1]) - 1] > 1e-5 * values[0]


@given(problems(), st.sampled_from(["pooled", "class_balanced"]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=100, derandomize=True)
def test_both_routes_and_all_variants_are_the_definition(problem, weighting, unbiased, divide):
    features, labels, classes = problem
    if unbiased and np.bincount(labels, minlength=classes).min() < 2 and weighting == "class_balanced":
        return
    if not is_well_conditioned(features, labels, classes):
        return
    expected = oracles.nc1(features, labels, classes, weighting, unbiased, divide)
    options = {"weighting": weighting, "unbiased": unbiased}
    one = within_class_variability(collect(features, labels, classes), divide_by_k=divide, **options)
    two = within_class_variability(*two_pass(features, labels, classes), divide_by_k=divide, **options)
    np.testing.assert_allclose([one, two], expected, rtol=1e-9)
    found = separation(collect(features, labels, classes, batch=3), **options)
    np.testing.assert_allclose(
        found.value, oracles.separation(features, labels, classes, weighting, unbiased), rtol=1e-9
    )


def test_size_weighting_also_weights_the_means():
    features, labels = blobs(4, 6, [2, 5, 40, 90])
    within = oracles.within_scatter(features, labels, 4)
    between = oracles.between_scatter(features, labels, 4, "size")
    expected = np.trace(within @ oracles.pseudo_inverse(between, 3))
    statistics, scatter = two_pass(features, labels, 4, "size_weighted")
    one = within_class_variability(collect(features, labels, 4), weighting="size_weighted")
    two = within_class_variability(statistics, scatter, weighting="size_weighted")
    np.testing.assert_allclose([one, two], expected, rtol=1e-10)
    found = separation(statistics, weighting="size_weighted")
    np.testing.assert_allclose([found.within, found.between], [np.trace(within), np.trace(between)], rtol=1e-10)


def test_a_span_of_another_weighting_is_refused():
    statistics, scatter = two_pass(*blobs(3, 4, [2, 5, 9]), 3)
    with pytest.raises(UsageError, match="another weighting"):
        variability(statistics, scatter, weighting="size_weighted")


def test_weighting_matters_on_a_long_tail():
    """A hundredfold imbalance with a noisy rare class: the variants differ, and each says which one it is."""
    features, labels = blobs(4, 6, [4, 40, 200, 400], noise=0.3)
    features[labels == 0] += 5 * np.random.default_rng(1).standard_normal((4, 6))
    statistics = collect(features, labels, 4)
    found = {w: variability(statistics, weighting=w) for w in ("pooled", "class_balanced", "size_weighted")}
    assert found["class_balanced"].value > 2 * found["pooled"].value
    assert found["size_weighted"].value != pytest.approx(found["pooled"].value, rel=0.1)
    assert all(value.weighting == name for name, value in found.items())
    assert (found["pooled"].min_per_class, found["pooled"].max_per_class) == (4, 400)


@pytest.mark.parametrize("ratio", [1e-2, 1e-6, 1e-12])
@pytest.mark.parametrize("batch", [None, 7])
def test_nine_digits_down_to_full_collapse_with_an_offset(ratio, batch):
    """tr Sigma_W / tr Sigma_B down to 1e-12 at an offset of 1e3; judged by arithmetic with 60 digits."""
    features, labels = blobs(4, 5, [3, 5, 8, 13], noise=ratio**0.5, offset=1e3, seed=3)
    exact = float(oracles.exact_nc1(features, labels, 4))
    np.testing.assert_allclose(oracles.nc1(features, labels, 4), exact, rtol=1e-9)
    one = within_class_variability(collect(features, labels, 4, batch=batch))
    two = within_class_variability(*two_pass(features, labels, 4, batch=batch))
    np.testing.assert_allclose([one, two], exact, rtol=1e-9)
    found = separation(collect(features, labels, 4, batch=batch)).value
    np.testing.assert_allclose(found, oracles.separation(features - 1e3, labels, 4), rtol=1e-9)


@pytest.mark.parametrize("batch", [None, 64])
def test_six_digits_on_float32_with_an_offset_of_ten_thousand_deviations(batch):
    features, labels = blobs(10, 32, 100, offset=1e4)
    features = features.astype(np.float32)
    expected = oracles.nc1(features, labels, 10)
    found = [
        within_class_variability(collect(features, labels, 10, batch=batch)),
        within_class_variability(*two_pass(features, labels, 10, batch=batch)),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    expected = oracles.separation(features, labels, 10)
    np.testing.assert_allclose(separation(collect(features, labels, 10, batch=batch)).value, expected, rtol=1e-6)


def test_an_ill_conditioned_span_loses_nothing():
    """cond(Sigma_B) = 1e8, where float32 pseudo-inverses lose almost all of NC1; judged by 60 digits."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 6)
    means = generator.standard_normal((5, 8)) * 10.0 ** np.array([0, -2, -4, -4, -4, -4, -4, -4])
    features = means[labels] + 1e-5 * generator.standard_normal((30, 8))
    exact = float(oracles.exact_nc1(features, labels, 5))
    found = variability(collect(features, labels, 5))
    assert found.condition > 1e7
    np.testing.assert_allclose(found.value, exact, rtol=1e-7)
    between, within = (torch.from_numpy(f(features, labels, 5)).float() for f in SCATTERS)
    textbook = float(torch.trace(within @ torch.linalg.pinv(between, hermitian=True)))
    assert abs(textbook - exact) > 0.5 * exact


def test_noise_on_a_simplex_frame_has_the_closed_form():
    """Isotropic noise s^2 around a simplex frame of norm a: NC1 = (K - 1)^2 s^2 / a^2 in the population."""
    classes, width, a, s, per_class = 5, 20, 3.0, 0.2, 4000
    labels = np.repeat(np.arange(classes), per_class)
    noise = np.random.default_rng(0).standard_normal((len(labels), width))
    features = simplex(classes, width, a)[labels] + s * noise
    found = variability(collect(features, labels, classes))
    # Sampling error: relative 1 / sqrt(samples * directions) from the scatter, twice that from the means.
    np.testing.assert_allclose(found.value, (classes - 1) ** 2 * s**2 / a**2, rtol=0.02)
    assert found.rank == classes - 1
    np.testing.assert_allclose(separation(collect(features, labels, classes)).value, width * s**2 / a**2, rtol=0.01)


def test_full_collapse_is_exactly_zero():
    labels = np.repeat(np.arange(3), 4)
    features = np.array([[1.0, 2.0, 3.0, 0.5], [-1.0, 0.25, 8.0, 1.0], [2.0, 2.0, -1.0, 4.0]])[labels]
    assert within_class_variability(collect(features, labels, 3)) == 0
    found = variability(*two_pass(features, labels, 3))
    assert (found.value, found.noise_share, set(found.class_share)) == (0, 0, {0})
    assert separation(collect(features, labels, 3)).value == 0


@given(problems(), st.integers(0, 100), st.sampled_from([1e-3, 7.0]), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_rotation_shift_scale_and_names_change_nothing(problem, seed, scale, random):
    features, labels, classes = problem
    if not is_well_conditioned(features, labels, classes):
        return
    expected = variability(collect(features, labels, classes)).value
    names = list(range(classes))
    random.shuffle(names)
    moved = scale * (features @ rotation(features.shape[1], seed)) + 3.0
    found = variability(*two_pass(moved, np.array(names)[labels], classes)).value
    # Rounding of the moved features themselves: 1e-16 of the offset against the noise of 1e-3.
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    d = separation(collect(features, labels, classes)).value
    np.testing.assert_allclose(separation(collect(moved, labels, classes)).value, d, rtol=1e-7)


def test_what_comes_with_the_value():
    features, labels = blobs(4, 9, [3, 5, 8, 13], noise=0.7)
    statistics, scatter = two_pass(features, labels, 4)
    found = variability(statistics, scatter)
    values = np.linalg.eigvalsh(oracles.between_scatter(features, labels, 4))[::-1]
    assert found.rank == 3
    np.testing.assert_allclose(found.condition, values[0] / values[2], rtol=1e-9)
    assert 0 < found.cutoff < 1e-20 * values[0]
    inverse = oracles.pseudo_inverse(oracles.between_scatter(features, labels, 4), 3)
    means = oracles.class_means(features, labels, 4)
    parts = [sum((x - means[k]) @ inverse @ (x - means[k]) for x in features[labels == k]) for k in range(4)]
    np.testing.assert_allclose(found.class_share, np.array(parts) / sum(parts), rtol=1e-9)
    assert variability(collect(features, labels, 4, "pooled")).class_share == ()


def test_noise_share_is_the_part_in_noisy_directions():
    """Three directions of the means; the smallest is planted below 2 q / n_k, the others far above."""
    classes, per_class = 4, 50
    generator = np.random.default_rng(0)
    left = np.linalg.qr((np.eye(4) - 1 / 4)[:, :3])[0]
    labels = np.repeat(np.arange(classes), per_class)
    noise = generator.standard_normal((200, 3))
    for k in range(classes):
        noise[labels == k] -= noise[labels == k].mean(axis=0)
    features = (2 * left * [10, 1, 0.1])[labels] + noise
    found = variability(collect(features, labels, classes))
    q = (noise**2).mean(axis=0)
    parts = q / np.array([100, 1, 0.01])
    np.testing.assert_allclose(found.value, parts.sum(), rtol=0.2)  # the small direction tilts by a percent or so
    assert found.noise_share == pytest.approx(parts[2] / parts.sum(), abs=0.01)
    assert 0.01 < 2 * q[2] / per_class < 1 < 2 * q[1]
    clean = variability(collect((2 * left * [10, 5, 3])[labels] + noise, labels, classes))
    assert clean.noise_share == 0


def test_noise_is_judged_by_the_small_classes():
    """Spread 0.1 of the means against noise of 1: seen by classes of 251 samples, not by those of 2."""
    generator = np.random.default_rng(0)
    shares = {}
    for sizes in ([2, 2, 2, 1000], [251, 251, 252, 252]):
        labels = np.repeat(np.arange(4), sizes)
        noise = generator.standard_normal((len(labels), 1))
        for k in range(4):
            noise[labels == k] -= noise[labels == k].mean(axis=0)
        noise *= 1 / noise.std()
        features = 0.1**0.5 * np.array([[1.0], [-1.0], [1.0], [-1.0]])[labels] + noise
        shares[sizes[0]] = variability(collect(features, labels, 4)).noise_share
    assert shares == {2: 1.0, 251: 0.0}


def test_heldout_is_the_definition_on_both_halves():
    for weighting in ("pooled", "class_balanced"):
        features, labels = blobs(4, 6, [4, 6, 9, 30])
        half = np.arange(len(labels)) % 2
        pairs, expected = [], []
        for part in range(2):
            fit, held = half == part, half != part
            statistics = collect(features[fit], labels[fit], 4)
            scatter = span_scatter(*tensors(features[held], labels[held]), statistics, between_span(statistics))
            pairs.append((statistics, scatter))
            parts = features[fit], labels[fit], features[held], labels[held], 4
            expected.append(oracles.nc1_heldout(*parts, weighting=weighting))
        np.testing.assert_allclose(heldout_variability(pairs, weighting=weighting), np.mean(expected), rtol=1e-10)


def test_heldout_does_not_reward_few_samples():
    """With two samples per class NC1 is far too small (each mean fits its samples); the held-out value is not."""
    features, labels = blobs(5, 100, 2, noise=1.0, spread=0.5)
    many = blobs(5, 100, 400, noise=1.0, spread=0.5)
    pairs = []
    first = np.array([np.flatnonzero(labels == k)[0] for k in range(5)])
    for rows in (first, np.setdiff1d(np.arange(10), first)):
        statistics = collect(features[rows], labels[rows], 5)
        other = np.setdiff1d(np.arange(10), rows)
        span = between_span(statistics)
        pairs.append((statistics, span_scatter(*tensors(features[other], labels[other]), statistics, span)))
    small, large = variability(collect(features, labels, 5)).value, variability(collect(*many, 5)).value
    assert small < 0.5 * large
    assert heldout_variability(pairs) > small


def test_one_extreme_sample_leaves_the_other_classes_alone():
    """1e30 in one sample of class 0: NC1 has one direction left and says that it is noise; other classes keep their numbers."""
    features, labels = blobs(4, 6, 20)
    clean = collect(features, labels, 4)
    features[np.flatnonzero(labels == 0)[0], 2] = 1e30
    dirty = collect(features, labels, 4)
    torch.testing.assert_close(dirty.means[1:], clean.means[1:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dirty.squares[1:], clean.squares[1:], rtol=1e-12, atol=1e-12)
    found = variability(dirty)
    assert found.rank == 1
    assert found.noise_share == pytest.approx(1)


@pytest.mark.parametrize(("classes", "width"), [(2, 1), (3, 4), (10, 1000), (1000, 3)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e5 / 3])
def test_constant_features_have_no_value(classes, width, value):
    labels = np.arange(2 * classes + 1) % classes
    statistics = collect(np.full((len(labels), width), value), labels, classes, "pooled", batch=5)
    for metric in (within_class_variability, separation):
        with pytest.raises(InputError, match="constant"):
            metric(statistics)


def test_equal_class_means_have_no_value():
    features = np.array([[0.1, 1.3], [0.3, -0.7], [0.3, -0.7], [0.1, 1.3]]) + 1e3
    statistics = collect(features, np.array([0, 0, 1, 1]), 2)
    for metric in (within_class_variability, separation):
        with pytest.raises(InputError, match="class means coincide"):
            metric(statistics)


def test_one_sample_per_class_is_no_collapse():
    statistics = collect(np.eye(3), np.arange(3), 3)
    for metric in (within_class_variability, separation):
        with pytest.raises(InputError, match="single sample"):
            metric(statistics)
    features, labels = blobs(3, 4, [1, 3, 4])
    mixed = collect(features, labels, 3)
    assert np.isfinite(within_class_variability(mixed))
    for metric in (within_class_variability, separation):
        with pytest.raises(InputError, match="two samples of every class"):
            metric(mixed, weighting="class_balanced", unbiased=True)


def test_empty_and_single_classes_are_refused():
    features, labels = blobs(3, 4, 5)
    for metric in (within_class_variability, separation):
        with pytest.raises(EmptyClassError, match=r"\[3\]"):
            metric(collect(features, labels, 4))
        with pytest.raises(InputError, match="2 classes"):
            metric(collect(features, np.zeros_like(labels), 1))


def test_an_empty_class_counts_for_nothing_once_dropped():
    features, labels = blobs(3, 4, 5, offset=5.0)
    gapped = np.where(labels == 2, 3, labels)
    kept = collect(features, gapped, 5).without_empty()
    np.testing.assert_allclose(within_class_variability(kept), oracles.nc1(features, labels, 3), rtol=1e-9)


def test_missing_scatter_says_what_to_do():
    features, labels = blobs(3, 4, 5)
    with pytest.raises(InputError, match="span_scatter"):
        within_class_variability(collect(features, labels, 3, "none"))
    with pytest.raises(InputError, match="per_class"):
        within_class_variability(collect(features, labels, 3, "pooled"), weighting="class_balanced")


def test_heldout_refuses_a_part_without_a_class():
    features, labels = blobs(3, 4, 5)
    statistics = collect(features, labels, 3)
    scatter = SpanScatter.empty(statistics, between_span(statistics))
    scatter.update(*tensors(features[labels != 1], labels[labels != 1]))
    with pytest.raises(EmptyClassError, match="two samples"):
        heldout_variability([(statistics, scatter)])


def test_unbiased_does_not_depend_on_the_samples_per_class():
    """Biased NC1 doubles from 2 to 200 samples per class even with known means; n - 1 removes the bias of Sigma_W."""
    classes, width = 4, 30
    values = {}
    for per_class in (2, 50):
        found = []
        for seed in range(40):
            labels = np.repeat(np.arange(classes), per_class)
            noise = 0.05 * np.random.default_rng(seed).standard_normal((len(labels), width))
            statistics = collect(simplex(classes, width, 1.0)[labels] + noise, labels, classes)
            found.append([separation(statistics, unbiased=flag).within for flag in (False, True)])
        values[per_class] = np.mean(found, axis=0)
    assert values[2][0] == pytest.approx(values[50][0] * 50 / 49 / 2, rel=0.05)
    assert values[2][1] == pytest.approx(values[50][1], rel=0.05)
