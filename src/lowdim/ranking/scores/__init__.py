"""The scores of `rank`, one record each, in the order in which they are told."""

from lowdim.metrics import nearest_mean
from lowdim.ranking.scores._kind import SampleMean, ScoreKind, Sums
from lowdim.ranking.scores.discriminant import discriminant_log_probability
from lowdim.ranking.scores.evidence import log_evidence
from lowdim.ranking.scores.h_score import collapse_index, h_score, regularised_h_score
from lowdim.ranking.scores.nc1 import class_variability, heldout_class_variability
from lowdim.ranking.scores.source import source_mean
from lowdim.statistics import between_span

__all__ = ["JUDGES", "SCORES", "ScoreKind"]


def _nearest_mean(sums: Sums) -> SampleMean:
    span = between_span(sums.statistics)
    return SampleMean(
        lambda rows, labels, outputs: (
            nearest_mean((rows - span.centre) @ span.basis, span.coordinates).argmin(dim=1) == labels
        ).double()
    )


def _discriminant(sums: Sums) -> SampleMean:
    log_probability = discriminant_log_probability(sums.statistics)
    return SampleMean(lambda rows, labels, outputs: log_probability(rows, labels))


_KINDS = [
    ScoreKind("nc1", -1, "NC1", "Within-class scatter relative to the spread of the class means; 0 is full collapse.",
        lambda s: class_variability(s.statistics), logarithmic=True),
    ScoreKind("nc1_heldout", -1, "NC1 held-out", "NC1 with class means from one half of the samples and scatter from the other.",
        lambda s: heldout_class_variability(*s.halves), logarithmic=True, by_half=True),
    ScoreKind("h_score", 1, "H-score", "Part of the features' variance, whitened, that the class means make up; at most K - 1.",
        lambda s: s.once(h_score)),
    ScoreKind("h_score_regularised", 1, "H-score, regularised", "The H-score with a shrunken covariance, for few samples.",
        lambda s: regularised_h_score(s.statistics)),
    ScoreKind("vci", -1, "VCI", "1 - H / (K - 1): 0 is full collapse.",
        lambda s: collapse_index(s.once(h_score), s.statistics.classes)),
    ScoreKind("logme", 1, "LogME", "Log evidence of a linear model of the labels, per sample, in nats.",
        lambda s: log_evidence(s.statistics)),
    ScoreKind("sfda", 1, "SFDA-type", "Mean log probability of the classes under a discriminant that has not seen the sample.",
        _discriminant),
    ScoreKind("ncc_accuracy", 1, "NCC accuracy", "Share of samples nearest to the mean of their own class.",
        _nearest_mean, share=True),
    ScoreKind("leep", 1, "LEEP", "Log probability of the labels given the network's own class probabilities, in nats.",
        lambda s: source_mean(s, "leep")),
    ScoreKind("nce", 1, "NCE", "Minus the entropy of the labels given the network's most probable class, in nats.",
        lambda s: source_mean(s, "nce")),
    ScoreKind("probe_cv_accuracy", 1, "probe, cross-validated", "Of samples by a frozen head that has not seen them.",
        lambda s: s.probe and s.probe.crossed, share=True, of_probe=True),
    ScoreKind("probe_accuracy", 1, "probe accuracy", "Of the frozen head on the test split, or by cross-validation.",
        lambda s: s.probe and s.probe.judged, share=True, of_probe=True),
    ScoreKind("r2_cv", 1, "R², cross-validated", "Of a ridge on the feature, on samples that it has not seen.",
        of_probe=True, task="regression"),
    ScoreKind("r2", 1, "R²", "Of the ridge on the test split, or by cross-validation.", of_probe=True, task="regression"),
    ScoreKind("outside", -1, "outside", "Share of the features' variance beyond as many principal directions as the targets have.",
        task="regression"),
    ScoreKind("unexplained", -1, "unexplained", "Share of the targets' variance that is not linear in those directions.",
        task="regression"),
]  # fmt: skip
JUDGES = {"classification": ("probe_cv_accuracy", "probe_accuracy"), "regression": ("r2_cv", "r2")}
"""By task the score that orders, and that by which the others are judged."""
SCORES: dict[str, ScoreKind] = {kind.name: kind for kind in _KINDS}
