"""Naive definitions of every collapse number, straight from the formulas: plain loops and dense matrices in float64.

Nothing here shares code or an algorithm with the package. Slow and simple on purpose; `exact_nc1` computes with 60
decimal digits, so that rounding in the naive definitions can itself be judged.
"""

import itertools

import mpmath
import numpy as np


def class_means(features, labels, classes):
    features = np.asarray(features, dtype=np.float64)
    return np.stack([features[labels == k].mean(axis=0) for k in range(classes)])


def within_scatter(features, labels, classes, weighting="pooled", unbiased=False):
    """Sigma_W: mean over samples, or mean over classes of the class covariances; optionally n/(n-1)."""
    features = np.asarray(features, dtype=np.float64)
    means = class_means(features, labels, classes)
    d = features.shape[1]
    sums, counts = [], []
    for k in range(classes):
        deviations = features[labels == k] - means[k]
        scatter = np.zeros((d, d))
        for row in deviations:
            scatter += np.outer(row, row)
        sums.append(scatter)
        counts.append(len(deviations))
    if weighting == "pooled":
        return sum(sums) / (sum(counts) - classes if unbiased else sum(counts))
    assert weighting == "class_balanced"
    return sum(s / (n - 1 if unbiased else n) for s, n in zip(sums, counts, strict=True)) / classes


def between_scatter(features, labels, classes, weighting="class_balanced"):
    """Sigma_B: mean over classes around the unweighted mean of means; or weighted by class size around the sample mean."""
    means = class_means(features, labels, classes)
    counts = np.array([(labels == k).sum() for k in range(classes)], dtype=np.float64)
    weights = np.full(classes, 1 / classes) if weighting == "class_balanced" else counts / counts.sum()
    centre = weights @ means
    return sum(w * np.outer(mean - centre, mean - centre) for w, mean in zip(weights, means, strict=True))


