"""The scores of `rank`, one file each, in the order in which they are told."""

from lowdim.ranking.scores._kind import ScoreKind
from lowdim.ranking.scores.discriminant import SFDA
from lowdim.ranking.scores.evidence import LOGME
from lowdim.ranking.scores.h_score import H_SCORE, H_SCORE_REGULARISED, VCI
from lowdim.ranking.scores.nc1 import NC1, NC1_HELDOUT
from lowdim.ranking.scores.nearest import NCC_ACCURACY
from lowdim.ranking.scores.probe import PROBE_ACCURACY, PROBE_CV_ACCURACY
from lowdim.ranking.scores.source import LEEP, NCE

_KINDS = (
    NC1,
    NC1_HELDOUT,
    H_SCORE,
    H_SCORE_REGULARISED,
    VCI,
    LOGME,
    SFDA,
    NCC_ACCURACY,
    LEEP,
    NCE,
    PROBE_CV_ACCURACY,
    PROBE_ACCURACY,
)
SCORES: dict[str, ScoreKind] = {kind.name: kind for kind in _KINDS}

__all__ = ["SCORES", "ScoreKind"]
