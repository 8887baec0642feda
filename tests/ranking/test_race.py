"""Candidates that are clearly behind see no more samples; who stays, and what they cost."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim.data import load_data
from lowdim.errors import UsageError
from lowdim.features import Forward
from lowdim.ranking import Candidate, Evaluation, candidates_of, rank
from lowdim.ranking._race import BEHIND, nested_order, race


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5), st.data())
def test_every_beginning_has_the_classes_in_their_shares(labels: list[int], seed: int, data: st.DataObject) -> None:
    values = np.array(labels)
    order = nested_order(values, seed)
    assert sorted(order.tolist()) == list(range(len(values)))
    first = data.draw(st.integers(0, len(values)))
    for label in np.unique(values):
        expected = first * np.mean(values == label)
        assert abs(np.sum(values[order[:first]] == label) - expected) < len(np.unique(values))


def test_a_rare_class_is_rare_in_every_beginning() -> None:
    order = nested_order(np.repeat([0, 1], [90, 10]), 0)
    assert 1 <= np.sum(order[:20] >= 90) <= 3


@dataclass
class Planted:
    """Right and wrong answers of candidates with these accuracies, correlated: what is hard for one is hard for all."""

    accuracies: list[float]
    samples: int
    seed: int = 0
    asked: list[tuple[tuple[int, ...], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        hard = random.random(self.samples)
        self.right = [0.5 * hard + 0.5 * random.random(self.samples) < accuracy for accuracy in self.accuracies]

    def __call__(self, numbers, first):
        self.asked.append((tuple(numbers), first))
        return {number: self.of(number, first) for number in numbers}

    def of(self, number: int, first: int) -> Evaluation:
        right = self.right[number][:first].astype(float)
        moved = {"probe_cv_accuracy": (right - right.mean()) / first}
        return Evaluation(
            name=str(number), scores={"probe_cv_accuracy": right.mean()}, deviations={}, influences=moved, trials={}, feature={}, layer="", width=1,
            parameters=None, samples=first, probe_samples=first, random_weights=False, fingerprint="", preprocessing="", warnings=(),
            seconds=0.0, not_finite={}, raced=first,
        )  # fmt: skip


def test_who_is_clearly_behind_leaves_early_and_who_is_close_stays() -> None:
    planted = Planted([0.9, 0.88, 0.6, 0.2], 800)
    left = race(planted, np.arange(800) % 4, 4, by="probe_cv_accuracy", batch_size=10)
    assert {number: found.raced for number, found in left.items()} == {3: 50, 2: 50}
    assert planted.asked == [((0, 1, 2, 3), 50), ((0, 1), 100), ((0, 1), 200), ((0, 1), 400)]


def test_the_best_hardly_ever_leaves() -> None:
    """90 % intervals widened for cross-validation, four looks: of equal candidates few leave, and the better of two almost never."""
    lost = 0
    for seed in range(60):
        left = race(Planted([0.7, 0.72, 0.4], 600, seed), np.arange(600) % 3, 3, by="probe_cv_accuracy", batch_size=10)
        lost += 1 in left
        assert 2 in left
    assert lost <= 3


def test_answers_are_compared_sample_by_sample() -> None:
    """5 % fewer right answers are much where all others are the same, and little between unrelated ones."""
    planted = Planted([0.5, 0.5], 800)
    planted.right = [np.arange(800) % 10 != 0, (np.arange(800) % 10 != 0) & (np.arange(800) % 20 != 7)]
    assert race(planted, np.arange(800) % 4, 2, by="probe_cv_accuracy", batch_size=10)[1].raced == 200


def test_one_sample_is_no_clear_difference_even_where_nothing_scatters() -> None:
    """As of a class with one sample: within classes nothing varies."""
    planted = Planted([1.0, 1.0], 800)

    def still(numbers: list[int], first: int) -> dict[int, Evaluation]:
        found = planted(numbers, first)
        calm = {"probe_cv_accuracy": np.zeros(first)}
        scores = {number: {"probe_cv_accuracy": 1.0 - number / first} for number in numbers}
        return {number: replace(one, influences=calm, scores=scores[number]) for number, one in found.items()}

    assert not race(still, np.arange(800) % 4, 2, by="probe_cv_accuracy", batch_size=10)


def test_a_difference_of_no_sample_is_none() -> None:
    planted = Planted([1.0, 1.0], 800)
    assert not race(planted, np.arange(800) % 2, 2, by="probe_cv_accuracy", batch_size=10)
    assert pytest.approx(2.6, abs=0.01) == BEHIND


def test_who_cannot_be_scored_stays() -> None:
    planted = Planted([0.9, 0.2], 800)
    left = race(
        lambda numbers, first: {0: planted.of(0, first), 1: "no finite features"},
        np.arange(800) % 4,
        2,
        by="probe_cv_accuracy",
        batch_size=10,
    )
    assert left == {}


def test_no_pass_is_repeated_and_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []
    right = Forward._pass

    def counted(self, inputs):
        passed.extend([len(inputs)] * (len(inputs) > 2))  # two are the example by which the layers are found
        return right(self, inputs)

    monkeypatch.setattr(Forward, "_pass", counted)
    candidates = [
        *candidates_of(["digits-split"]),
        Candidate(name="untrained", model="digits", options={"random_weights": True}),
    ]
    data = load_data("digits", limit=400)
    settings = {"race": True, "batch_size": 10, "seed": 1, "probe_on": "cv"}
    found = rank(candidates, data, folder=tmp_path, **settings)
    first, last = (place.evaluation for place in found.places)
    assert (first.name, first.raced, first.samples) == ("digits-split", None, 400)
    assert last.raced == last.samples < 400
    assert sum(passed) == 2 * (400 + last.raced)  # as they are, and mirrored
    assert "stopped early" in found.warnings[0]
    assert [place.rank for place in found.places] == [1, 2]
    assert all(
        one.models == 1 for one in found.agreement.values()
    )  # with itself alone: those who left are not compared
    passed.clear()
    again = rank(candidates, data, folder=tmp_path, **settings)
    assert (again.as_dict(), passed) == (found.as_dict(), [])
    assert not (tmp_path / "features").exists()


def test_saved_features_do_not_race(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    data = load_data(str(tmp_path / "x.npz"))
    with pytest.raises(UsageError, match="saved features do not need"):
        rank(candidates_of([str(tmp_path / "x.npz")]), data, race=True)
    with pytest.raises(UsageError, match="race goes by probe_cv_accuracy"):
        rank(candidates_of(["digits"]), load_data("digits", limit=50), race=True, probe=False)
