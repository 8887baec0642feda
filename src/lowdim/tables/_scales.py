"""Ratings as people write them: out of a number, with a unit, as stars."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_FRACTION = re.compile(r"([^\s/]+)(\s*/\s*\d+)")
_UNIT = re.compile(r"([^\sA-Za-z%★⭐]+)(\s*)([A-Za-z%★⭐]+)")
_STARS = re.compile(r"([★⭐🌟*]*)(½?)([☆✩]*)")
_VARIANT = "\N{VARIATION SELECTOR-16}"
_Number = Callable[[str], float | None]


@dataclass(frozen=True)
class Scale:
    """The numbers of some texts, and a number as such a text."""

    values: list[float]
    write: Callable[[float], str]


def scale_of(texts: Sequence[str], number: _Number) -> Scale | None:
    """What the texts say if all have one form: ``3/5`` with the same number below, ``4 stars`` with the same unit, or ``★★★☆☆``.

    Example:
        >>> scale_of(["3/5", "4/5"], float).write(3.519), scale_of(["1 star", "2 stars"], float).write(1.5)
        ('3.52/5', '1.5 stars')
        >>> scale_of(["★☆☆", "★★★"], float).write(1.6), scale_of(["3/5", "4/10"], float), scale_of(["good"], float)
        ('★★☆', None, None)
    """
    texts = [text.strip().replace(_VARIANT, "") for text in texts]
    return _fractions(texts, number) or _stars(texts) or _with_unit(texts, number)


def _fractions(texts: Sequence[str], number: _Number) -> Scale | None:
    matches = [_FRACTION.fullmatch(text) for text in texts]
    parts = [match.groups() for match in matches if match]
    if len(parts) < len(texts) or len({"".join(below.split()) for _, below in parts}) != 1:
        return None
    return _of([above for above, _ in parts], number, parts[0][1])


def _with_unit(texts: Sequence[str], number: _Number) -> Scale | None:
    matches = [_UNIT.fullmatch(text) for text in texts]
    parts = [match.groups() for match in matches if match]
    if len(parts) < len(texts) or len({unit.lower().removesuffix("s") for _, _, unit in parts}) != 1:
        return None
    usual = Counter(blank + unit for _, blank, unit in parts)
    return _of([value for value, _, _ in parts], number, max(usual, key=lambda unit: (len(unit), usual[unit])))


def _of(parts: Sequence[str], number: _Number, behind: str) -> Scale | None:
    """Numbers with the same text behind each."""
    comma = any("," in part for part in parts)
    values: list[float] = []
    for part in parts:
        try:
            value = number(part)
        except ValueError:
            value = None
        if value is None:
            return None
        values.append(value)

    def write(value: float) -> str:
        text = f"{value:.2f}".rstrip("0").rstrip(".")
        return (text.replace(".", ",") if comma else text) + behind

    return Scale(values, write)


def _stars(texts: Sequence[str]) -> Scale | None:
    matches = [_STARS.fullmatch(text) for text in texts]
    parts = [match.groups() for match in matches if match and match.group()]
    if len(parts) < len(texts):
        return None
    full = next((signs[0] for signs, _, _ in parts if signs), "★")
    half, empty = any(half for _, half, _ in parts), next((signs[0] for *_, signs in parts if signs), "")
    longest = max(len("".join(part)) for part in parts)

    def write(value: float) -> str:
        halves = round(2 * value) if half else 2 * round(value)
        text = full * (halves // 2) + "½" * (halves % 2)
        return text + empty * (longest - len(text))

    return Scale([len(signs) + 0.5 * bool(half) for signs, half, _ in parts], write)
