"""A ranking of models as sections of the page."""

from collections.abc import Mapping
from typing import Any

from lowdim._names import short_names
from lowdim.figures import Lines, Series, Table
from lowdim.ranking import JUDGES, SCORES
from lowdim.ranking._agreement import FEWEST_ORDERED
from lowdim.report._page import Section

_WHY = (
    "Candidates stand by the accuracy to expect: of a linear classifier on the frozen feature and the second half of the blocks, on "
    "samples it has not seen. Scores that need no classifier stand beside it: lower NC1, higher H-score and LogME tend to go with "
    "higher accuracy between many models.",
    "Candidates that share a rank cannot be told apart on these samples: their difference is within its 90 % interval.",
)
_WHY_NUMBERS = (
    "Candidates stand by the R² to expect: of a ridge on the feature, on samples that it has not seen. Beside it stands how far the features "
    "are from as many directions as there are outputs (outside), and from holding the targets in them (unexplained).",
    _WHY[1],
)
_LINES = "Lines: 90 % intervals over the samples."
_BELOW = (
    " The upper line of a candidate is of the training samples, each judged by a probe that has not seen it, and orders; the lower one is "
    "of the {:,} test samples, with an interval of their own: the wider, the fewer they are."
)
_SOURCE = (
    "Li et al. 2022, arXiv 2212.12206 (NC1 and transfer); Bao et al. 2019 (H-score); You et al. 2021, arXiv 2102.11005 (LogME); "
    "Xu et al. 2023, arXiv 2306.03440 (VCI); Shao et al. 2022, arXiv 2207.03036 (SFDA); Nguyen et al. 2020, arXiv 2002.12462 (LEEP)."
)


def ranking_sections(result: Mapping[str, Any]) -> list[Section]:
    """One section: the candidates with their scores, each score against the probe, and the agreement."""
    tables = [
        _scores(result),
        *(_agreement(result) if len(result["scores"]) >= FEWEST_ORDERED else []),
        *_failed(result),
    ]
    return [
        Section(
            id="ranking",
            title="Which model suits this data",
            why=_WHY_NUMBERS if "outputs" in result else _WHY,
            figures=_figures(result),
            tables=tables,
            settings=result["config"],
            source=_SOURCE,
            terms={kind.title: kind.explanation for kind in SCORES.values() if kind.task == SCORES[result["by"]].task},
            notes=result["warnings"],
            seconds=result.get("seconds"),
        )
    ]


def _judge(result: Mapping[str, Any]) -> str:
    """The score by which the others are judged."""
    return JUDGES[SCORES[result["by"]].task][1]


def _short(result: Mapping[str, Any]) -> dict[str, str]:
    """Short names of the candidates."""
    names = [row["model"] for row in result["scores"]]
    return dict(zip(names, short_names(names), strict=True))


def _figures(result: Mapping[str, Any]) -> list[Lines]:
    """The candidates by what orders them, the winner marked; and NC1, which needs no classifier, against the probe."""
    by, short = result["by"], _short(result)
    figures: list[Lines] = []
    rows = [row for row in result["scores"] if row[by] is not None]
    if rows:
        best = rows[0]["rank"]
        groups = {
            "best": [row["rank"] == best and place == 0 for place, row in enumerate(rows)],
            "cannot be told apart from it": [row["rank"] == best and place > 0 for place, row in enumerate(rows)],
            "others": [row["rank"] != best for row in rows],
        }
        series = [_candidates(rows, by, mine, name, colour) for colour, (name, mine) in enumerate(groups.items())]
        tested: list[tuple[int, Mapping[str, Any]]] = []
        if by == "probe_cv_accuracy" and result["config"].get("probe_on") != "cv":
            tested = [(place, row) for place, row in enumerate(rows) if row["probe_accuracy"] is not None]
            ends = [row["intervals"].get("probe_accuracy") or (row["probe_accuracy"],) * 2 for _, row in tested]
            series.append(
                Series(
                    "the same probe on the test split",
                    [place + 0.22 for place, _ in tested],
                    [row["probe_accuracy"] for _, row in tested],
                    [low for low, _ in ends],
                    [high for _, high in ends],
                    style="points",
                    colour=1,
                )
            )
        kind = SCORES[by]
        figures.append(
            Lines(
                "candidates",
                "Candidates, best first",
                "",
                kind.title,
                [one for one in series if len(one.x)],
                log_y=kind.logarithmic and all(row[by] > 0 for row in rows),
                x_ticks=[short[row["model"]] for row in rows],
                across=True,
                caption=_LINES
                + (_BELOW.format(rows[0]["probe_samples"]) if by == "probe_cv_accuracy" and tested else ""),
            )
        )
    judge = _judge(result)
    other = ("nc1" if SCORES[by].task == "classification" else "unexplained") if SCORES[by].of_probe else by
    known = [row for row in result["scores"] if row[other] is not None and row[judge] is not None]
    if len(known) > 1:
        points = Series(
            "candidates",
            [row[other] for row in known],
            [row[judge] for row in known],
            style="points",
            labels=[short[row["model"]] for row in known],
        )
        kind, positive = SCORES[other], all(row[other] > 0 for row in known)
        title = f"{SCORES[judge].title.capitalize()} against {kind.title}"
        figures.append(
            Lines("probe", title, kind.title, SCORES[judge].title, [points], log_x=kind.logarithmic and positive)
        )
    return figures


