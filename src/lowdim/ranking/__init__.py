"""Which pre-trained model will transfer best to labelled data: scores from one pass, intervals, ties and agreement."""

from lowdim.ranking._agreement import Agreement, agreement
from lowdim.ranking._candidates import Candidate, candidates_of, read_candidates
from lowdim.ranking._evaluate import Evaluation, evaluate
from lowdim.ranking._rank import Place, Ranking, rank
from lowdim.ranking.scores import JUDGES, SCORES, ScoreKind
from lowdim.ranking.scores._kind import Score
from lowdim.ranking.scores.discriminant import discriminant_log_probability
from lowdim.ranking.scores.evidence import log_evidence
from lowdim.ranking.scores.h_score import h_score, regularised_h_score
from lowdim.ranking.scores.nc1 import class_variability, heldout_class_variability
from lowdim.ranking.scores.shrinkage import shrinkage

__all__ = [
    "JUDGES",
    "SCORES",
    "Agreement",
    "Candidate",
    "Evaluation",
    "Place",
    "Ranking",
    "Score",
    "ScoreKind",
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
