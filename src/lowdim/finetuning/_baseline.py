"""The baseline without a model: raw pixels, or character n-grams, and logistic regression."""

import numpy as np
from jaxtyping import Real
from PIL import Image

from lowdim.data import Split
from lowdim.probe import ProbeResult, fit_probe

SIDE = 16
"""Images become 16 x 16; smaller ones keep their size."""
_NGRAMS = 20_000


def plain_features(train: Split, other: Split | None = None) -> list[Real[np.ndarray, "_n d"]]:
    """Features that need no network, of the train split and perhaps of another.

    Images: colours of a small version, 0..1. Texts: weights (tf-idf) of the 20,000 most frequent character sequences of length
    1 to 4 of the train split. Feature rows: themselves.

    Args:
        train: Decides about the vocabulary.
        other: Described by the same features.
    """
    splits = [train, *([other] if other is not None else [])]
    if train.kind == "text":
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), max_features=_NGRAMS, sublinear_tf=True)
        vectorizer.fit([train.load(index) for index in range(len(train))])
        return [vectorizer.transform([split.load(i) for i in range(len(split))]).toarray() for split in splits]
    rows = _pixels if train.kind == "image" else np.asarray
    return [np.stack([rows(split.load(index)) for index in range(len(split))]) for split in splits]


def _pixels(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    if max(image.size) > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    elif image.size != (SIDE, SIDE):
        # One size for all, and no blur for the images that are small already.
        image = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return np.asarray(image, dtype=np.float32).reshape(-1) / 255


def fit_baseline(train: Split, classes: int, seed: int = 0) -> ProbeResult:
    """The cross-validated probe on `plain_features`.

    Args:
        train: The samples.
        classes: ``K``.
        seed: Of the folds.
    """
    return fit_probe(plain_features(train)[0], train.labels, classes=classes, seed=seed)
