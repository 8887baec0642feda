"""Answers that can be no: a theorem check and an experiment's verdict."""

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Relation = Literal["<=", "<", ">=", ">", "=="]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Check:
    """Whether a theorem's statement holds on given matrices.

    Attributes:
        name: The statement.
        holds: True when ``residual <= tolerance`` (or as `reason` says); None where the numbers are too coarse, or changed too
            little, to tell.
        residual: How far the matrices are from it, in the unit that `reason` names.
        tolerance: The largest residual that counts as holding.
        reason: One sentence: what was compared, and why it does not hold where it does not.
    """

    name: str
    holds: bool | None
    residual: float
    tolerance: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """A number held against a threshold. A verdict outside its theorem's assumptions says so in `note` and is not judged.

    Attributes:
        name: What the number is.
        value: The measured number.
        relation: How it must stand to the threshold.
        threshold: The bound from the theory.
        holds: Whether it does; NaN never holds.
        judged: False when the settings lie outside the theorem (the number is shown, the run does not fail).
        note: Why it is not judged, or how to read the number.
    """

    name: str
    value: float
    relation: Relation
    threshold: float
    holds: bool
    judged: bool = True
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        value: float,
        relation: Relation,
        threshold: float,
        *,
        judged: bool = True,
        note: str = "",
    ) -> "Verdict":
        """Compares; a NaN value never holds.

        Example:
            >>> Verdict.of("R^2", 0.9, ">=", 0.97).holds
            False
        """
        value, threshold = float(value), float(threshold)
        holds = not math.isnan(value) and _COMPARE[relation](value, threshold)
        return cls(name, value, relation, threshold, holds, judged, note)

    @property
    def failed(self) -> bool:
        """True when it was judged and does not hold."""
        return self.judged and not self.holds

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)