def _candidates(rows: list[Mapping[str, Any]], by: str, mine: list[bool], name: str, colour: int) -> Series:
    """Those of a group, at their places."""
    shown = [(place, row) for place, row in enumerate(rows) if mine[place]]
    ends = [row["intervals"].get(by) or (row[by], row[by]) for _, row in shown]
    return Series(
        name,
        [place for place, _ in shown],
        [row[by] for _, row in shown],
        [low for low, _ in ends],
        [high for _, high in ends],
        style="points",
        colour=(2, 0, 8)[colour],
    )


def _scores(result: Mapping[str, Any]) -> Table:
    first = [result["by"], _judge(result)]
    names = [*dict.fromkeys([*first, *SCORES])]
    shown = [name for name in names if any(row.get(name) is not None for row in result["scores"])]
    raced = any(row["raced"] for row in result["scores"])
    columns = [
        "model",
        "rank",
        *(SCORES[name].title for name in shown),
        *["samples seen"] * raced,
        "width",
        "parameters",
        "layer",
    ]
    rows = [
        [
            row["model"],
            row["rank"],
            *(_cell(row, name) if name in first else row.get(name) for name in shown),
            *[row["samples"]] * raced,
            row["width"],
            row["parameters"],
            row["layer"],
        ]
        for row in result["scores"]
    ]
    caption = "In brackets: 90 % intervals over the samples; those of the other scores are in result.json."
    return Table("scores", "Candidates, best first", columns, rows, caption)


def _cell(row: Mapping[str, Any], name: str) -> str:
    interval = row["intervals"].get(name)
    value = "-" if row[name] is None else f"{row[name]:.3g}"
    return value if interval is None else f"{value} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _agreement(result: Mapping[str, Any]) -> list[Table]:
    rows = [
        [
            SCORES[name].title if name in SCORES else name.replace("_", " "),
            found["kendall"],
            found["weighted"],
            found["spearman"],
            "-" if found["interval"] is None else "{:.2f} to {:.2f}".format(*found["interval"]),
            found["kendall_equal_width"],
            found["models"],
            found["groups"],
        ]
        for name, found in result["agreement"].items()
    ]
    columns = ["score", "Kendall", "weighted", "Spearman", "90 % interval", "Kendall, equal width", "models", "groups"]
    caption = (
        "Rank correlation with the probe's accuracy, signs turned so that 1 means the same order. The interval resamples groups "
        "(checkpoints of one run together). Parameters, width and source accuracy cost nothing: a score should beat them."
    )
    return [Table("agreement", "Agreement with the probe", columns, rows, caption)] if rows else []


def _failed(result: Mapping[str, Any]) -> list[Table]:
    if not result["failed"]:
        return []
    rows = [[row["model"], row["error"]] for row in result["failed"]]
    return [Table("failed", "Candidates that could not be scored", ["model", "why"], rows)]
