"""From texts like ``eps=.2`` to an experiment's frozen settings."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """``["eps=.2"]`` to ``{"eps": ".2"}``.

    Raises:
        UsageError: If one has no ``=``.
    """
    result: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (sign and name.strip()):
            raise UsageError(f"{text!r} in `assignments` is not NAME=VALUE. For example: `eps=.2`")
        result[name.strip()] = value.strip()
    return result


def resolve_settings(
    experiments: Sequence[Experiment], assignments: Mapping[str, str], *, full: bool
) -> dict[str, Any]:
    """The settings of each experiment by id: its defaults, the lecture's sizes with `full`, then the assignments that it has.

    Raises:
        UsageError: If no experiment has a name, or a value is of the wrong kind.
    """
    names = {field.name for experiment in experiments for field in dataclasses.fields(experiment.settings)}
    for name in assignments:
        if name not in names:
            raise UsageError(f"None of these experiments has a setting {name!r}. {did_you_mean(name, sorted(names))}")
    return {experiment.id: _settings(experiment, assignments, full=full) for experiment in experiments}


def _settings(experiment: Experiment, assignments: Mapping[str, str], *, full: bool) -> Any:
    defaults = experiment.settings()
    own = {field.name for field in dataclasses.fields(defaults)}
    values = {
        name: convert(text, getattr(defaults, name), name=f"{experiment.id}: {name}")
        for name, text in assignments.items()
        if name in own
    }
    if not 0 <= values.get("seed", 0) < 2**32:
        raise UsageError(f"{experiment.id}: seed must be from 0 to {2**32 - 1}, not {values['seed']}.")
    return dataclasses.replace(defaults, **{**(experiment.full if full else {}), **values})


def convert(text: str, default: Any, *, name: str = "value") -> Any:
    """The text as a value of the default's type; tuples by commas.

    Raises:
        UsageError: If it cannot be read so.

    Example:
        >>> convert("1e3", 5), convert(".5,.25", (1.0,)), convert("yes", False)
        (1000, (0.5, 0.25), True)
    """
    try:
        if isinstance(default, tuple):
            kind = default[0] if default else 0.0
            return tuple(convert(part, kind, name=name) for part in text.split(",") if part.strip())
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(default, int):
            number = float(text)
            if number != int(number):
                raise ValueError
            return int(number)
        if isinstance(default, float):
            number = float(text)
            if not math.isfinite(number):
                raise ValueError
            return number
        return text if isinstance(default, str) else json.loads(text)
    except (ValueError, KeyError, OverflowError) as error:
        kinds = {"bool": "true or false", "int": "a whole number", "float": "a finite number"}
        expected = kinds.get(type(default).__name__, f"like {default!r}")
        raise UsageError(f"{name} must be {expected}, not {text!r}.") from error
