"""Warnings that say the same of many places, said once."""

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from lowdim._numbers import listed

WORDING: ContextVar[Callable[[str], str]] = ContextVar("WORDING", default=str)
"""How sentences with parameters in backticks are told on a page: as they are, or in options where a command line runs."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*[A-Za-z])")


def merged(warnings: Iterable[str]) -> list[str]:
    """Warnings of the form ``place: message`` that differ in place and numbers alone become one, with their count and the range of
    the numbers; others are kept, once each. The order is that of the first of each.

    Example:
        >>> merged(["a: 3% of it.", "b: 5% of it.", "b: 5% of it.", "alone"])
        ['2 places (a and b): 3 to 5% of it.', 'alone']
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for warning in dict.fromkeys(warnings):
        place, sign, message = warning.partition(": ")
        if not sign:
            place, message = "", warning
        groups.setdefault(_NUMBER.sub("#", message) if sign else warning, []).append((place, message))
    return [_said(group) for group in groups.values()]


def _said(group: list[tuple[str, str]]) -> str:
    places, messages = zip(*group, strict=True)
    if len(group) == 1:
        return f"{places[0]}: {messages[0]}" if places[0] else messages[0]
    columns = list(zip(*(_NUMBER.findall(message) for message in messages), strict=True))
    ranges = iter([_range(numbers) for numbers in columns])
    return f"{len(group)} places ({listed(place.replace(', ', ' ') for place in places)}): {_NUMBER.sub(lambda _: next(ranges), messages[0])}"


def _range(numbers: tuple[str, ...]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if low == high else f"{low} to {high}"
