"""Which samples a tuned network gets wrong, and how the page shows it."""

import csv
import io
from collections import Counter

import numpy as np
from PIL import Image

from lowdim.data import Split
from lowdim.finetuning._mistakes import MOST, mistakes_of
from lowdim.report._interactive import to_plotly
from lowdim.report._svg import to_svg
from lowdim.report._tables import to_csv
from lowdim.report.finetuning import CONFUSED, _confusion


def split(labels):
    return Split(
        name="test",
        kind="image",
        labels=np.asarray(labels),
        items=[f"item {index}" for index in range(len(labels))],
        read=lambda index: Image.new("L", (8, 8)),
    )


def test_the_surest_mistakes_come_first_and_right_answers_are_counted():
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    found = mistakes_of(np.log(shares), split([0, 0, 0, 1, 1]), ["a", "b", "c"])
    assert found["judged"] == "test"
    assert {(one["class"], one["predicted"]): one["samples"] for one in found["confusion"]} == {
        ("a", "a"): 1,
        ("a", "b"): 1,
        ("a", "c"): 1,
        ("b", "b"): 1,
        ("b", "c"): 1,
    }
    told = [(one["item"], one["position"], one["class"], one["predicted"]) for one in found["mistakes"]]
    assert told == [("item 2", 2, "a", "c"), ("item 1", 1, "a", "b"), ("item 4", 4, "b", "c")]
    assert np.allclose([one["probability"] for one in found["mistakes"]], [0.9, 0.8, 0.6])
    assert np.allclose([one["probability_of_class"] for one in found["mistakes"]], [0.05, 0.1, 0.2])


def test_only_so_many_are_listed():
    many = mistakes_of(np.log(np.tile([0.1, 0.9], (100, 1))), split([0] * 100), ["a", "b"])
    assert len(many["mistakes"]) == MOST and many["confusion"] == [{"class": "a", "predicted": "b", "samples": 100}]


def test_a_matrix_of_many_classes_shows_those_with_most_mistakes():
    names = [f"class {index}" for index in range(CONFUSED + 30)]
    counts = Counter({(name, name): 5 for name in names}) + Counter(
        {(names[40], names[3]): 2, (names[7], names[40]): 1}
    )
    (figure,) = _confusion(counts, names, "test split")
    assert figure.rows == [names[3], names[7], names[40]] and figure.counts.tolist() == [
        [5, 0, 0],
        [0, 5, 1],
        [2, 0, 5],
    ]
    rows = list(csv.reader(io.StringIO(to_csv(figure))))
    assert rows[0] == ["class of the label", "class given", "count"] and ["class 40", "class 3", "2"] in rows
    (drawn,) = to_plotly(figure)
    assert drawn["data"][0]["text"][2] == ["2", "", "5"]
    assert names[40] in to_svg(figure)
