"""Dates and times in the texts of a column as days, and how a new one is written there."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DAY = 86_400.0
_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y")
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_WORDS = (
    "%d %b %Y", "%d-%b-%Y", "%d. %b %Y", "%d.%b.%Y", "%d/%b/%Y", "%d%b%Y", "%d %b, %Y", "%d de %b de %Y", "%d-%b-%y", "%d %b %y", "%b %d, %Y", "%b %d %Y", "%Y-%b-%d",
    "%Y-%m", "%YM%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%b-%Y", "%b/%Y", "%b, %Y", "%b de %Y", "%Y-%b", "%Y %b", "%b-%y", "%b %y", "%m.%Y", "%I:%M %p",
)  # fmt: skip
FORMS = (*(date + time for date in _DATES for time in _TIMES), *_WORDS)
_MONTHS = tuple(
    tuple(names.split())
    for names in (
        "January February March April May June July August September October November December",
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", "Jan Feb Mar Apr May June July Aug Sept Oct Nov Dec", "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez", "Jan Feb März Apr Mai Juni Juli Aug Sept Okt Nov Dez", "Jan Feb Mrz Apr Mai Jun Jul Aug Sep Okt Nov Dez",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "ene feb mar abr may jun jul ago sep oct nov dic", "ene feb mar abr may jun jul ago sept oct nov dic",
    )
)  # fmt: skip
_ENGLISH, _UNCUT = _MONTHS[1], {name.lower() for places in (0, 4, 8, 10) for name in _MONTHS[places]}
_MONTH = re.compile(r"[^\W\d_]{3,}\.?")
_PART = re.compile(
    r"(?i)(?<![^\W\d_])([qths])([1-4])(?!\d)|(?<!\d)([1-4])(?=([qths])(?![^\W\d_])|\.? ?(?:quartal|quarter|trimestre))"
)
"""A quarter (Q3, T3, 3. Quartal) or half (H1, S1) of a year."""
_WEEK = re.compile(r"(?i)(?<![a-z])((?:kw|cw|wk|week|w)[ -]?)(\d{1,2})(?!\d)")
_YEAR, _TWO = "((?:19|20)[0-9]{2})", "([0-9]{2})"
_COMPACT = tuple(
    (form, re.compile(pattern), re.compile(f"(?i){named}") if named else None)
    for form, pattern, named in (
        ("%Y-%m-%d", _YEAR + 2 * _TWO, ""), ("%Y-%m-%d-%H-%M", _YEAR + 4 * _TWO, ""), ("%Y-%m-%d-%H-%M-%S", _YEAR + 5 * _TWO, ""),
        ("%Y-%m", _YEAR + _TWO, ""), ("%Y-%m", rf"{_YEAR}\.{_TWO}", ""), ("%d-%m-%Y", "([0-9]{1,2})" + _TWO + _YEAR, ""), ("%m-%d-%Y", "([0-9]{1,2})" + _TWO + _YEAR, ""),
        ("%Y-%j", _YEAR + "([0-9]{3})", "day|date|tag|datum|jour|fecha|julian|doy"), ("%y-%m-%d", 3 * _TWO, "day|date|tag|datum|jour|fecha|yymmdd"),
        ("%G-W%V", _YEAR + _TWO, "week|woche|semaine|semana|(^|[^a-z])(kw|wk|yyyyww)"), ("%Y-Q%q", _YEAR + "([0-9])", "quart|qtr|trimest|yyyyq"),
    )
)  # fmt: skip
"""Dates in numbers: their form, but for what stands between its parts; these parts; names of columns that have even few of them."""
_SEVERAL = 5  # different numbers that could all be weeks or quarters, from which they are, whatever their column's name
_LEAST = 3  # of whole numbers, at least half of all, that are dates where others among them are none
_LOOKED_AT = 20
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
    english, own_names = _months(texts)
    zone = _zone(texts)
    bare = [_renamed(text.removesuffix(zone), english) for text in texts]
    if not any(_is_date(bare[0], form) for form in _forms(bare[0])):
        return None
    shapes = [_shape(text) for text in bare]
    if len(set(shapes)) > _MOST_SHAPES:
        return None
    forms: dict[str, str] = {}
    why: list[str] = []
    for shape in dict.fromkeys(shapes):
        own = sorted({text for text, its in zip(bare, shapes, strict=True) if its == shape})
        fitting = [form for form in _forms(own[0]) if all(_is_date(text, form) for text in own)]
        fitting.sort(key=lambda form: day_first and not form.startswith("%d"))
        if not fitting or _are_seasons(own):
            return None
        forms[shape] = fitting[0]
        others = [form for form in fitting[1:] if _days(own, form) != _days(own, fitting[0])]
        why += [f"read as {fitting[0]}, {others[0]} fits as well"] if others else []
        day = re.fullmatch("%b.%y", fitting[0]) and all(int(text[-2:]) <= 31 for text in own)
        why += [f"read as {fitting[0]}, though what stands last may be a day"] if day else []
    used = Counter(forms[shape] for shape in shapes)
    form = used.most_common(1)[0][0]
    why += [f"in {len(used)} forms, filled in as {form}"] if len(used) > 1 else []

    def read(text: str) -> float:
        bare = _renamed(text.removesuffix(zone), english)
        return _day(bare, forms.get(_shape(bare)))

    typical = [text for text, shape in zip(bare, shapes, strict=True) if forms[shape] == form]
    write = _writer(typical, form, zone)
    return Dates([read(text) for text in texts], lambda day: _renamed(write(day), own_names), read, "; ".join(why))


def _forms(text: str) -> Sequence[str]:
    """The forms that a text may have: where it names a quarter, half or week, its own."""
    for sign, year, pattern in (("%q", "%Y", _PART), ("%V", "%G", _WEEK)):
        form, found = pattern.subn(lambda match, sign=sign: (match[1] or "") + sign, text)
        if found == 1:
            form, years = re.subn(r"(?<!\d)(?:19|20)\d\d(?!\d)", year, form)
            if not years and sign == "%q":
                form, years = re.subn(r"(?<!\d)\d\d(?!\d)", "%y", form)
            form = re.sub(r"-[1-7]$", "-%u", form) if sign == "%V" else form
            return [form] if years == 1 and not re.search(r"\d", form) else []
    return FORMS


def _are_seasons(texts: Sequence[str]) -> bool:
    """Whether these are years and the next ones, as 2009-10."""
    pairs = [re.fullmatch(r"(\d{4})[-/](\d\d)", text) for text in texts]
    return len(texts) > 1 and all(pair and (int(pair[1]) + 1) % 100 == int(pair[2]) for pair in pairs)


def _months(texts: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """English for the names of the months in a column, and for English the names there: in the first language that has all."""
    words = [word for text in texts for word in _MONTH.findall(text)] if _MONTH.search(texts[0]) else []
    bare = {word.rstrip(".").lower() for word in words}
    names = next((names for names in _MONTHS if bare and bare <= {name.lower() for name in names}), ())
    change = next(
        (change for change in (str.lower, str.upper, str.title) if all(change(word) == word for word in words)), str
    )
    spelt = dict(zip(_ENGLISH, map(change, names), strict=False))
    if any(word.endswith(".") for word in words):
        spelt = {name: own if own.lower() in _UNCUT else f"{own}." for name, own in spelt.items()}
    english = {own.lower().rstrip(".") + dot: name for name, own in spelt.items() for dot in ("", ".")}
    return english, {name.lower(): own for name, own in spelt.items()} | {
        english[word.lower()].lower(): word for word in words if names
    }


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with other names of months."""
    return _MONTH.sub(lambda match: names.get(match[0].lower(), match[0]), text) if names else text


