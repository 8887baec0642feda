"""Levels in order, as answers of a questionnaire: numbers inside, and levels outside."""

import numpy as np
import pandas as pd
import pytest

from lowdim.completion import DeepMatrixCompletion
from lowdim.errors import UsageError
from lowdim.tables import table_of_frame
from lowdim.tables._columns import column_like
from lowdim.tables._ordered import in_order

AGREE = ("Strongly disagree", "Disagree", "Neutral", "Agree", "Strongly agree")
AGES = ("<18", "18-24", "25-34", "35+")


def answers(rows: int = 200) -> tuple[pd.DataFrame, np.ndarray]:
    """A question, one that asks for the opposite, and classes of age, which say nearly the same; and what is hidden of them."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=rows)
    place = np.clip(np.round(2 + hidden[:, None] * [1, -1] + 0.4 * random.normal(size=(rows, 2))), 0, 4).astype(int)
    frame = pd.DataFrame({name: np.take(AGREE, column) for name, column in zip("ab", place.T, strict=True)})
    frame["age"] = np.take(AGES, np.clip(np.round(1.5 + hidden), 0, 3).astype(int))
    missing = random.random(frame.shape) < 0.25
    missing[missing.all(1)] = False
    return frame, missing


def test_levels_come_back_and_are_nearer_to_the_truth_than_without_their_order() -> None:
    frame, hidden = answers()
    holed = frame.mask(hidden)
    places = {level: place for scale in (AGREE, AGES) for place, level in enumerate(scale)}
    distances: list[float] = []
    for kinds in (None, dict.fromkeys(frame, "category")):
        model = DeepMatrixCompletion(kinds=kinds)
        filled = model.fit_transform(holed)
        assert list(filled.dtypes) == list(holed.dtypes)
        assert set(filled["a"]) <= set(AGREE) and set(filled["age"]) <= set(AGES)
        pd.testing.assert_frame_equal(filled.mask(hidden), holed)
        steps = filled.map(places.get) - frame.map(places.get)
        distances.append(float(steps.abs().to_numpy()[hidden].mean()))
    assert distances[0] < 0.9 * distances[1], distances
    assert model.column_kinds_ == dict.fromkeys(frame, "category")
    assert table_of_frame(holed).describe() == [
        "levels in order, as numbers inside: 'a', 'b' ('Strongly disagree', 'Disagree', 'Neutral', 'Agree', 'Strongly agree'), "
        "'age' ('<18', '18-24', '25-34', '35+')"
    ]


def test_an_ordered_categorical_keeps_its_order_and_its_type() -> None:
    frame, hidden = answers(60)
    named = dict(
        zip(AGREE, ("red", "green", "blue", "white", "black"), strict=True)
    )  # an order that only the type knows
    types = pd.CategoricalDtype(list(named.values()), ordered=True)
    holed = frame.assign(a=frame["a"].map(named).astype(types)).mask(hidden)
    model = DeepMatrixCompletion().fit(holed)
    assert model.column_kinds_["a"] == "ordered"
    filled, deviations = model.transform(holed, return_std=True)
    assert filled["a"].dtype == types and filled.notna().all(axis=None)
    assert (deviations[hidden] > 0).all() and (deviations[~hidden] == 0).all()
    again = model.transform(holed.iloc[:5])
    pd.testing.assert_frame_equal(again, filled.iloc[:5])
    assert all(draw["a"].dtype == types for draw in model.sample(holed, 2))


def test_a_level_that_reads_as_missing_stays_one_among_levels_of_its_scale() -> None:
    cells = ["none", "mild", "severe", "mild", "none", None, "moderate", "severe", "mild", "none"]
    (column,) = table_of_frame(pd.DataFrame({"pain": cells})).columns
    assert column.kind == "ordered" and column.known.tolist() == [cell is not None for cell in cells]
    assert [column.write(code) for code in (-0.7, 0.4, 0.6, 2.6, 7.0)] == ["none", "none", "mild", "severe", "severe"]
    later = column_like(column, pd.Series(["none", None, "other"], dtype=object))
    assert (
        later.known.tolist() == [True, False, True] and later.numbers[0, 0] == 0 and np.isnan(later.numbers[1:]).all()
    )


@pytest.mark.parametrize(
    "levels",
    [
        ["red", "green", "blue"],
        ["9 AM", "1 PM", "5 PM"],
        ["1-2", "1-2 days", "3"],
        ["low", "high"],
        [f"{number} km away" for number in range(16)],
    ],
)
def test_others_have_no_order(levels: list[str]) -> None:
    assert in_order(levels) is None


def test_what_has_no_order_is_not_read_as_if_it_had() -> None:
    frame = pd.DataFrame({"x": ["red", "green", "blue"] * 4, "y": np.arange(12.0)})
    with pytest.raises(UsageError, match="'x' cannot be read as ordered: its levels neither begin with numbers nor"):
        DeepMatrixCompletion(kinds={"x": "ordered"}).fit(frame)
