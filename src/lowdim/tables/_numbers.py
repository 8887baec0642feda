"""Numbers in the texts of a column, and how a new one is written there: decimals, exponents, signs, units."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowdim.tables._text import MINUS, Form

MOST_DECIMALS = 15
_PARTS = re.compile(
    r"([+-]?)([^\d+\-.,]{0,5})((?:\d[\d.,' \u2019\u00a0\u2009\u202f]*)?[.,]?\d+(?:[eE][+-]?\d+)?)(\D{0,12})"
)
_UNIT = re.compile(r"[%‰°]|°?[A-Za-zµμΩ²³]{1,6}(/[A-Za-z²³]{1,6})?")
_CODES = {"USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "US$", "A$", "C$", "R$", "Rs", "Rs.", "kr"}
EXACT = 2**53  # whole numbers beyond are not all numbers of double precision


@dataclass(frozen=True)
class Numbers:
    """The numbers of a column's known cells.

    Attributes:
        values: In order.
        whole: Whether all are whole numbers.
        write: A number as text, in the form that they have.
        read: The number of such a text; NaN of any other.
    """

    values: list[float]
    whole: bool
    write: Callable[[float], str]
    read: Callable[[str], float]


def numbers_of_texts(texts: Sequence[str], form: Form) -> Numbers | None:
    """The numbers of all texts, or None where one is none.

    A currency, unit or percent sign around all of them is no part of the number; a number in parentheses is negative.
    """
    values = _values(texts, form)
    if values is not None:
        return Numbers(values, _whole(texts, values), _writer(texts, form), lambda text: _number(text, form))
    parenthesised = [text.startswith("(") and text.endswith(")") for text in texts]
    inner = [text[1:-1] if negative else text for text, negative in zip(texts, parenthesised, strict=True)]
    first = _PARTS.fullmatch(inner[0].replace(MINUS, "-"))
    before, after = (first.group(2), first.group(4)) if first else ("", "")
    quotes = before == after == "'"
    if not (quotes or (_is_currency(before) and (_is_currency(after) or _UNIT.fullmatch(after.strip())))):
        return None

    def bare_of(text: str) -> str:
        match = _PARTS.fullmatch(text.replace(MINUS, "-"))
        return match.group(1) + match.group(3) if match and (match.group(2), match.group(4)) == (before, after) else ""

    def read(text: str) -> float:
        negative = text.startswith("(") and text.endswith(")")
        return -_number(bare_of(text[1:-1]), form) if negative else _number(bare_of(text), form)

    bare = [bare_of(text) for text in inner]
    values = _values(bare, form)
    if values is None:
        return None
    write = _writer(bare, form)

    def written(value: float) -> str:
        text = write(-value if any(parenthesised) and value < 0 else value)
        sign = text[:1] if text[:1] in "+-" else ""
        text = f"{sign}{before}{text.removeprefix(sign)}{after}"
        return f"({text})" if any(parenthesised) and value < 0 else text

    signed = [-value if negative else value for value, negative in zip(values, parenthesised, strict=True)]
    return Numbers(signed, _whole(bare, values), written, read)


def are_codes(texts: Sequence[str]) -> bool:
    """Whether whole numbers name something: a zero stands before one, or one has more digits than double precision tells apart."""
    return any(
        text.isdecimal() and ((len(text) > 1 and text[0] == "0") or len(text) > 16 or int(text) > EXACT)
        for text in texts
    )


def _values(texts: Sequence[str], form: Form) -> list[float] | None:
    values: list[float] = []
    for text in texts:
        value = form.number(text)
        if value is None:
            return None
        values.append(value)
    return values


def _number(text: str, form: Form) -> float:
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
    grouped = "," if form.thousands and any(form.thousands in text for text in texts) else ""
    kind = f"{plus}{grouped}.{decimals}f"
    if texts and all(exponents):
        kind = f"{plus}.{decimals}{exponents[0]}"
    elif any(exponents):  # as many digits as the longest has
        digits = max(len(re.sub(r"\D", "", text).lstrip("0")) for text in mantissas)
        kind = f"{plus}.{max(digits, 1)}g"
    in_twos = bool(grouped) and any(
        re.search(rf"\d{re.escape(form.thousands)}\d\d{re.escape(form.thousands)}", text) for text in texts
    )
    marks = {ord(","): form.thousands, ord("."): form.decimal, ord("-"): minus}

    def write(value: float) -> str:
        text = f"{value:{kind}}"
        if in_twos:  # a comma before the last three digits, and before every two in front of them
            head, comma, tail = text.rpartition(",")
            text = re.sub(r"(?<=\d)(?=(?:\d\d)+$)", ",", head.replace(",", "")) + comma + tail
        text = text.replace("-", plus, 1) if text.startswith("-") and not re.search("[1-9]", text) else text
        return text.translate(marks)

    return write
