"""lowdim: low-dimensional structure in deep networks, measured, explained and used.

The public names are imported on first use, so that `import lowdim` is fast and needs no torch.
"""

import importlib
from typing import Any

_HOMES = {
    "ClassStatistics": "statistics",
    "DeepMatrixCompletion": "completion",
    "profile": "profiling",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lowdim' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"lowdim.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from lowdim.errors import is_optional, missing_package

        if not is_optional(error):
            raise
        raise missing_package(error.name or "", f"lowdim.{name}") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
