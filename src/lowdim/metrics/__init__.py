"""Collapse, geometry and chance level of features: pure functions of statistics."""

from lowdim.metrics._layer import METRICS
from lowdim.metrics._metric import LayerSums, Metric
from lowdim.metrics.chance import chance_variability
from lowdim.metrics.collapse import (
    Separation,
    Variability,
    heldout_variability,
    separation,
    variability,
    within_class_variability,
)
from lowdim.metrics.geometry import (
    SimplexDistance,
    cdnv,
    class_distances,
    discrimination,
    nearest_mean,
    self_duality,
    simplex_distance,
)
from lowdim.metrics.regression import RegressionCollapse, regression_collapse, root_law
from lowdim.metrics.ridge import HeldOut, heldout_ridge
from lowdim.metrics.spread import features_rank

__all__ = [
    "METRICS",
    "HeldOut",
    "LayerSums",
    "Metric",
    "RegressionCollapse",
    "Separation",
    "SimplexDistance",
    "Variability",
    "cdnv",
    "chance_variability",
    "class_distances",
    "discrimination",
    "features_rank",
    "heldout_ridge",
    "heldout_variability",
    "nearest_mean",
    "regression_collapse",
    "root_law",
    "self_duality",
    "separation",
    "simplex_distance",
    "variability",
    "within_class_variability",
]
