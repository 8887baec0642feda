"""Batches of network inputs, in a fixed order."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowdim._preprocessing import Preprocessing
from lowdim.data._dataset import Indices, Split
from lowdim.errors import InputError

Inputs = Tensor | dict[str, Tensor]
Batch = tuple[Inputs, Tensor, Indices]

_AHEAD = 2
"""Batches prepared in advance per worker; memory stays the same however many samples there are."""


def batches(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    indices: Sequence[int] | Indices | None = None,
    workers: int = 0,
) -> Iterator[Batch]:
    """Inputs, labels and positions of a split, batch by batch, always in the same order.

    Args:
        split: The samples.
        preprocessing: The network's.
        batch_size: Samples per batch; the last batch may be smaller.
        indices: Positions to read, in this order; all by default. A stride through them shards a split over processes
            without repeating a sample.
        workers: Threads that prepare batches ahead (decoding and resizing release the interpreter lock); 0 prepares
            each batch when it is asked for.

    Yields:
        A float32 tensor N x C x H x W (images), a dict of token tensors (text) or N x d (features, in the stored type);
        int64 labels; and the positions in the split.

    Raises:
        InputError: If the samples are not what the network takes, cannot be read, or differ in size.

    Example:
        >>> from lowdim.data import load_digits
        >>> from lowdim.models import load_model
        >>> shapes = [
        ...     (tuple(inputs.shape), len(labels))
        ...     for inputs, labels, _ in batches(load_digits()["test"], load_model("digits").preprocessing, batch_size=500)
        ... ]
        >>> shapes
        [((500, 1, 8, 8), 500), ((297, 1, 8, 8), 297)]
    """
    check_kind(split, preprocessing)
    chosen = np.arange(len(split)) if indices is None else np.asarray(indices, dtype=np.int64)
    pieces = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
    make = partial(_batch, split, preprocessing)
    if workers < 1:
        yield from map(make, pieces)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="lowdim-data") as pool:
        waiting = iter(pieces)
        pending = [pool.submit(make, piece) for piece in islice(waiting, _AHEAD * workers)]
        try:
            while pending:
                batch = pending.pop(0).result()
                pending += [pool.submit(make, piece) for piece in islice(waiting, 1)]
                yield batch
        finally:
            for future in pending:
                future.cancel()


def check_kind(split: Split, preprocessing: Preprocessing) -> None:
    """Raises an error if a network with this preprocessing cannot read these samples.

    Args:
        split: The samples.
        preprocessing: The network's.
    """
    plain = preprocessing == Preprocessing()
    if split.kind == preprocessing.kind or (split.kind == "features" and plain):
        return
    raise InputError(f"The model takes {preprocessing.kind} input, but the data is {split.kind}.")


def _batch(split: Split, preprocessing: Preprocessing, positions: Indices) -> Batch:
    samples = [split.load(int(position)) for position in positions]
    labels = torch.from_numpy(split.labels[positions])
    if split.kind == "text":
        return _tokens(preprocessing, samples), labels, positions
    if split.kind == "features":
        return torch.from_numpy(np.stack(samples)), labels, positions
    arrays = [_normalised(split, preprocessing, *entry) for entry in zip(positions, samples, strict=True)]
    if len({array.shape for array in arrays}) > 1:
        sizes = sorted({f"{array.shape[1]} x {array.shape[2]}" for array in arrays})
        raise InputError(
            f"The images of the {split.name} split differ in size ({', '.join(sizes[:3])}), and the model has no input size "
            "of its own. Say one with `image_size`."
        )
    return torch.from_numpy(np.stack(arrays)), labels, positions


def _normalised(split: Split, preprocessing: Preprocessing, position: np.int64, sample: Any) -> np.ndarray:
    try:
        return preprocessing.normalised(sample)
    except InputError as error:
        raise InputError(f"{split.items[int(position)]}: {error}") from error


def _tokens(preprocessing: Preprocessing, texts: list[Any]) -> dict[str, Tensor]:
    encoded = preprocessing.tokenizer(
        texts, padding=True, truncation=True, max_length=preprocessing.max_length, return_tensors="pt"
    )
    return dict(encoded)
