"""The lecture's experiments, by id. Modules are imported only when an experiment is asked for."""

import importlib

from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment, Outcome, Progress, Skipped

__all__ = ["MODULES", "Experiment", "Outcome", "Progress", "Skipped", "load"]

MODULES: dict[str, str] = {}
"""Experiment id -> the module of this package whose ``EXPERIMENTS`` holds it, in the order of the lecture."""


def load(id: str) -> Experiment:
    """The experiment with this id.

    Raises:
        UsageError: If there is none.
    """
    if id not in MODULES:
        raise UsageError(f"There is no experiment {id!r}. {did_you_mean(id, MODULES, limit=40)}")
    module = importlib.import_module(f"lowdim.experiments.{MODULES[id]}")
    experiments: tuple[Experiment, ...] = module.EXPERIMENTS
    return next(experiment for experiment in experiments if experiment.id == id)
