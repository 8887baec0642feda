"""The lecture's experiments, by id. Modules are imported only when an experiment is asked for."""

import importlib

from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment, Outcome, Progress, Skipped

__all__ = ["MODULES", "TOUR", "Experiment", "Outcome", "Progress", "Skipped", "load"]

MODULES: dict[str, str] = {
    "terminal-phase": "terminal_phase",
    "unconstrained-features": "unconstrained_features",
    "layerwise-collapse": "layerwise",
    "prevalence-of-separation": "layerwise",
    "collapse-and-transfer": "transfer",
    "transfer-table": "transfer",
    "data-scarcity": "transfer",
    "layerwise-finetuning": "transfer",
    "parsimony-svd": "parsimony",
    "parsimony-weight-decay": "parsimony",
    "parsimony-unwhitened": "parsimony_limits",
    "parsimony-momentum": "parsimony",
    "parsimony-optimizers": "parsimony_limits",
    "parsimony-low-rank-bias": "parsimony_limits",
    "parsimony-general": "parsimony_general",
    "separation-theorem": "separation",
    "separation-linear-relu": "separation_figures",
    "separation-depth": "separation_figures",
    "separation-scale": "separation_figures",
    "separation-tradeoff": "separation_tradeoff",
    "separation-init": "separation_figures",
    "factorization-compressed": "factorization_compressed",
    "completion-depth-width": "deep_completion",
    "completion-sample-complexity": "deep_completion",
    "completion-compressed": "deep_completion",
    "completion-narrow": "deep_completion",
    "edge-of-stability": "edge_of_stability",
    "saddle-to-saddle": "learning_order",
    "muon-growth": "learning_order",
    "class-imbalance": "class_imbalance",
    "more-classes-than-dimensions": "many_classes",
    "deep-unconstrained-features": "deep_features",
    "smooth-networks": "smooth_networks",
    "regression-collapse": "regression_collapse",
}
"""Experiment id -> the module of this package whose ``EXPERIMENTS`` holds it, in the order of the lecture; then what came after it."""


TOUR = {"few-labels": "tour", "damaged-picture": "tour"}
"""Experiments that are not figures of the lecture; ``lowdim demo`` runs them beside some that are."""


def load(id: str) -> Experiment:
    """The experiment with this id.

    Raises:
        UsageError: If there is none.
    """
    modules = MODULES | TOUR
    if id not in modules:
        raise UsageError(f"There is no experiment {id!r}. {did_you_mean(id, MODULES, limit=40)}")
    module = importlib.import_module(f"lowdim.experiments.{modules[id]}")
    experiments: tuple[Experiment, ...] = module.EXPERIMENTS
    return next(experiment for experiment in experiments if experiment.id == id)
