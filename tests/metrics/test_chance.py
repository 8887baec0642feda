import numpy as np
import pytest
import torch

import oracles
from lowdim.errors import InputError
from lowdim.metrics import chance_variability
from problems import blobs, tensors


def chance(features, labels, *, seed=0, **options):
    return chance_variability(*tensors(features, labels), generator=torch.Generator().manual_seed(seed), **options)


def permuted(features, labels, classes, *, weighting="pooled", unbiased=False, repeats=100):
    """Median of the naive NC1 over random permutations."""
    generator = np.random.default_rng(5)
    values = []
    for _ in range(repeats):
        shuffled = generator.permutation(labels)
        within = oracles.within_scatter(
            features, shuffled, classes, "class_balanced" if weighting == "class_balanced" else "pooled", unbiased
        )
        between = oracles.between_scatter(
            features, shuffled, classes, "size" if weighting == "size_weighted" else "class_balanced"
        )
        values.append(np.trace(within @ oracles.pseudo_inverse(between, min(features.shape[1], classes - 1))))
    return np.median(values)


def test_one_permutation_is_the_definition():
    features, labels = blobs(4, 12, [4, 6, 9, 11], offset=50.0)
    for seed in range(5):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(seed)).numpy()
        expected = oracles.nc1(features, labels[order], 4)
        assert chance(features, labels, seed=seed, permutations=1) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighting", ["pooled", "class_balanced", "size_weighted"])
@pytest.mark.parametrize("unbiased", [False, True])
def test_it_is_the_median_over_permutations(weighting, unbiased):
    features, labels = blobs(4, 12, [4, 10, 20, 50])
    expected = permuted(features, labels, 4, weighting=weighting, unbiased=unbiased)
    found = chance(features, labels, weighting=weighting, unbiased=unbiased, permutations=100)
    # Two medians over a hundred draws each.
    assert found == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("weighting", ["pooled", "class_balanced", "size_weighted"])
def test_a_subsample_gives_the_value_of_the_whole(weighting):
    features, labels = blobs(5, 30, [100, 200, 300, 400, 1000])
    whole = chance(features, labels, weighting=weighting, permutations=60)
    rows = np.concatenate([np.flatnonzero(labels == k)[: (labels == k).sum() // 5] for k in range(5)])
    part = chance(features[rows], labels[rows], samples=len(labels), weighting=weighting, permutations=60)
    assert part == pytest.approx(whole, rel=0.15)


def test_the_size_it_is_for_enters_exactly():
    """The unbiased value grows in proportion to the samples; the biased one loses a share K / N of it."""
    features, labels = blobs(5, 30, 8)
    here, there = chance(features, labels), chance(features, labels, samples=400)
    assert there / here == pytest.approx((400 / 40) * (1 - 5 / 400) / (1 - 5 / 40), rel=1e-12)
    here, there = (chance(features, labels, samples=samples, unbiased=True) for samples in (40, 400))
    assert there / here == pytest.approx(10, rel=1e-12)


def test_it_ignores_what_the_labels_say_and_which_classes_are_missing():
    features, labels = blobs(3, 10, 30, spread=50.0)
    # The classes are far apart, but shuffled labels do not know it.
    assert chance(features, labels) > 100 * oracles.nc1(features, labels, 3)
    assert chance(features, labels) == chance(features, labels * 7)
    assert chance(features, labels) == chance(features, labels)
    assert chance(features, labels) != chance(features, labels, seed=1)


def test_too_few_samples_or_classes_are_refused():
    features, labels = blobs(3, 10, 1)
    with pytest.raises(InputError, match="more samples than classes"):
        chance(features, labels)
    with pytest.raises(InputError, match="two classes"):
        chance(features, np.zeros(3, dtype=np.int64))
    with pytest.raises(InputError, match="same features"):
        chance(np.full((9, 4), 0.1), np.arange(9) % 3)
