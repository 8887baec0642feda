"""Levels that have an order: answers of a questionnaire, classes of age or size."""

import re
from collections.abc import Sequence

_FEWEST, _MOST = 3, 15
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_BEGINS = re.compile(r"(<=|>=|[<>≤≥]|under |below |less than |up to |over |above |more than )?\s*\W?\s*(?=\d)")
_BELOW = ("<", "<=", "≤", "under", "below", "less than", "up to")
_CLOCK = re.compile(r"(?i)\d\s*[ap]\.?m\b")
SCALES = (
    "strongly disagree, disagree, slightly disagree, somewhat disagree, neither agree nor disagree, neutral, undecided, slightly agree, somewhat agree, agree, strongly agree",
    "very dissatisfied, dissatisfied, unsatisfied, neutral, satisfied, very satisfied",
    "never, almost never, rarely, seldom, occasionally, sometimes, often, usually, very often, almost always, always",
    "terrible, very poor, very bad, poor, bad, fair, average, ok, good, very good, excellent, premium, ideal",
    "very low, low, medium, moderate, high, very high",
    "none, minimal, mild, moderate, severe, critical",
    "not at all, slightly, a little, somewhat, moderately, quite, very, extremely",
    "very unlikely, unlikely, neutral, likely, very likely",
    "xxs, xs, s, m, l, xl, xxl, xxxl",
    "po, fa, ta, gd, ex",
    "first, second, third, fourth, fifth, sixth",
    "beginner, novice, intermediate, advanced, expert",
    "freshman, sophomore, junior, senior",
    "bronze, silver, gold, platinum, diamond",
    "tiny, very small, small, medium, large, big, very large, huge",
)
"""Words of well-known scales, from the least on."""


def in_order(levels: Sequence[str]) -> list[str] | None:
    """The levels from the least to the largest: by the numbers with which all begin, or by their places in a well-known scale; None where neither is so.

    Example:
        >>> in_order(["2 - no", "10 - yes", "5 - perhaps"]), in_order(["25-34", "18-24", "65+"])
        (['2 - no', '5 - perhaps', '10 - yes'], ['18-24', '25-34', '65+'])
        >>> in_order(["Often", "Never", "Sometimes"]), in_order(["red", "green", "blue"]), in_order(["9 AM", "1 PM", "5 PM"])
        (['Never', 'Sometimes', 'Often'], None, None)
    """
    if not _FEWEST <= len(levels) <= _MOST:
        return None
    plain = {level: " ".join(level.lower().split()) for level in levels}
    for scale in SCALES:
        places = {word: place for place, word in enumerate(scale.split(", "))}
        if all(word in places for word in plain.values()):
            return sorted(levels, key=lambda level: places[plain[level]])
    begins = {level: _BEGINS.match(word) for level, word in plain.items()}
    if not all(begins.values()) or any(map(_CLOCK.search, plain.values())):
        return None
    keys = {level: _key(plain[level], (match and match[1]) or "") for level, match in begins.items()}
    return sorted(levels, key=lambda level: keys[level]) if len(set(keys.values())) == len(levels) else None


def _key(text: str, before: str) -> tuple[tuple[float, ...], int]:
    """The numbers of a level, and whether all below or above the first are meant."""
    numbers = tuple(
        float(re.sub(r"[.,](?=\d{3}(?!\d))", "", found).replace(",", ".")) for found in _NUMBER.findall(text)
    )
    return numbers, -1 if before.strip() in _BELOW else 1 if before.strip() else 0
