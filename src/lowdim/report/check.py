"""Statements of a theorem about given weights as a section of the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lowdim._names import step_name
from lowdim._numbers import share
from lowdim.figures import Lines, Series, Table
from lowdim.report._page import Section
from lowdim.report.answers import first_broken

_TIMES = 6
_VERDICT = {True: "holds", False: "does not hold", None: "undecided"}


def check_sections(result: Mapping[str, Any]) -> list[Section]:
    """One section: every statement with its residual, its tolerance and the reason; how much of each factor obeys the law."""
    checks = result["checks"]
    places = list(range(len(checks)))
    series = [
        Series("residual", places, [one["residual"] for one in checks], style="points"),
        Series("tolerance", places, [one["tolerance"] for one in checks], style="points"),
    ]
    rows = [[one["name"], _VERDICT[one["holds"]], one["residual"], one["tolerance"]] for one in checks]
    compared = [[one["name"], reason] for one, reason in zip(checks, reasons(result), strict=True) if reason]
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
                Table("statements", "Statements", ["statement", "verdict", "residual", "tolerance"], rows),
                *_shares(result),
                Table("compared", "What was compared", ["statement", "what"], compared),
            ],
            notes=[f"Read: {sentence}." for sentence in result["read"]],
            terms={"chance": "what a change of random direction would give"},
            settings=result["config"],
            seconds=result["seconds"],
        )
    ]


def reasons(result: Mapping[str, Any]) -> list[str]:
    """What was compared in each statement, without what the answer says already."""
    told = result.get("causes") or [first_broken(result).get("reason", "")]
    found = [one["reason"] for one in result["checks"]]
    for each in told:
        found = [reason.removesuffix(each).strip() for reason in found]
    return found


def _shares(result: Mapping[str, Any]) -> list[Table]:
    """Per factor: the share by chance, and at up to six times, equally far apart."""
    shares = result.get("shares")
    if not shares or all(value is None for row in shares["share"] for value in row):
        return []
    last = len(shares["steps"]) - 1
    kept = range(last, 0, -max(1, -(-last // _TIMES)))[::-1]
    rows = [
        [
            str(layer + 1),
            "-" if chance is None else f"{chance:.3g}",
            *(
                "-" if (value := shares["share"][index][layer]) is None else share(value).replace(" ", "")
                for index in kept
            ),
        ]
        for layer, chance in enumerate(shares["chance"])
    ]
    columns = ["factor", "by chance", *(step_name(shares["steps"][index]) for index in kept)]
    title = f"Share of the squared change that the law allows (r = {shares['rank']})"
    if shares["block"] == "best":
        title = f"Share of the squared change in the {2 * shares['rank']} directions on each side that changed most"
    return [Table("shares", title, columns, rows, drop=columns[2:-1])]


def _share_lines(result: Mapping[str, Any]) -> list[Lines]:
    """What of the squared change the law forbids, over time: near 0 on a logarithmic axis, by chance near 1."""
    shares = result.get("shares")
    if not shares or shares["block"] == "best" or all(value is None for row in shares["share"] for value in row):
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
