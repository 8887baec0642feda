"""Classifiers on stored features: the cross-validated linear probe, the frozen head on several layers, and which samples are unlike all."""

from lowdim.probe._drawn import draw_towards_labels
from lowdim.probe._folds import fold_of
from lowdim.probe._folds import require_heldout as require_heldout
from lowdim.probe._frozen import WEIGHTS, FrozenHead, fit_frozen_head, fit_frozen_views
from lowdim.probe._known import ALARMS, Known, fit_known
from lowdim.probe._linear import STRENGTHS, LinearProbe, ProbeResult, fit_probe
from lowdim.probe._projection import draw_projection

__all__ = [
    "ALARMS",
    "STRENGTHS",
    "WEIGHTS",
    "FrozenHead",
    "Known",
    "LinearProbe",
    "ProbeResult",
    "draw_projection",
    "draw_towards_labels",
    "fit_frozen_head",
    "fit_frozen_views",
    "fit_known",
    "fit_probe",
    "fold_of",
]
