"""Dates and times in the texts of a column as days, and how a new one is written there."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DAY = 86_400.0
_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y")
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_WORDS = (
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%d. %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y-%m",
    "%b %Y",
    "%B %Y",
    "%b-%Y",
    "%b-%y",
    "%b %y",
    "%I:%M %p",
)
FORMS = (*(date + time for date in _DATES for time in _TIMES), *_WORDS)
_COMPACT = re.compile(r"(19|20)\d{6}")
_LEAST = 3  # of whole numbers that are all dates
_ZONE = re.compile(r"Z|[+-]\d\d:?\d\d")
_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d))?")
_MOST_SHAPES = 3
_FIRST, _LAST = -719_162.0, 2_932_896.0  # 1 January of the year 1, 31 December 9999
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/\d{2}")


@dataclass(frozen=True)
class Dates:
    """The dates of a column's known cells: days since 1970 (of times, days), how one is written and read (NaN where it is of another form), and
    what was decided."""

    days: list[float]
    write: Callable[[float], str]
    read: Callable[[str], float]
    why: str = ""


def have_day_first(texts: Sequence[str]) -> bool:
    """Whether these are dates such as 31/12/2023, some of which cannot have the month first, and all the day.

    Example:
        >>> have_day_first(["01/02/2023", "31/12/2023"]), have_day_first(["01/02/2023"]), have_day_first(["12/31/2023"])
        (True, False, False)
    """
    if not texts or not _SLASHED.match(texts[0]):
        return False
    pairs = [(int(match[1]), int(match[2])) for text in texts if (match := _SLASHED.match(text))]
    return len(pairs) == len(texts) and any(day > 12 for day, _ in pairs) and all(month <= 12 for _, month in pairs)


def dates_of_texts(texts: Sequence[str], *, day_first: bool = False) -> Dates | None:
    """The dates of all texts, of one form or of a few that differ in their look, or None where one is none.

    Args:
        texts: At least one.
        day_first: What is tried first where day and month could both stand there.
    """
    if _CLOCK.fullmatch(texts[0]):
        return _times(texts)
    zone = _zone(texts)
    bare = [text.removesuffix(zone) for text in texts] if zone else list(texts)
    if not any(_is_date(bare[0], form) for form in FORMS):
        return None
    shapes = [_shape(text) for text in bare]
    if len(set(shapes)) > _MOST_SHAPES:
        return None
    forms: dict[str, str] = {}
    why: list[str] = []
    for shape in dict.fromkeys(shapes):
        own = sorted({text for text, its in zip(bare, shapes, strict=True) if its == shape})
        fitting = [form for form in FORMS if all(_is_date(text, form) for text in own)]
        fitting.sort(key=lambda form: day_first and not form.startswith("%d"))
        if not fitting:
            return None
        forms[shape] = fitting[0]
        others = [form for form in fitting[1:] if _days(own, form) != _days(own, fitting[0])]
        why += [f"read as {fitting[0]}, {others[0]} fits as well"] if others else []
    used = Counter(forms[shape] for shape in shapes)
    form = used.most_common(1)[0][0]
    why += [f"in {len(used)} forms, filled in as {form}"] if len(used) > 1 else []

    def read(text: str) -> float:
        bare = text.removesuffix(zone)
        return _day(bare, forms.get(_shape(bare)))

    typical = [text for text, shape in zip(bare, shapes, strict=True) if forms[shape] == form]
    return Dates([read(text) for text in texts], _writer(typical, form, zone), read, "; ".join(why))


def compact_dates(texts: Sequence[str]) -> Dates | None:
    """The dates of texts of eight digits each, as 20240131, or None."""
    if len(texts) < _LEAST or not all(_COMPACT.fullmatch(text) and _is_date(text, "%Y%m%d") for text in texts):
        return None
    write = _writer(texts, "%Y%m%d", "")
    return Dates(_days(texts, "%Y%m%d"), write, lambda text: _day(text, "%Y%m%d"), "read as %Y%m%d")


def _times(texts: Sequence[str]) -> Dates | None:
    """Times of day and durations: hours and minutes, perhaps seconds."""
    seconds = len(texts[0].split(":")) == 3

    def read(text: str) -> float:
        match = _CLOCK.fullmatch(text)
        if match is None or (match.group(3) is not None) != seconds:
            return float("nan")
        return sum(int(part) * unit for part, unit in zip(text.split(":"), (3600, 60, 1), strict=False)) / DAY

    days = [read(text) for text in texts]
    if any(math.isnan(day) for day in days):
        return None
    width = min(len(text.split(":")[0]) for text in texts)

    def write(day: float) -> str:
        total = max(round(day * DAY / (1 if seconds else 60)), 0)
        minutes, rest = divmod(total, 60)
        if not seconds:
            return f"{minutes:0{width}d}:{rest:02d}"
        return f"{minutes // 60:0{width}d}:{minutes % 60:02d}:{rest:02d}"

    return Dates(days, write, read)


def _zone(texts: Sequence[str]) -> str:
    """The offset from universal time with which all texts end."""
    match = re.search(rf"(?:{_ZONE.pattern})$", texts[0])
    zone = match.group() if match and ":" in texts[0] else ""
    return zone if zone and all(text.endswith(zone) for text in texts) else ""


def _shape(text: str) -> str:
    """The text with one digit for each number, and one letter for each word."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text))


def _days(texts: Sequence[str], form: str) -> list[float]:
    return [datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() / DAY for text in texts]


def _day(text: str, form: str | None) -> float:
    return _days([text], form)[0] if form and _is_date(text, form) else float("nan")


def _is_date(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _writer(texts: Sequence[str], form: str, zone: str) -> Callable[[float], str]:
    """Days as texts of this form; with zeros before single digits, and with as many digits of a second, as these texts have."""
    timed = "%H" in form or "%I" in form
    digits = max((len(text.rpartition(".")[2]) for text in texts), default=0) if "%f" in form else 0
    unit = 10.0**-digits if digits else 1.0 if "%S" in form else 60.0 if timed else DAY
    middle = (
        15 if re.search("%[Yy]", form) and "%d" not in form else 0
    )  # a month is written for the days from the middle of the one before
    unpadded = any(re.search(r"(?<!\d)\d(?!\d)", _date_part(text, timed)) for text in texts)

    def write(day: float) -> str:
        moment = datetime.fromtimestamp(round(within_years(day + middle) * DAY / unit) * unit, UTC)
        text = moment.strftime(form.replace("%Y", f"{moment.year:04d}"))
        text = text[: len(text) - 6 + digits] if digits else text
        if unpadded:
            date = _date_part(text, timed)
            text = re.sub(r"(?<!\d)0(?=\d(?!\d))", "", date) + text.removeprefix(date)
        return text + zone

    return write


def within_years(day: float, *, room: bool = False) -> float:
    """The day since 1970, or the first or last one that dates can be; with room for an offset."""
    return min(max(day, _FIRST + room), _LAST - room)


def _date_part(text: str, timed: bool) -> str:
    return re.split("[ T]", text)[0] if timed else text
