"""lowdim: low-dimensional structure in deep networks, measured, explained and used.

Every command has a function of its name, which takes what the command takes, or the objects themselves, and gives a `Result`. The
public names are imported on first use, so that `import lowdim` is fast and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowdim.cli.advise import advise as advise
    from lowdim.cli.check import check as check
    from lowdim.cli.complete import complete as complete
    from lowdim.cli.export import export as export
    from lowdim.cli.finetune import finetune as finetune
    from lowdim.cli.measure import measure as measure
    from lowdim.cli.predict import predict as predict
    from lowdim.cli.publish import publish as publish
    from lowdim.cli.rank import rank as rank
    from lowdim.cli.reproduce import reproduce as reproduce
    from lowdim.completion import DeepMatrixCompletion as DeepMatrixCompletion
    from lowdim.data import load_data as load_data
    from lowdim.dynamics import check_parsimony as check_parsimony
    from lowdim.dynamics import check_separation as check_separation
    from lowdim.finetuning import load_delta as load_delta
    from lowdim.models import load_model as load_model
    from lowdim.profiling import CollapseMonitor as CollapseMonitor
    from lowdim.profiling import profile as profile
    from lowdim.ranking import Candidate as Candidate
    from lowdim.report import Result as Result
    from lowdim.statistics import ClassStatistics as ClassStatistics
    from lowdim.watch import WeightWatcher as WeightWatcher

_COMMANDS = ("advise", "check", "complete", "export", "finetune", "measure", "predict", "publish", "rank", "reproduce")
_HOMES = {name: f"cli.{name}" for name in _COMMANDS} | {
    "Candidate": "ranking",
    "ClassStatistics": "statistics",
    "CollapseMonitor": "profiling",
    "DeepMatrixCompletion": "completion",
    "WeightWatcher": "watch",
    "Result": "report",
    "check_parsimony": "dynamics",
    "check_separation": "dynamics",
    "load_data": "data",
    "load_delta": "finetuning",
    "load_model": "models",
    "profile": "profiling",
}

__all__ = sorted([*_HOMES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lowdim")
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
    return sorted(__all__)
