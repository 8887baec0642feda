"""Ratings as people write them: out of a number, with a unit, as stars."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowdim.tables._numbers import numbers_of_texts
from lowdim.tables._text import Form

_NUMBER = re.compile(r"\d[\d.,]*")
_STARS = re.compile(r"([★⭐🌟*]*)(½?)([☆✩]*)")
_VARIANT = "\N{VARIATION SELECTOR-16}"


@dataclass(frozen=True)
class Scale:
    """The numbers of some texts, and a number as such a text."""

    values: list[float]
    write: Callable[[float], str]


def scale_of(texts: Sequence[str]) -> Scale | None:
    """What the texts say if all have one form: ``3/5`` with the same number below, ``4 stars`` with the same unit, or ``★★★☆☆``. Numbers are
    written with up to two decimals.

    Example:
        >>> scale_of(["3/5", "4/5"]).write(3.519), scale_of(["1 star", "2 stars"]).write(1.5)
        ('3.52/5', '1.5 stars')
        >>> scale_of(["★☆☆", "★★★"]).write(1.6), scale_of(["3/5", "4/10"]), scale_of(["good"])
        ('★★☆', None, None)
    """
    texts = [text.strip().replace(_VARIANT, "") for text in texts]
    stars = _stars(texts)
    form = Form(decimal="," if any("," in text for text in texts) else ".")
    numbers = numbers_of_texts(texts, form) if stars is None else None
    if numbers is None:
        return stars

    def write(value: float) -> str:
        shown = f"{value:.2f}".rstrip("0").rstrip(".").replace(".", form.decimal)
        return _NUMBER.sub(shown, numbers.write(value), count=1)

    return Scale(numbers.values, write)


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
