"""Classifiers on stored features: the cross-validated linear probe."""

from lowdim.probe._folds import fold_of
from lowdim.probe._folds import require_heldout as require_heldout
from lowdim.probe._linear import STRENGTHS, LinearProbe, ProbeResult, fit_probe

__all__ = ["STRENGTHS", "LinearProbe", "ProbeResult", "fit_probe", "fold_of"]
