"""An outcome as JSON and back, so that a run can be resumed without executing anything it reads."""

import dataclasses
from typing import Any

import numpy as np

from lowdim._files import plain
from lowdim._verdicts import Verdict
from lowdim.errors import InputError
from lowdim.experiments._experiment import Outcome
from lowdim.figures import Images, Lines, Panels, Series, Surface, Table

_KINDS = {kind.__name__: kind for kind in (Images, Lines, Panels, Series, Surface, Table, Verdict)}


def to_stored(outcome: Outcome) -> dict[str, Any]:
    """Verdicts, figures, tables and notes as JSON types."""
    return {field.name: _encode(getattr(outcome, field.name)) for field in dataclasses.fields(outcome)}


def from_stored(stored: dict[str, Any]) -> Outcome:
    """The inverse of `to_stored`; non-finite numbers come back as NaN.

    Raises:
        InputError: If the content is not an outcome.
    """
    try:
        return Outcome(**{name: _decode(value) for name, value in stored.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the stored outcome is damaged ({error}). Run again with `fresh=True`.") from error


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, np.ndarray):
        return {"kind": "array", "dtype": value.dtype.str, "values": plain(value)}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return plain(value)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "array":
        dtype = np.dtype(value["dtype"])
        return np.array(value["values"], float if dtype.kind == "f" else dtype).astype(dtype)
    fields = {name: _decode(item) for name, item in value.items() if name != "kind"}
    if kind == "Verdict":  # NaN is stored as null
        fields |= {name: float("nan") if fields[name] is None else fields[name] for name in ("value", "threshold")}
    if kind == "Series" and isinstance(fields["y"], list):
        fields["y"] = [float("nan") if item is None else item for item in fields["y"]]
    return _KINDS[kind](**fields)
