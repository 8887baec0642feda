"""Deep linear networks: training runs (full, exactly reduced, gradient flow) and theorem checks, in NumPy."""

from lowdim.dynamics._aligned import aligned_descent, balancing_factor, learning_time, period_two_orbit
from lowdim.dynamics._bases import Bases, NoInvariantPartError, block_sizes
from lowdim.dynamics._blocks import BlockForms, block_forms
from lowdim.dynamics._free_features import FreeFeatures, factor_cost, free_features
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._initialization import initialize
from lowdim.dynamics._parsimony import ParsimonyReport, check_parsimony, report_parsimony
from lowdim.dynamics._problem import (
    Problem,
    balanced_labels,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    whiten,
)
from lowdim.dynamics._recursion import scale_recursion
from lowdim.dynamics._reduction import Reduction, reduce
from lowdim.dynamics._relu import ReluRun, train_relu
from lowdim.dynamics._rules import Adam, GradientDescent, Polar, RMSprop, Rule
from lowdim.dynamics._separation import (
    class_separation,
    input_separation,
    insert_unbalanced,
    last_pair_bound,
    log_line,
    ratio_bound,
    separation_over_time,
    separation_profile,
    sharp_ratio,
    untrained_optimum,
)
from lowdim.dynamics._separation_checks import FITTED, balancedness_gaps, check_separation, unchanged_values
from lowdim.dynamics._simulate import simulate, stability_limit
from lowdim.dynamics._trajectory import Svd, Trajectory

__all__ = [
    "FITTED",
    "Adam",
    "Bases",
    "BlockForms",
    "FreeFeatures",
    "GradientDescent",
    "NoInvariantPartError",
    "ParsimonyReport",
    "Polar",
    "Problem",
    "RMSprop",
    "Reduction",
    "ReluRun",
    "Rule",
    "Svd",
    "Trajectory",
    "WeightHistory",
    "aligned_descent",
    "balanced_labels",
    "balancedness_gaps",
    "balancing_factor",
    "block_forms",
    "block_sizes",
    "check_parsimony",
    "check_separation",
    "class_separation",
    "factor_cost",
    "free_features",
    "initialize",
    "input_separation",
    "insert_unbalanced",
    "last_pair_bound",
    "learning_time",
    "log_line",
    "low_rank_target",
    "one_hot",
    "orthogonal_inputs",
    "period_two_orbit",
    "ratio_bound",
    "reduce",
    "report_parsimony",
    "scale_recursion",
    "separation_over_time",
    "separation_profile",
    "sharp_ratio",
    "simulate",
    "stability_limit",
    "train_relu",
    "unchanged_values",
    "untrained_optimum",
    "whiten",
]