def pseudo_inverse(matrix, rank):
    """Pseudo-inverse of a symmetric matrix keeping its `rank` largest eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    kept = np.argsort(values)[::-1][:rank]
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def nc1(features, labels, classes, weighting="pooled", unbiased=False, divide_by_k=False):
    features = np.asarray(features, dtype=np.float64)
    features = features - features.mean(axis=0)  # NC1 does not depend on the origin; this one rounds least
    rank = min(features.shape[1], classes - 1)
    inside = within_scatter(features, labels, classes, weighting, unbiased)
    value = np.trace(inside @ pseudo_inverse(between_scatter(features, labels, classes), rank))
    return value / classes if divide_by_k else value


def exact_nc1(features, labels, classes, digits=60):
    """NC1 with `digits` decimals, without an eigendecomposition; for means that span K - 1 dimensions.

    With C = M^T Q, Q an orthonormal basis of the vectors that sum to zero, Sigma_B = C C^T / K and
    pinv(Sigma_B) = K C (C^T C)^-2 C^T.
    """
    with mpmath.workdps(digits):
        rows = [[mpmath.mpf(float(x)) for x in row] for row in features]
        n, d = len(rows), len(rows[0])
        means, counts = [], []
        for k in range(classes):
            members = [row for row, label in zip(rows, labels, strict=True) if label == k]
            counts.append(len(members))
            means.append([mpmath.fsum(column) / len(members) for column in zip(*members, strict=True)])
        centre = [mpmath.fsum(column) / classes for column in zip(*means, strict=True)]
        helmert = mpmath.zeros(classes, classes - 1)
        for j in range(1, classes):
            norm = mpmath.sqrt(j * (j + 1))
            for i in range(j):
                helmert[i, j - 1] = 1 / norm
            helmert[j, j - 1] = -j / norm
        centred = mpmath.matrix([[m - c for m, c in zip(mean, centre, strict=True)] for mean in means])
        C = centred.T * helmert
        inverse = (C.T * C) ** -1
        within = mpmath.zeros(classes - 1, classes - 1)
        for row, label in zip(rows, labels, strict=True):
            deviation = mpmath.matrix([x - m for x, m in zip(row, means[label], strict=True)])
            projected = C.T * deviation
            within += projected * projected.T / n
        product = inverse * inverse * within * classes
        assert d >= classes - 1
        return mpmath.fsum(product[i, i] for i in range(classes - 1))


def separation(features, labels, classes, weighting="pooled", unbiased=False):
    features = np.asarray(features, dtype=np.float64)
    inside = np.trace(within_scatter(features, labels, classes, weighting, unbiased))
    return inside / np.trace(between_scatter(features, labels, classes))


def nc1_heldout(fit, fit_labels, held, held_labels, classes, weighting="pooled"):
    """Means and basis from one part, squared deviations of the other part from those means."""
    fit, held = np.asarray(fit, dtype=np.float64), np.asarray(held, dtype=np.float64)
    means = class_means(fit, fit_labels, classes)
    inverse = pseudo_inverse(between_scatter(fit, fit_labels, classes), min(fit.shape[1], classes - 1))
    per_class = [
        [(row - means[k]) @ inverse @ (row - means[k]) for row in held[held_labels == k]] for k in range(classes)
    ]
    if weighting == "pooled":
        return float(np.mean(list(itertools.chain(*per_class))))
    return float(np.mean([np.mean(values) for values in per_class]))


def _centred_means(features, labels, classes):
    means = class_means(features, labels, classes)
    return means - means.mean(axis=0)


def equinorm(features, labels, classes):
    norms = np.linalg.norm(_centred_means(features, labels, classes), axis=1)
    return norms.std() / norms.mean()


def equiangularity(features, labels, classes):
    M = _centred_means(features, labels, classes)
    errors = []
    for i, j in itertools.combinations(range(classes), 2):
        cosine = M[i] @ M[j] / (np.linalg.norm(M[i]) * np.linalg.norm(M[j]))
        errors.append(abs(cosine + 1 / (classes - 1)))
    return np.mean(errors)


def etf_distance(features, labels, classes):
    M = _centred_means(features, labels, classes)
    G = M @ M.T
    etf = np.eye(classes) - np.ones((classes, classes)) / classes
    return np.linalg.norm(G / np.linalg.norm(G) - etf / np.linalg.norm(etf))


def nc3(classifier, features, labels, classes):
    """Rows of the classifier (K x d) against the centred class means."""
    M = _centred_means(features, labels, classes)
    return np.linalg.norm(classifier / np.linalg.norm(classifier) - M / np.linalg.norm(M))


def nearest_mean(features, means):
    features = np.asarray(features, dtype=np.float64)
    return np.array([np.argmin([np.linalg.norm(row - mean) for mean in means]) for row in features])


def ncc_accuracy(features, labels, classes):
    return np.mean(nearest_mean(features, class_means(features, labels, classes)) == labels)


def nc4(predictions, features, labels, classes):
    return np.mean(nearest_mean(features, class_means(features, labels, classes)) != predictions)


def class_variances(features, labels, classes, unbiased=False):
    features = np.asarray(features, dtype=np.float64)
    means = class_means(features, labels, classes)
    variances = []
    for k in range(classes):
        squares = [np.sum((row - means[k]) ** 2) for row in features[labels == k]]
        variances.append(sum(squares) / (len(squares) - 1 if unbiased else len(squares)))
    return np.array(variances)


def cdnv(features, labels, classes, unbiased=False):
    means = class_means(features, labels, classes)
    v = class_variances(features, labels, classes, unbiased)
    pairs = itertools.combinations(range(classes), 2)
    return np.mean([(v[i] + v[j]) / (2 * np.sum((means[i] - means[j]) ** 2)) for i, j in pairs])


def discrimination(features, labels, classes):
    means = class_means(features, labels, classes)
    pairs = itertools.combinations(range(classes), 2)
    return 1 - max(means[i] @ means[j] / (np.linalg.norm(means[i]) * np.linalg.norm(means[j])) for i, j in pairs)


def effective_rank(matrix):
    """exp of the entropy of the normalised singular values."""
    singular = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    p = singular / singular.sum()
    return float(np.exp(-sum(x * np.log(x) for x in p if x > 0)))
