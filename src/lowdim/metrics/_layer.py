"""The numbers of `measure`, in the order in which they are told."""

from typing import Any

import numpy as np
import torch

from lowdim._random import child_seed
from lowdim.errors import InputError
from lowdim.metrics._metric import LayerSums, Metric
from lowdim.metrics.chance import chance_variability
from lowdim.metrics.collapse import heldout_variability, separation
from lowdim.metrics.geometry import cdnv, discrimination, simplex_distance
from lowdim.metrics.spread import features_rank


def _spectrum(sums: LayerSums) -> list[float]:
    if sums.scatter is None:
        return []
    eigenvalues = sums.scatter.span.eigenvalues
    return (eigenvalues / eigenvalues.sum()).tolist()


def _chance(sums: LayerSums) -> float:
    generator = torch.Generator().manual_seed(child_seed(sums.seed, "chance"))
    same = np.arange(len(sums.sample)) if sums.sample_copies is None else sums.sample_copies
    alone = np.sort(np.unique(same, return_index=True)[1])
    try:
        return chance_variability(
            sums.sample[alone],
            sums.sample_labels[alone],
            samples=sums.statistics.samples * sums.independent,
            weighting=sums.weighting,
            unbiased=sums.unbiased,
            generator=generator,
        )
    except InputError as error:
        raise InputError(f"chance level: {error}") from error


def _heldout(sums: LayerSums) -> float:
    if not sums.crossed:
        raise InputError("the held-out NC1 needs two samples of every class and means that differ.")
    return heldout_variability(sums.crossed, weighting=sums.weighting)


def _ncc(sums: LayerSums) -> float | None:
    return sums.hits / sums.compared if sums.compared else None


def _ncc_left_out(sums: LayerSums) -> float | None:
    right, told = sums.left_out
    return right / told if told else None


def _mean_cdnv(sums: LayerSums) -> float:
    pairs = cdnv(sums.statistics)
    value = float(pairs.sum()) / (len(pairs) * (len(pairs) - 1))
    if not value < float("inf"):
        raise InputError("the means of two classes coincide, so CDNV has no value.")
    return value


def _separation(sums: LayerSums) -> float:
    return separation(sums.statistics, weighting=sums.weighting, unbiased=sums.unbiased).value


def _nc2(sums: LayerSums) -> dict[str, Any]:
    return dict(vars(simplex_distance(sums.statistics)))


def _effective_rank(sums: LayerSums) -> float | None:
    return features_rank(sums.sample) if len(sums.sample) > 1 else None


METRICS: list[Metric] = [
    Metric("spectrum", 0, "", "Eigenvalues of Sigma_B over their sum, largest first.", _spectrum),
    Metric("nc1", -1, "NC1", "trace(Sigma_W pinv(Sigma_B)), not divided by K; 0 is full collapse.", lambda s: s.variability.value),
    Metric("nc1_heldout", -1, "NC1 held-out", "NC1 with means from one half of the samples, scatter from the other.", _heldout),
    Metric("nc1_chance", 0, "NC1 chance", "NC1 with permuted labels (median).", _chance),
    Metric("separation", -1, "D", "trace(Sigma_W) / trace(Sigma_B).", _separation),
    Metric("ncc_accuracy", 1, "NCC accuracy", "Of the nearest class mean; those of the training split where measured.", _ncc),
    Metric("ncc_left_out", 1, "", "The same with each sample and its copies left out of the mean of its class, where the means are those of its own split.", _ncc_left_out),
    Metric("cdnv", -1, "CDNV", "Class-distance normalised variance, mean over pairs of classes.", _mean_cdnv),
    Metric("nc2", 0, "", "Distance of the class means from a simplex: equinorm, equiangularity, etf_distance; cosine_excess also where there are more classes than dimensions.", _nc2),
    Metric("discrimination", 1, "", "1 - the largest cosine between two class means.", lambda s: discrimination(s.statistics)),
    Metric("effective_rank", 0, "effective rank", "Of the centred features, of at most 2,048 samples.", _effective_rank),
    Metric("rank", 0, "rank", "Of Sigma_B: the directions that NC1 uses.", lambda s: s.variability.rank),
    Metric("cutoff", 0, "", "Eigenvalues of Sigma_B at or below it count as zero.", lambda s: s.variability.cutoff),
    Metric("condition", 0, "condition", "Largest over smallest eigenvalue used.", lambda s: s.variability.condition),
    Metric("noise_share", 0, "noise share", "Part of NC1 where means differ by sampling noise.", lambda s: s.variability.noise_share),
]  # fmt: skip
