"""The collapse profile of a network: every chosen layer, on train and test data."""

from lowdim.profiling._builder import separation_law
from lowdim.profiling._monitor import CollapseMonitor
from lowdim.profiling._profile import profile
from lowdim.profiling._regression import RegressionLayer, RegressionProfile, regression_profile
from lowdim.profiling._result import ClassMeasure, Law, LayerMeasure, Outlier, Profile

__all__ = [
    "ClassMeasure",
    "CollapseMonitor",
    "Law",
    "LayerMeasure",
    "Outlier",
    "Profile",
    "RegressionLayer",
    "RegressionProfile",
    "profile",
    "regression_profile",
    "separation_law",
]