def compact_dates(texts: Sequence[str], name: str = "") -> Dates | None:
    """The dates of whole numbers as 20240131, 202401 or 2024.01, or of weeks as 202405 and quarters as 20241; NaN where a few are none, and None
    where most are.

    Example:
        >>> dates = compact_dates(["202112", "202201", "202203"])
        >>> dates.write(dates.days[0] + 59), compact_dates(["202112", "202213"])
        ('202202', None)
    """
    for form, pattern, named in _COMPACT:
        head = [day == day for day in _in_digits(texts[:_LOOKED_AT], form, pattern).days]
        if sum(head) < len(head) / 2:
            continue
        dates = _in_digits(texts, form, pattern)
        count, different = sum(day == day for day in dates.days), len(set(dates.days))
        called = named is not None and named.search(name) is not None
        if named is not None and not called and (count < len(texts) or different < _SEVERAL):
            continue
        if count == len(texts) > 1 or count >= max(len(texts) / 2, 2 if called else _LEAST):
            return dates
    return None


def _in_digits(texts: Sequence[str], form: str, pattern: re.Pattern[str]) -> Dates:
    """The dates of numbers that match a pattern, NaN of others."""

    def told(text: str) -> str:
        parts = match.groups() if (match := pattern.fullmatch(text)) else ()
        return ("-W" if "W" in form else "-Q" if "Q" in form else "-").join(
            part.zfill(2 - ("Q" in form)) for part in parts
        )

    def read(text: str) -> float:
        return _day(told(text), form)

    write, days = _writer(["00"], form, ""), {text: read(text) for text in set(texts)}
    dot = "." if any("." in text for text in texts) else ""
    why = {"%G-W%V": "weeks", "%Y-Q%q": "quarters"}.get(form, form.replace("-", dot))
    return Dates([days[text] for text in texts], lambda day: re.sub("-[WQ]?", dot, write(day)), read, f"read as {why}")


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
    return [_parsed(text, form).replace(tzinfo=UTC).timestamp() / DAY for text in texts]


