"""The baseline without a model: raw pixels, or character n-grams, and logistic regression."""

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from PIL import Image
from torch.nn import functional as F

from lowdim.data import Split
from lowdim.probe import fit_probe

SIDE = 16
"""Images become 16 x 16; smaller ones keep their size."""
_NGRAMS = 20_000
_MOST = 3_000
"""Samples: with 20,000 n-grams they take half a gigabyte."""


def plain_features(train: Split, other: Split | None = None) -> list[Real[np.ndarray, "_n d"]]:
    """Features that need no network, of the train split and perhaps of another.

    Images: colours of a small version, 0..1. Texts: weights (tf-idf) of the 20,000 most frequent character sequences of length
    1 to 4 of the train split. Feature rows: themselves; tensors of more dimensions in one row, maps ``c x h x w`` in small.
    """
    splits = [train, *([other] if other is not None else [])]
    if train.kind == "text":
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), max_features=_NGRAMS, sublinear_tf=True)
        texts = [[_joined(split.load(index)) for index in range(len(split))] for split in splits]
        vectorizer.fit(texts[0])
        return [vectorizer.transform(part).toarray() for part in texts]
    rows = _pixels if train.kind == "image" else _numbers
    return [np.stack([rows(split.load(index)) for index in range(len(split))]) for split in splits]


def _joined(text: str | tuple[str, ...]) -> str:
    return text if isinstance(text, str) else "\n".join(text)


def _pixels(image: Image.Image) -> np.ndarray:
    image = image.convert("RGB")
    if max(image.size) > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    elif image.size != (SIDE, SIDE):
        # One size for all, and no blur for the images that are small already.
        image = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return np.asarray(image, dtype=np.float32).reshape(-1) / 255


def _numbers(sample: np.ndarray) -> np.ndarray:
    if sample.ndim == 3 and max(sample.shape[1:]) > SIDE:
        height, width = (min(side, SIDE) for side in sample.shape[1:])
        sample = F.adaptive_avg_pool2d(torch.as_tensor(sample, dtype=torch.float32), (height, width)).numpy()
    return np.asarray(sample).reshape(-1)


def baseline_predictions(train: Split, other: Split, *, classes: int, seed: int = 0) -> Float[np.ndarray, "n K"]:
    """Log probabilities of another split by a probe on the `plain_features` of the train split."""
    features = plain_features(train, other)
    fitted = fit_probe(features[0], train.labels, classes=classes, copies=train.copies, seed=seed)
    return fitted.probe.log_probabilities(features[1])


def heldout_baseline(
    train: Split, part: Int[np.ndarray, " n"], *, classes: int, seed: int = 0
) -> Float[np.ndarray, "n K"]:
    """Log probabilities of every sample by a probe on `plain_features` that has not seen its fold (`part`, negative for samples
    that are never held out); NaN where there is none. Of many samples a part is used, evenly: the features of texts are wide."""
    used = np.arange(0, len(train), -(-len(train) // _MOST))
    (features,) = plain_features(train.take(used))
    labels, part, copies = train.labels[used], part[used], train.copies[used]
    heldout = np.full((len(train), classes), np.nan)
    for fold in np.unique(part[part >= 0]):
        fitted, judged = part != fold, part == fold
        probe = fit_probe(features[fitted], labels[fitted], classes=classes, copies=copies[fitted], seed=seed).probe
        heldout[used[judged]] = probe.log_probabilities(features[judged])
    return heldout
