"""How numbers are written for people, on the page and in the terminal alike."""

from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """A number with its significant digits, a dash for None and NaN, yes or no for a truth value; text stays as it is.

    Example:
        >>> number(0.12345), number(1234.5), number(None), number(1e-9), number(True), number(12345678)
        ('0.123', '1,234', '-', '1e-09', 'yes', '12,345,678')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.9887), percent(None)
        ('98.9 %', '-')
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def between(interval: Any) -> str:
    """The 90 % interval of a share, in percent; nothing where there is none.

    Example:
        >>> between((0.981, 0.994)), between(None)
        (' (90 % interval 98.1 to 99.4 %)', '')
    """
    return "" if interval is None else f" (90 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


def listed(names: Any, most: int = 3) -> str:
    """Names in a sentence, with a count of those that are left out.

    Example:
        >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
        ('a and b', 'a, b, c and 2 more')
    """
    names = list(names)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def capped(names: Any, most: int = 8) -> str:
    """Names after a colon, with the number of all where some are left out.

    Example:
        >>> capped(["a", "b"]), capped("abcd", most=2)
        ('a, b', 'a, b, … (4 in all)')
    """
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def share(value: float) -> str:
    """A share to five places; one that falls short of 1 by less says by how much.

    Example:
        >>> share(0.99338), share(1 - 4.6e-8), share(1.0)
        ('0.99338', '1 - 4.6e-08', '1')
    """
    short = 1 - value
    return "1" if short <= 0 else f"1 - {short:.2g}" if short < 5e-6 else f"{value:.5f}"
