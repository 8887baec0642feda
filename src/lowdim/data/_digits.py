"""scikit-learn's handwritten digits, and the tasks that the embedded networks are used for."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lowdim.data._arrays import dataset_from_arrays
from lowdim.data._dataset import Dataset, Indices, class_order
from lowdim.errors import InputError, did_you_mean

_TEST = 797


def load_digits(name: str = "digits") -> Dataset:
    """1,797 grey 8 x 8 images of ten digits, with a split that never changes: 1,000 train, 797 test.

    Args:
        name: ``digits``; ``digits-0-4`` and ``digits-5-9`` (five classes each); ``digits-source`` and ``digits-target``
            (all classes, one half of the train images each, the same test images); ``digits-noisy`` (the target half and
            the test images with Gaussian noise of deviation .4 of the grey scale, clipped).

    Returns:
        The data set. No image of a source part (``digits-0-4``, ``digits-source``) is in its target part.

    Raises:
        InputError: If there is no such task.

    Example:
        >>> data = load_digits("digits-0-4")
        >>> data.classes, load_digits()["train"].labels.shape, load_digits()["test"].labels.shape
        (('0', '1', '2', '3', '4'), (1000,), (797,))
    """
    if name not in _TASKS:
        raise InputError(f"There is no embedded data set {name!r}. {did_you_mean(name, _TASKS)}")
    return _TASKS[name]()


def _arrays() -> tuple[np.ndarray, Indices, Indices, Indices]:
    pixels, labels = _table()
    # The pixels are 0..16; stored as 0..255 like every other image.
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = _halves(labels, _TEST / len(labels), "digits test")
    return images, labels, train, test


def _table() -> tuple[np.ndarray, Indices]:
    """The 64 pixels of each image and its digit. From scikit-learn's file itself where it lies as today: its import costs seconds."""
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits as sklearn_digits

    bunch: Any = sklearn_digits()
    return bunch.data, bunch.target.astype(np.int64)


def _halves(labels: Indices, second_share: float, part: str) -> tuple[Indices, Indices]:
    """Stratified, and the second part has exactly the rounded number of samples."""
    total = round(second_share * len(labels))
    orders = class_order(labels, 0, part)
    exact = {label: len(order) * total / len(labels) for label, order in orders.items()}
    sizes = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (sizes[label] - exact[label], label))
    for label in by_remainder[: total - sum(sizes.values())]:
        sizes[label] += 1
    second = np.concatenate([order[: sizes[label]] for label, order in orders.items()])
    first = np.concatenate([order[sizes[label] :] for label, order in orders.items()])
    return np.sort(first), np.sort(second)


def _whole() -> Dataset:
    images, labels, train, test = _arrays()
    return dataset_from_arrays(
        images[train], labels[train], images[test], labels[test], classes=tuple("0123456789"), name="digits"
    )


def _classes(name: str, first: int) -> Dataset:
    images, labels, train, test = _arrays()
    train, test = (part[(labels[part] >= first) & (labels[part] < first + 5)] for part in (train, test))
    names = tuple(str(digit) for digit in range(first, first + 5))
    return dataset_from_arrays(
        images[train], labels[train] - first, images[test], labels[test] - first, classes=names, name=name
    )


def _half(name: str, which: int, sigma: float = 0.0) -> Dataset:
    images, labels, train, test = _arrays()
    part = train[_halves(labels[train], 0.5, "digits source")[which]]
    chosen = [images[part], images[test]]
    if sigma:
        noise = np.random.default_rng(0)
        chosen = [np.clip(x + noise.normal(0, 255 * sigma, x.shape), 0, 255).round().astype(np.uint8) for x in chosen]
    return dataset_from_arrays(chosen[0], labels[part], chosen[1], labels[test], classes=tuple("0123456789"), name=name)


_TASKS = {
    "digits": _whole,
    "digits-0-4": partial(_classes, "digits-0-4", 0),
    "digits-5-9": partial(_classes, "digits-5-9", 5),
    "digits-source": partial(_half, "digits-source", 0),
    "digits-target": partial(_half, "digits-target", 1),
    "digits-noisy": partial(_half, "digits-noisy", 1, 0.4),
}
DIGITS_TASKS = tuple(_TASKS)
