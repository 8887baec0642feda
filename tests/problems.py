"""Labelled features with known properties, shared by the tests."""

import numpy as np
import torch
from hypothesis import strategies as st


def blobs(classes, width, per_class, *, seed=0, noise=1.0, spread=1.0, offset=0.0):
    """Gaussian classes of the given sizes (one number or one per class), shuffled; float64 features and int64 labels."""
    generator = np.random.default_rng(seed)
    sizes = np.broadcast_to(per_class, classes)
    labels = generator.permutation(np.repeat(np.arange(classes), sizes))
    means = spread * generator.standard_normal((classes, width))
    features = means[labels] + noise * generator.standard_normal((len(labels), width)) + offset
    return features, labels


def tensors(features, labels):
    return torch.from_numpy(np.asarray(features)), torch.from_numpy(np.asarray(labels))


def rotation(width, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def simplex(classes, width, norm, seed=0):
    """Class means on a simplex equiangular tight frame of the given norm, in general position."""
    frame = np.eye(classes) - 1 / classes
    frame *= norm / np.linalg.norm(frame[0])
    return frame @ rotation(max(width, classes), seed)[:classes, :width] if width >= classes else None


@st.composite
def problems(draw):
    """Small problems of every shape: fewer samples than features, more classes than features, d = 1, singletons, offsets."""
    classes = draw(st.integers(2, 6))
    width = draw(st.integers(1, 9))
    sizes = draw(st.lists(st.integers(1, 7), min_size=classes, max_size=classes).filter(lambda s: max(s) > 1))
    features, labels = blobs(
        classes,
        width,
        sizes,
        seed=draw(st.integers(0, 2**20)),
        noise=draw(st.sampled_from([1e-3, 1.0, 30.0])),
        offset=draw(st.sampled_from([0.0, 1e3])),
    )
    return features, labels, classes
