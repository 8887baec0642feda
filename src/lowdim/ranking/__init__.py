"""Which pre-trained model will transfer best to labelled data: scores from one pass, intervals, ties and agreement."""

from lowdim.ranking._agreement import Agreement, agreement
from lowdim.ranking._candidates import Candidate, candidates_of, read_candidates
from lowdim.ranking._evaluate import DIRECTION, Evaluation, evaluate
from lowdim.ranking._evidence import log_evidence
from lowdim.ranking._rank import Place, Ranking, rank
from lowdim.ranking._scores import (
    Score,
    class_variability,
    discriminant_log_probability,
    h_score,
    heldout_class_variability,
    regularised_h_score,
    shrinkage,
)

__all__ = [
    "DIRECTION",
    "Agreement",
    "Candidate",
    "Evaluation",
    "Place",
    "Ranking",
    "Score",
    "agreement",
    "candidates_of",
    "class_variability",
    "discriminant_log_probability",
    "evaluate",
    "h_score",
    "heldout_class_variability",
    "log_evidence",
    "rank",
    "read_candidates",
    "regularised_h_score",
    "shrinkage",
]
