"""Statements of a theorem about given weights as a section of the page."""

from collections.abc import Mapping
from typing import Any

from lowdim.figures import Lines, Series, Table
from lowdim.report._page import Section

_VERDICT = {True: "holds", False: "DOES NOT", None: "undecided"}


def check_sections(result: Mapping[str, Any]) -> list[Section]:
    """One section: every statement with its residual, its tolerance and the reason.

    Args:
        result: The command's result.
    """
    checks = result["checks"]
    places = list(range(len(checks)))
    series = [
        Series("residual", places, [one["residual"] for one in checks], style="points"),
        Series("tolerance", places, [one["tolerance"] for one in checks], style="dashed"),
    ]
    rows = [[one["name"], _VERDICT[one["holds"]], one["residual"], one["tolerance"], one["reason"]] for one in checks]
    return [
        Section(
            id="statements",
            title="Statements",
            figures=[
                Lines(
                    "residuals",
                    "How far each statement is from being exact",
                    "",
                    "residual",
                    series,
                    log_y=True,
                    x_ticks=[one["name"] for one in checks],
                )
            ],
            tables=[
                Table("statements", "Statements", ["statement", "", "residual", "tolerance", "why"], rows, drop=["why"])
            ],
            settings=result["config"],
            seconds=result["seconds"],
        )
    ]
