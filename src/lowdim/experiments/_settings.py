"""From texts like ``eps=.2`` to an experiment's frozen settings."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment

_LEAST = {
    **dict.fromkeys(("seed", "image_size", "weight_decay", "weight_decays", "bias_decay", "momentum", "perturbation", "decay"), 0),
    **dict.fromkeys(("depth", "depths", "small_depths", "relu_depths", "classes", "dimension"), 2),
}  # fmt: skip
"""Where a range does not begin at 1 (whole numbers) or above 0 (others): a name means the same in every experiment."""

_BELOW = {"momentum": 1.0, "missing": 1.0, "tolerance": 1.0, "seed": 2**32}
_AT_MOST = {"share": 1.0, "shares": 1.0}
_MAY_BE_EMPTY = {"relu_depths", "small_depths", "small_scales"}


def parse_assignments(texts: Sequence[str], argument: str = "assignments", example: str = "`eps=.2`") -> dict[str, str]:
    """``["eps=.2"]`` to ``{"eps": ".2"}``; `argument` is what the texts were given as, such as `example`.

    Raises:
        UsageError: If one has no ``=``.
    """
    result: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (sign and name.strip()):
            raise UsageError(f"{text!r} in `{argument}` is not NAME=VALUE. For example: {example}")
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
    return replaced(experiment.id, defaults, {**(experiment.full if full else {}), **values})


def replaced(id: str, settings: Any, values: Mapping[str, Any]) -> Any:
    """The settings with these values.

    Raises:
        UsageError: If one lies outside its range, or they contradict each other.
    """
    for name, value in values.items():
        if isinstance(value, tuple) and not value and name not in _MAY_BE_EMPTY:
            raise UsageError(
                f"{id}: {name} needs at least one value. For example: `{name}={_text(getattr(settings, name))}`"
            )
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int | float) and not isinstance(one, bool):
                _require_range(id, name, one, value)
    try:
        return dataclasses.replace(settings, **values)
    except UsageError as error:
        raise UsageError(f"{id}: {error}") from error


def _require_range(id: str, name: str, number: float, given: Any) -> None:
    least = _LEAST.get(name, 1 if isinstance(number, int) else None)
    low = number > 0 if least is None else number >= least
    if low and number < _BELOW.get(name, math.inf) and number <= _AT_MOST.get(name, math.inf):
        return
    bounds = ["above 0" if least is None else f"at least {least}"]
    bounds += [f"below {_BELOW[name]:.12g}"] if name in _BELOW else []
    bounds += [f"at most {_AT_MOST[name]:g}"] if name in _AT_MOST else []
    raise UsageError(f"{id}: {name} must be {' and '.join(bounds)}, not {_text(given)}.")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
            if text.lstrip("+-").isdecimal():
                return int(text)
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
