"""Accuracy of the linear probe, the check of all other scores."""

from lowdim._intervals import FOLD_LOSS
from lowdim.ranking.scores._kind import ScoreKind

PROBE_CV_ACCURACY = ScoreKind(
    name="probe_cv_accuracy",
    direction=1,
    title="probe, cross-validated",
    explanation="Of samples by a linear probe that has not seen them.",
    measure=lambda sums: None if sums.probe is None else sums.probe.crossed,
    trials=lambda evaluation: evaluation.samples / FOLD_LOSS,
    of_probe=True,
)
PROBE_ACCURACY = ScoreKind(
    name="probe_accuracy",
    direction=1,
    title="probe accuracy",
    explanation="Of the linear probe on the test split, or by cross-validation.",
    measure=lambda sums: None if sums.probe is None else sums.probe.judged,
    trials=lambda evaluation: evaluation.probe_samples,
    of_probe=True,
)
