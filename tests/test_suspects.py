"""Suspected labels are ordered by a probe that the clearly suspected ones have not misled."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from lowdim._job import Job
from lowdim.data import dataset_from_arrays, load_data
from lowdim.errors import InputError
from lowdim.finetuning._advise import _suspects
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._choice import probe_plan
from lowdim.models import load_model
from lowdim.probe import fit_probe
from lowdim.probe._suspects import suspected_labels
from lowdim.profiling import profile


def planted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """160 samples of four classes, of which 12 have a wrong label."""
    generator = np.random.default_rng(seed)
    truth = np.arange(160) % 4
    x = 4 * np.eye(4, 40)[truth] + generator.normal(size=(160, 40))
    wrong = generator.choice(160, 12, replace=False)
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + generator.integers(1, 4, 12)) % 4
    return x, labels, wrong


def listed(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, the log probabilities that order them, and the held-out ones, by a probe that overfits."""
    heldout = fit_probe(x, labels, classes=4, strengths=[1e-5]).heldout

    def fit(kept: np.ndarray, judged: np.ndarray) -> np.ndarray:
        assert not set(kept) & set(judged)
        assert len(kept) + len(judged) == len(labels)
        return fit_probe(x[kept], labels[kept], classes=4, strengths=[1e-5]).probe.log_probabilities(x[judged])

    return *suspected_labels(heldout, labels, fit), heldout[np.arange(len(labels)), labels]


def test_more_wrong_labels_stand_first_than_by_the_probes_that_they_misled() -> None:
    before = after = 0
    for seed in range(4):
        x, labels, wrong = planted(seed)
        positions, own, heldout = listed(x, labels)
        assert (np.diff(own[positions]) >= 0).all()
        before += np.isin(np.argsort(heldout)[:12], wrong).sum()
        after += np.isin(positions[:12], wrong).sum()
    assert before < 36
    assert after > 40


def test_the_order_is_the_same_every_time() -> None:
    x, labels, _ = planted(0)
    np.testing.assert_array_equal(listed(x, labels)[0], listed(x, labels)[0])


def refuse(kept: np.ndarray, judged: np.ndarray) -> np.ndarray:
    raise AssertionError(f"no further fit is needed, of {len(kept)} for {len(judged)}")


def test_where_no_label_is_clearly_suspected_the_order_is_that_of_the_heldout_probabilities() -> None:
    heldout = np.log([[0.6, 0.4], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [np.nan, np.nan]])
    labels = np.array([1, 1, 1, 0, 0])
    positions, own = suspected_labels(heldout, labels, refuse)
    assert positions.tolist() == [3, 1, 0]
    np.testing.assert_array_equal(own, heldout[np.arange(5), labels])
    assert suspected_labels(heldout, labels, refuse, times=2)[0].tolist() == [3, 1]
    assert suspected_labels(heldout, labels, refuse, times=20)[0].tolist() == []


def test_a_class_that_would_lose_half_of_its_samples_keeps_all() -> None:
    labels = np.array([0] * 4 + [1] * 2 + [2])
    heldout = np.full((7, 3), -0.1)
    heldout[0, 0], heldout[4, 1], heldout[5, 1], heldout[6] = -9, -8, -7, np.nan
    seen: list[list[int]] = []

    def fit(kept: np.ndarray, judged: np.ndarray) -> np.ndarray:
        seen.extend([kept.tolist(), judged.tolist()])
        return np.full((len(judged), 3), -7.5)

    positions, own = suspected_labels(heldout, labels, fit)
    assert seen == [[1, 2, 3, 4, 5, 6], [0]]
    assert positions.tolist() == [4, 0, 5]
    assert own[[4, 0, 5]].tolist() == [-8, -7.5, -7]


def test_too_few_others_leave_the_order_as_it_is() -> None:
    def fit(kept: np.ndarray, judged: np.ndarray) -> np.ndarray:
        raise InputError("too few")

    heldout = np.log([[0.01, 0.99], [0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    positions, own = suspected_labels(heldout, np.array([0, 0, 0, 1]), fit)
    assert positions.tolist() == [0]
    np.testing.assert_array_equal(own, heldout[np.arange(4), [0, 0, 0, 1]])


def test_measure_judges_by_the_labels_that_it_does_not_suspect() -> None:
    x, labels, _ = planted(0)
    x = x[:, :8]
    first = fit_probe(x, labels, classes=4)

    def fit(kept: np.ndarray, judged: np.ndarray) -> np.ndarray:
        again = fit_probe(x[kept], labels[kept], classes=4, strengths=[first.probe.strength])
        return again.probe.log_probabilities(x[judged])

    positions, own = suspected_labels(first.heldout, labels, fit)
    assert (own != first.heldout[np.arange(160), labels]).sum() > 3
    found = profile(nn.Identity(), (torch.from_numpy(x), torch.from_numpy(labels)), outliers=10).outliers
    assert [one.position for one in found] == positions[:10].tolist()
    assert [one.probability for one in found] == np.exp(own[positions[:10]]).tolist()


def test_the_frozen_head_judges_by_the_labels_that_it_does_not_suspect(tmp_path: Path) -> None:
    digits = load_data("digits-0-4", shots=10)["train"]
    images = np.stack([np.asarray(digits.load(index)) for index in range(len(digits))])
    labels = digits.labels.copy()
    wrong = np.random.default_rng(0).choice(len(labels), 3, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 5
    bench = Bench(load_model("digits-0-4"), dataset_from_arrays(images, labels, images, labels), Job(folder=tmp_path))
    found = _suspects(bench, 20)
    assert {one.position for one in found[:2]} <= set(wrong.tolist())
    positions = [one.position for one in found]
    kept = np.setdiff1d(np.arange(len(labels)), positions)
    logarithms = bench.fit(probe_plan(bench), indices=kept).log_probabilities(np.array(positions))
    expected = np.exp(logarithms[np.arange(len(positions)), labels[positions]])
    np.testing.assert_allclose([one.probability or np.nan for one in found], expected)
    assert (np.diff(expected) >= 0).all()
