"""Classifiers on stored features: the cross-validated linear probe, and the frozen head on several layers."""

from lowdim.probe._folds import fold_of
from lowdim.probe._folds import require_heldout as require_heldout
from lowdim.probe._frozen import WEIGHTS, FrozenHead, fit_frozen_head, fit_frozen_views
from lowdim.probe._linear import STRENGTHS, LinearProbe, ProbeResult, fit_probe

__all__ = [
    "STRENGTHS",
    "WEIGHTS",
    "FrozenHead",
    "LinearProbe",
    "ProbeResult",
    "fit_frozen_head",
    "fit_frozen_views",
    "fit_probe",
    "fold_of",
]
