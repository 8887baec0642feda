"""Completing an incomplete matrix: validated entries, solvers, and the dynamics of deep factorizations.

The public names are imported on first use: the kernels take time to load, and the names of the solvers do not need them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowdim.completion._estimator import CompletionWarning as CompletionWarning
    from lowdim.completion._estimator import DeepMatrixCompletion as DeepMatrixCompletion
    from lowdim.completion._pooling import Pooled as Pooled
    from lowdim.completion._pooling import pool as pool
    from lowdim.completion.entries import Entries as Entries

_HOMES = {
    "CompletionWarning": "_estimator",
    "DeepMatrixCompletion": "_estimator",
    "Entries": "entries",
    "Pooled": "_pooling",
    "pool": "_pooling",
}

__all__ = ["CompletionWarning", "DeepMatrixCompletion", "Entries", "Pooled", "pool"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
