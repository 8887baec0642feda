"""Numbers in the texts of a column, and how a new one is written there: decimals, exponents, signs, units."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lowdim._numbers import listed
from lowdim.tables._text import GROUP_SIGNS, MINUS, Form

MOST_DECIMALS = 15
_PARTS = re.compile(
    rf"([+-]?)([^\d+\-.,]{{0,5}})([+-]?)((?:\d[\d.,{GROUP_SIGNS}]*)?[.,]?\d+(?:[eE][+-]?\d+)?)(\D{{0,16}}(?:\d{{1,3}}\D{{0,10}})?)"
)
_UNIT = re.compile(
    r"[%‰°'★⭐]\ufe0f?|(?!(?i:th|nd|rd|[ap]\.?m\.?)$)([€$£¥]? ?/ ?)?°?[^\W\d_]{1,14}\.?( ?/ ?[^\W\d_]{1,6}[23]?)?|([kcdm]?m|ft|in|yd|mi)\^?[23]|(sq|cu)\.? ?[a-z]{1,3}"
)
_OUT_OF = re.compile(r"\s*(?:/|out of|of|von|sur|de|su)\s*(\d+)(\s*[^\W\d_]+)?\s*", re.IGNORECASE)
_CODES = {"USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "US$", "A$", "C$", "R$", "Rs", "Rs.", "kr"}
_KNOWN = {
    "g", "kg", "mg", "t", "lb", "oz", "st", "m", "cm", "mm", "km", "ft", "in", "inch", "foot", "feet", "mi", "mile", "yd", "l", "ml", "cl", "gal", "h", "hr",
    "hour", "min", "s", "sec", "d", "day", "week", "month", "year", "yr", "%", "‰", "°C", "°F", "kb", "MB", "gb", "tb",
}  # fmt: skip
"""Units of which several in one column say that its numbers cannot be compared."""
_MAGNITUDES = {
    "K": 1e3, "tsd": 1e3, "thousand": 1e3, "lakh": 1e5, "M": 1e6, "mn": 1e6, "mln": 1e6, "mio": 1e6, "million": 1e6, "millionen": 1e6, "crore": 1e7,
    "B": 1e9, "bn": 1e9, "mrd": 1e9, "mld": 1e9, "milliarden": 1e9, "billion": 1e9, "T": 1e12, "tn": 1e12, "trillion": 1e12,
}  # fmt: skip
_SHORT = re.compile(r"\s*([A-Za-z]+?)\.?\s*([^\w\s]+|(?<=\s)\S.*)?\s*")
_MONTH_OF_YEAR = re.compile(r"(0?[1-9]|1[0-2])\.(19|20)\d\d")
_DAY_OR_TIME = re.compile(r"(0[1-9]|[12]\d|3[01])\.(0[1-9]|1[0-2])|([01]\d|2[0-3])\.[0-5]\d")
EXACT = 2**53  # whole numbers beyond are not all numbers of double precision


@dataclass(frozen=True)
class Numbers:
    """The numbers of a column's known cells.

    Attributes:
        values: In order.
        whole: Whether all are whole numbers.
        write: A number as text, in the form that they have.
        read: The number of such a text; NaN of any other.
        why: How they are read, where that is not plain.
    """

    values: list[float]
    whole: bool
    write: Callable[[float], str]
    read: Callable[[str], float]
    why: str = ""


class _Parts(NamedTuple):
    """A number with its sign, and what stands before and behind it."""

    before: str
    number: str
    after: str


def numbers_of_texts(texts: Sequence[str], form: Form) -> Numbers | None:
    """The numbers of all texts, or None where one is none.

    A currency, unit, percent sign or "out of 5" around all of them is no part of the number, one in parentheses is negative, and K, M, Mio and
    the like stand for thousands and millions.

    Example:
        >>> numbers_of_texts(["$1.5M", "$300K"], Form()).write(2_250_000), numbers_of_texts(["4 of 5", "2 of 5"], Form()).write(3)
        ('$2.2M', '3 of 5')
        >>> numbers_of_texts(["70 kg", "154 lbs"], Form()) is None
        True
    """
    values = _values(texts, form)
    if values is not None:
        return Numbers(values, _whole(texts, values), _writer(texts, form), lambda text: number_of(text, form))
    parts = _all_parts(texts)
    if not parts or len({_alike(before) for before in {part.before for part in parts}}) > 1:
        return None
    before, bare = parts[0].before, [part.number for part in parts]
    numbers = _values(bare, form)
    factors = _factors(parts, numbers, form) if numbers else None
    if not (numbers and factors):
        return None
    values = [value * factors[part.after] for value, part in zip(numbers, parts, strict=True)]
    styles = {
        factor: _style([part for part in parts if factors[part.after] == factor], form)
        for factor in sorted(set(factors.values()), reverse=True)
    }
    closed = any(text.startswith("(") for text in texts)
    inner = any(re.match(rf"[^\d+-]+[+{MINUS}-]", text) for text in texts) and not closed
    minus = MINUS if any(MINUS in text for text in texts) else "-"

    def read(text: str) -> float:
        part = _parts_of(text)
        known = part is not None and part.after in factors and _alike(part.before) == _alike(before)
        return number_of(part.number, form) * factors[part.after] if part and known else float("nan")

    def write(value: float) -> str:
        factor = next((factor for factor in styles if abs(value) >= factor), min(styles))
        text, after = styles[factor]((abs(value) if closed else value) / factor)
        sign = text[:1] if text[:1] in ("+", "-") else ""
        text, sign = text.removeprefix(sign), sign.replace("-", minus)
        text = (f"{before}{sign}{text}" if inner else f"{sign}{before}{text}") + after
        return f"({text})" if closed and value < 0 else text

    shown = [f"{factor:,.0f} for {style(2.0)[1].strip()!r}" for factor, style in styles.items() if factor > 1]
    return Numbers(values, _whole(bare, values), write, read, f"read as {listed(shown)}" if shown else "")


def _style(parts: Sequence[_Parts], form: Form) -> Callable[[float], tuple[str, str]]:
    """A number as these are written, and what stands behind it."""
    write, afters = _writer([part.number for part in parts], form), Counter(part.after for part in parts)
    usual = max(afters, key=lambda after: (after.endswith("s"), afters[after]))
    one = next((part.after for part in parts if number_of(part.number, form) == 1), usual)
    return lambda value: (write(value), one if value == 1 else usual)


def _all_parts(texts: Sequence[str]) -> list[_Parts]:
    """The parts of all texts; none where one has no number, or something else than a currency before it."""
    parts: list[_Parts] = []
    for text in texts:
        part = _parts_of(text)
        if part is None or not (part.before == "'" or _is_currency(part.before)):
            return []
        parts.append(part)
    return parts


def _parts_of(text: str) -> _Parts | None:
    closed = text.startswith("(") and text.endswith(")")
    match = _PARTS.fullmatch((text[1:-1] if closed else text).replace(MINUS, "-"))
    if match is None:
        return None
    sign, before, inner, number, after = match.groups()
    return None if len(sign + inner) + closed > 1 else _Parts(before, ("-" if closed else sign + inner) + number, after)


def _alike(sign: str) -> str:
    """A unit or currency without blanks, plural and capitals, where these say nothing."""
    word = " ".join(sign.split()).rstrip(".")
    if len(word) > 2 and not _is_currency(word):
        word = word.lower().replace(" ", "")
        return word.removesuffix("s") if word.isalpha() else word
    return word.lower() if word[:1] not in "mM" and word.lower() in _KNOWN else word


def _factors(parts: Sequence[_Parts], values: Sequence[float], form: Form) -> dict[str, float] | None:
    """What numbers are multiplied by, by what stands behind them: one unit, or several magnitudes; None where it is neither."""
    afters = {after: _alike(after) for after in dict.fromkeys(part.after for part in parts)}
    factors, rests = dict.fromkeys(afters, 1.0), set(afters.values())
    if len(rests) == 1 and (of := _OUT_OF.fullmatch(parts[0].after)):
        return factors if max(values) <= float(of[1]) else None
    if len(rests) > 1 or not _is_unit(parts[0].after):
        rests.clear()
        for after, unit in afters.items():
            word, rest = match.groups("") if (match := _SHORT.fullmatch(after)) else ("", "")
            # m may be metres, and a billion is a thousand times as much in other languages
            key = word.upper() if word == "k" or (len(word) == 1 and parts[0].before.strip()) else word
            key = key if len(key) == 1 or (form.decimal == "," and "illion" in key) else key.lower().removesuffix("s")
            factors[after] = _MAGNITUDES.get(key, 1.0)
            rests.add(_alike(rest) if key in _MAGNITUDES else unit)
        # a number without a sign may lack it where it is small beside millions, or where K may be a unit
        plain = [abs(value) for value, part in zip(values, parts, strict=True) if factors[part.after] == 1]
        spaced = any(len(after.strip()) == 1 < len(after) for after in afters)
        if plain and (spaced or (1e3 not in factors.values() and min(plain) < 1e3)):
            return None
    unit = rests.pop()
    return factors if not rests and _is_unit(unit) else None


def _is_unit(text: str) -> bool:
    return _is_currency(text) or _UNIT.fullmatch(text.strip()) is not None


def several_units(texts: Sequence[str]) -> str:
    """What to say of numbers beside which several known units stand, so that they cannot be compared; empty where that is not so.

    Example:
        >>> several_units(["70 kg", "154 lbs", "71"]), several_units(["1A", "2B"]), several_units(["1 kg", "2 kg"])
        ("numbers in several units: 'kg', 'lbs', none", '', '')
    """
    pairs = dict.fromkeys((part.before, part.after) for part in _all_parts(texts))
    units = {(_alike(before), _alike(after)): before + after for before, after in pairs}
    signs = {sign for pair in units for sign in pair}
    if len(units) < 2 or not all(
        sign in _KNOWN or sign.upper() in "KMBTG" or sign in _MAGNITUDES or _is_currency(sign) for sign in signs
    ):
        return ""
    return f"numbers in several units: {', '.join(repr(unit.strip()) if unit.strip() else 'none' for unit in units.values())}"


def are_codes(texts: Sequence[str]) -> bool:
    """Whether numbers name something: a zero stands before a whole one, one has more digits than double precision tells apart, or all are months as
    12.2023, or days or times as 01.05 and 08.30."""
    if all(map(_MONTH_OF_YEAR.fullmatch, texts)) or (
        all(map(_DAY_OR_TIME.fullmatch, texts)) and any(text[0] == "0" for text in texts)
    ):
        return True
    return any(
        text.isdecimal() and ((len(text) > 1 and text[0] == "0") or len(text) > 16 or int(text) > EXACT)
        for text in (re.sub(f"[{GROUP_SIGNS}]", "", text) for text in texts)
    )


def _values(texts: Sequence[str], form: Form) -> list[float] | None:
    values: list[float] = []
    for text in texts:
        value = form.number(text)
        if value is None:
            return None
        values.append(value)
    return values


def number_of(text: str, form: Form) -> float:
    """The number of a text, or NaN."""
    value = form.number(text)
    return float("nan") if value is None else value


def _whole(texts: Sequence[str], values: Sequence[float]) -> bool:
    """Whether whole numbers are meant: 44.0 is one where no cell has another decimal, as tables with holes are often written."""
    if any("e" in text.lower() for text in texts):
        return False
    return all(value.is_integer() for value in values)


def _is_currency(text: str) -> bool:
    text = text.strip()
    return text in _CODES or all(unicodedata.category(sign) == "Sc" for sign in text)


def _decimals(text: str, form: Form) -> int:
    _, point, digits = text.partition(form.decimal)
    return len(digits) if point and digits.isdigit() else 0


def _writer(texts: Sequence[str], form: Form) -> Callable[[float], str]:
    """Numbers with the decimals that the column has, its decimal sign, its plus and minus signs, and its thousands where it groups them."""
    mantissas = [re.split("[eE]", text)[0] for text in texts]
    decimals = min(max((_decimals(text, form) for text in mantissas), default=0), MOST_DECIMALS)
    exponents = [next((sign for sign in text if sign in "eE"), "") for text in texts]
    plus = "+" if any(text.startswith("+") for text in texts) else ""
    minus = MINUS if any(MINUS in text for text in texts) else "-"
    whole = "".join(texts)
    thousands = max(form.thousands + GROUP_SIGNS, key=whole.count)
    thousands = thousands if thousands in whole else ""
    grouped = "," if thousands else ""
    kind = f"{plus}{grouped}.{decimals}f"
    if texts and all(exponents):
        kind = f"{plus}.{decimals}{exponents[0]}"
    elif any(exponents):  # as many digits as the longest has
        digits = max(len(re.sub(r"\D", "", text).lstrip("0")) for text in mantissas)
        kind = f"{plus}.{max(digits, 1)}g"
    in_twos = bool(grouped) and any(
        re.search(rf"\d{re.escape(thousands)}\d\d{re.escape(thousands)}", text) for text in texts
    )
    marks = {ord(","): thousands, ord("."): form.decimal, ord("-"): minus}

    def write(value: float) -> str:
        text = f"{value:{kind}}"
        if in_twos:  # a comma before the last three digits, and before every two in front of them
            head, comma, tail = text.rpartition(",")
            text = re.sub(r"(?<=\d)(?=(?:\d\d)+$)", ",", head.replace(",", "")) + comma + tail
        text = text.replace("-", plus, 1) if text.startswith("-") and not re.search("[1-9]", text) else text
        return text.translate(marks)

    return write