def _day(text: str, form: str | None) -> float:
    return _days([text], form)[0] if form and _is_date(text, form) else float("nan")


def _parsed(text: str, form: str) -> datetime:
    """As `datetime.strptime`, which knows no quarters (%q here), and no weeks without a day."""
    if "%q" in form:
        text, found = _PART.subn(
            lambda match: f"{match[1] or ''}{(int(match[2] or match[3]) - 1) * _months_of_part(text) + 1:02d}", text
        )
        return datetime.strptime(text if found else "", form.replace("%q", "%m"))
    if "%V" not in form:
        return datetime.strptime(text, form)
    moment = datetime.strptime(*((text, form) if "%u" in form else (f"{text} 1", f"{form} %u")))
    if re.search(rf"(?<!\d)0?{moment.isocalendar().week}(?!\d)", text) is None:
        raise ValueError(f"There is no such week: {text}")
    return moment


def _months_of_part(text: str) -> int:
    match = _PART.search(text)
    return 6 if match and (match[1] or match[4] or "q") in "hHsS" else 3


def _is_date(text: str, form: str) -> bool:
    try:
        _parsed(text, form)
    except ValueError:
        return False
    return True


def _writer(texts: Sequence[str], form: str, zone: str) -> Callable[[float], str]:
    """Days as texts of this form; with zeros before single digits, and with as many digits of a second, as these texts have."""
    timed = "%H" in form or "%I" in form
    digits = max((len(text.rpartition(".")[2]) for text in texts), default=0) if "%f" in form else 0
    unit = 10.0**-digits if digits else 1.0 if "%S" in form else 60.0 if timed else DAY
    part = _months_of_part(texts[0])
    # what is longer than a day is written for the days from the middle of the one before
    lengths = {"%d": 0, "%j": 0, "%u": 0, "%q": 15 * part, "%V": 3, "%Y": 15, "%y": 15}
    middle = next((days for sign, days in lengths.items() if sign in form), 0)
    unpadded = not re.search("%[qu]", form) and any(
        re.search(r"(?<!\d)\d(?!\d)", _date_part(text, timed)) for text in texts
    )

    def write(day: float) -> str:
        moment = datetime.fromtimestamp(round(within_years(day + middle) * DAY / unit) * unit, UTC)
        text = moment.strftime(
            form.replace("%Y", f"{moment.year:04d}").replace("%q", f"{(moment.month - 1) // part + 1}")
        )
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
