"""Nothing is cut or covered: cells of the terminal, marks of axes, names of points."""

import re

import numpy as np
import pytest

from lowdim.figures import Lines, Series, Table
from lowdim.report._interactive import to_plotly
from lowdim.report._places import label_sides
from lowdim.report._svg import to_svg
from lowdim.report._terminal import to_terminal
from lowdim.report.answers import headline
from lowdim.report.finetuning import _confusion


@pytest.mark.parametrize("width", range(40, 180, 3))
def test_every_cell_that_is_shown_is_whole(width):
    columns = [
        "model",
        "rank",
        "probe, cross-validated",
        "NC1",
        "H-score",
        "regularised H-score",
        "parameters",
        "layer",
    ]
    rows = [
        ["mobilenetv2_035", 1, "0.855 [0.79, 0.91]", 12.3, 1.23, 0.92, 396160, "head:input"],
        ["digits", 2, "0.8 [0.71, 0.88]", 12.3, 1.23, 0.92, 3960, "head:input"],
    ]
    text = to_terminal(Table("scores", "Candidates", columns, rows), width)
    table, _, left_out = text.partition("not shown for want of width: ")
    words = set(re.sub("[─\\n]", " ", table).split())
    for index, name in enumerate(columns):
        if name not in left_out.strip().split("; ") or not left_out:
            shown = [name, *(f"{row[index]:,}" if isinstance(row[index], int) else str(row[index]) for row in rows)]
            if not any(word in words for word in shown[1].split()):  # a name with a comma in the list of those left out
                assert name in left_out
                continue
            assert {word for cell in shown for word in cell.split()} <= words


@pytest.mark.parametrize("across", [False, True])
def test_a_narrow_logarithmic_axis_has_marks(across):
    values = [12.1, 12.2, 17.0]
    points = (
        Series("c", [0, 1, 2], values, style="points")
        if across
        else Series("c", values, [0.5, 0.6, 0.7], style="points")
    )
    figure = Lines(
        "f",
        "t",
        "x",
        "y",
        [points],
        log_x=not across,
        log_y=across,
        x_ticks=list("abc") if across else None,
        across=across,
    )
    marks = [float(found) for found in re.findall(r">(1[2-7])</text>", to_svg(figure))]
    assert len(marks) >= 3
    (drawn,) = to_plotly(figure)
    assert len(drawn["layout"]["xaxis"]["tickvals"]) >= 3


def test_names_of_near_points_do_not_cover_each_other():
    points = Series(
        "c",
        [1.0, 1.001, 1.002, 2.0],
        [0.5, 0.5, 0.5, 0.6],
        style="points",
        labels=["one-name", "two-name", "three-name", "d"],
    )
    sides = label_sides(Lines("f", "", "", "", [points]), points.x, points.y, points.labels)
    assert len(set(sides[:3])) == 3 and sides[3].endswith("left")


def test_the_sentence_of_a_ranking_quotes_the_number_that_ordered():
    rows = [
        {"model": "a", "rank": 1, "probe_cv_accuracy": 0.855, "probe_accuracy": 0.667, "probe_samples": 36, "nc1": 2.0},
        {"model": "b", "rank": 1, "probe_cv_accuracy": 0.8, "probe_accuracy": 0.667, "nc1": 3.0},
    ]
    rows = [row | {"intervals": {"probe_cv_accuracy": (0.79, 0.91), "nc1": (1.5, 2.5)}} for row in rows]
    said = headline("rank", {"scores": rows, "by": "probe_cv_accuracy"})
    assert said == (
        "a suits this data best: a probe on its features reaches 85.5 % (90 % interval 79.0 to 91.0 %), cross-validated, "
        "and 66.7 % on the 36 test samples. "
        "It cannot be told apart from b on these samples."
    )
    assert headline("rank", {"scores": rows, "by": "nc1"}).startswith(
        "a suits this data best, by nc1 2 (90 % interval 1.5 to 2.5)."
    )


def test_marks_of_an_index_are_whole_numbers() -> None:
    of_index = Lines("l", "Lines", "index", "value", [Series("s", np.arange(1, 3), [3.0, 2.0])])
    marks = re.findall(r">\s*([\d.]+)\s*</text>", to_svg(of_index))
    assert "1" in marks and "2" in marks and "1.2" not in marks and "1.4" not in marks
    assert to_plotly(of_index)[0]["layout"]["xaxis"]["dtick"] == 1
    of_numbers = Lines("l", "Lines", "x", "value", [Series("s", [1.0, 1.5, 2.0], [3.0, 2.0, 1.0])])
    assert (of_index.counted, of_numbers.counted) == (1, None)
    assert "dtick" not in to_plotly(of_numbers)[0]["layout"]["xaxis"]


@pytest.mark.parametrize(
    ("nc1", "said"),
    [
        (5.0, "NC1 5 (100 times tighter than by chance, 500)"),
        (400.0, "NC1 400 (hardly tighter than by chance, 500)"),
        (2000.0, "NC1 2,000 (no tighter than by chance, 500)"),
        (0.0, "NC1 0 (tighter than by chance, 500)"),
    ],
)
def test_whether_classes_collapse_is_said_against_chance(nc1, said):
    layer = {"name": "l", "split": "test", "pool": "avg", "width": 4, "ncc_accuracy": 0.9, "nc1": nc1, "nc1_heldout": 3.0, "nc1_chance": 500.0}  # fmt: skip
    result = {
        "layers": [layer],
        "data": [{"split": "test", "samples": 100}],
        "config": {"model": {"random_weights": False}},
    }
    assert said in headline("measure", result)


def test_of_many_classes_without_a_mistake_no_confusion_is_drawn() -> None:
    names = [f"class {n}" for n in range(30)]
    right = {(name, name): 2 for name in names}
    assert _confusion(right, names, "train") == []
    (matrix,) = _confusion({**right, (names[3], names[5]): 1}, names, "train")
    assert list(matrix.rows) == [names[3], names[5]]
