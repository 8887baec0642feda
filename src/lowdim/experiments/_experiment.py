"""What an experiment is: frozen settings in; verdicts, figures and tables out."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lowdim._verdicts import Verdict
from lowdim.errors import UsageError
from lowdim.figures import Figure, Table

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


class Skipped(Exception):
    """An experiment cannot run for lack of data or a package; the message says what to do."""


def require_falling(name: str, values: Sequence[float]) -> None:
    """Whether a setting holds two values or more, each smaller than the one before."""
    if len(values) < 2 or any(a <= b for a, b in itertools.pairwise(values)):
        raise UsageError(f"{name} needs two or more values, each smaller than the one before, not {values}.")


@dataclass(frozen=True)
class Outcome:
    """What one run of an experiment found."""

    verdicts: Sequence[Verdict]
    figures: Sequence[Figure]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """One figure or table of the lecture, with its verdicts.

    Attributes:
        id: Name on the command line.
        section: Section of the lecture, 1 to 4; 5 for what came after it.
        title: One line.
        lecture: The part of the lecture it reproduces, or from where it goes on.
        why: Two sentences: what is done and what one should see.
        source: Author, year, arXiv id or DOI.
        settings: Frozen dataclass type; its defaults are the quick run, and it has a field ``seed: int = 0``.
        run: ``run(settings, progress)``. Raises `Skipped` when it cannot run here.
        full: Settings that the full form replaces (the lecture's own sizes).
        needs: Optional packages, by import name.
        cost: Processor seconds of the default form, about, with real networks where it takes them: the longest begin first.
    """

    id: str
    section: int
    title: str
    lecture: str
    why: str
    source: str
    settings: type[Any]
    run: Callable[[Any, Progress], Outcome]
    full: dict[str, Any] = field(default_factory=dict[str, Any])
    needs: Sequence[str] = ()
    cost: int = 5
