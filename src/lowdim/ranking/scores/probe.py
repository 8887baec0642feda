"""Accuracy of the linear probe, the check of all other scores."""

from lowdim._intervals import FOLD_LOSS
from lowdim.ranking.scores._kind import ScoreKind

PROBE_CV_ACCURACY = ScoreKind(
    "probe_cv_accuracy",
    1,
    "probe, cross-validated",
    "Of samples by a linear probe that has not seen them.",
    lambda sums: None if sums.probe is None else sums.probe.crossed,
    trials=lambda evaluation: evaluation.samples / FOLD_LOSS,
    of_probe=True,
)
PROBE_ACCURACY = ScoreKind(
    "probe_accuracy",
    1,
    "probe accuracy",
    "Of the linear probe on the test split, or by cross-validation.",
    lambda sums: None if sums.probe is None else sums.probe.judged,
    trials=lambda evaluation: evaluation.probe_samples,
    of_probe=True,
)
