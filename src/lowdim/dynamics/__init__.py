"""Deep linear networks: training runs (full, exactly reduced, gradient flow) and theorem checks, in NumPy."""

from ._initialization import initialize
from ._problem import Problem, balanced_labels, low_rank_target, one_hot, orthogonal_inputs, whiten
from ._reduction import NoInvariantPartError, Reduction, reduce
from ._rules import Adam, GradientDescent, Polar, RMSprop
from ._simulate import simulate, stability_limit
from ._trajectory import Trajectory
