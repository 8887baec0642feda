"""Statements of a theorem about given weights as a section of the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lowdim.figures import Lines, Series, Table
from lowdim.report._page import Section

_TIMES = 6
_VERDICT = {True: "holds", False: "DOES NOT", None: "undecided"}


def check_sections(result: Mapping[str, Any]) -> list[Section]:
    """One section: every statement with its residual, its tolerance and the reason; how much of each factor obeys the law."""
    checks = result["checks"]
    places = list(range(len(checks)))
    series = [
        Series("residual", places, [one["residual"] for one in checks], style="points"),
        Series("tolerance", places, [one["tolerance"] for one in checks], style="dotted"),
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
                    across=True,
                ),
                *_share_lines(result),
            ],
            tables=[
                Table(
                    "statements",
                    "Statements",
                    ["statement", "verdict", "residual", "tolerance", "why"],
                    rows,
                    drop=["why"],
                ),
                *_shares(result),
            ],
            terms={"chance": "what a change of random direction would give"},
            settings=result["config"],
            seconds=result["seconds"],
        )
    ]


def _shares(result: Mapping[str, Any]) -> list[Table]:
    """Per factor: the share by chance, and at up to six times."""
    shares = result.get("shares")
    if not shares or all(value is None for row in shares["share"] for value in row):
        return []
    last = len(shares["steps"]) - 1
    kept = sorted({1 + round(place * (last - 1) / (_TIMES - 1)) for place in range(_TIMES)})
    rows = [
        [str(layer + 1), f"{chance:.3g}", *(_share(shares["share"][index][layer]) for index in kept)]
        for layer, chance in enumerate(shares["chance"])
    ]
    columns = ["factor", "by chance", *(f"step {shares['steps'][index]}" for index in kept)]
    return [Table("shares", "Share of the squared change that the law allows", columns, rows)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def _share_lines(result: Mapping[str, Any]) -> list[Lines]:
    """What of the squared change the law forbids, over time: near 0 on a logarithmic axis, by chance near 1."""
    shares = result.get("shares")
    if not shares or all(value is None for row in shares["share"] for value in row):
        return []
    times = list(range(1, len(shares["steps"])))
    series = [
        Series(f"factor {layer + 1}", times, [_forbidden(shares["share"][time][layer]) for time in times])
        for layer in range(len(shares["chance"]))
    ]
    if not any(np.isfinite(one.y).any() for one in series):  # nothing is forbidden that happened
        return []
    series.append(Series("by chance, factor 1", times, [1 - shares["chance"][0]] * len(times), style="dotted"))
    caption = (
        "Share of the squared change that lies neither in the active block nor is one number on an invariant part."
    )
    return [Lines("forbidden", "What the law forbids", "recorded time", "share", series, log_y=True, caption=caption)]


def _forbidden(share: float | None) -> float:
    return float("nan") if share is None or share >= 1 else 1 - share
