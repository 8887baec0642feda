"""Batches of network inputs, in a fixed order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowdim._memory import require_memory
from lowdim._preprocessing import Preprocessing
from lowdim.data._dataset import Indices, Split
from lowdim.data._kept import kept_picture
from lowdim.errors import InputError

Inputs = Tensor | dict[str, Tensor]
Batch = tuple[Inputs, Tensor, Indices]

_AHEAD = 2
"""Batches prepared in advance per worker; memory stays the same however many samples there are."""
_AT_ONCE = 1_000
"""Texts that are counted together."""
_LARGE = 2**28
"""Bytes of a batch for which room is asked."""
_SMALL = 2_048
"""Tokens of a batch below which a second pass costs more than it saves."""


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
    """Raises an error if a network with this preprocessing cannot read these samples."""
    plain = preprocessing == Preprocessing()
    if split.kind == preprocessing.kind or (split.kind == "features" and plain):
        return
    other = {
        "features": "Rows of numbers are for `model=features`, or a network of your own that takes them.",
        "image": "Name a network that takes pictures.",
        "text": "Name a network that takes texts.",
    }
    raise InputError(f"The model takes {preprocessing.kind} input, but the data is {split.kind}. {other[split.kind]}")


def _batch(split: Split, preprocessing: Preprocessing, positions: Indices) -> Batch:
    labels = torch.from_numpy(split.labels[positions])
    if split.kind == "image":
        return _images(split, preprocessing, positions), labels, positions
    samples = [split.load(int(position)) for position in positions]
    if split.kind == "text":
        return _tokens(split, preprocessing, positions, samples), labels, positions
    return torch.from_numpy(np.stack(samples)), labels, positions


def _images(split: Split, preprocessing: Preprocessing, positions: Indices) -> Tensor:
    arrays: list[np.ndarray] = []
    for position in positions:
        arrays.append(_normalised(split, preprocessing, position))
        # Each as the network gets it, and all of them once more in one piece.
        needed = 2 * len(positions) * arrays[0].nbytes
        if len(arrays) == 1 and needed >= _LARGE:
            require_memory(needed, f"A batch of {len(positions)} images", "Lower `batch_size` or `image_size`.")
    if len({array.shape for array in arrays}) > 1:
        sizes = sorted({f"{array.shape[1]} x {array.shape[2]}" for array in arrays})
        raise InputError(
            f"The images of the {split.name} split differ in size ({', '.join(sizes[:3])}), and the model has no input size "
            "of its own. Say one with `image_size`."
        )
    return torch.from_numpy(np.stack(arrays))


def _normalised(split: Split, preprocessing: Preprocessing, position: np.int64) -> np.ndarray:
    def seen() -> np.ndarray:
        sample = split.load(int(position))
        try:
            return preprocessing.normalised(sample) if geometry is None else preprocessing.seen(sample)
        except InputError as error:
            raise InputError(f"{split.items[int(position)]}: {error}") from error

    geometry = preprocessing.geometry
    if geometry is None:
        return seen()
    return preprocessing.scaled(kept_picture(lambda: (split.contents[position], geometry), seen))


def _tokens(split: Split, preprocessing: Preprocessing, positions: Indices, texts: list[Any]) -> dict[str, Tensor]:
    options = {"padding": True, "truncation": True, "max_length": preprocessing.max_length, "return_tensors": "pt"}
    try:
        encoded = dict(preprocessing.tokenizer(*_columns(texts), **options))
    except Exception as error:
        if len(texts) > 1:  # which one is it?
            for position, text in zip(positions, texts, strict=True):
                _tokens(split, preprocessing, np.array([position]), [text])
        why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        kind = type(preprocessing.tokenizer).__name__
        raise InputError(f"{split.items[int(positions[0])]}: the network's {kind} fails on this text: {why}") from error
    empty = np.flatnonzero(encoded["attention_mask"].sum(dim=1).numpy() == 0)
    if len(empty):
        raise InputError(
            f"{split.items[int(positions[empty[0]])]}: the network's tokenizer finds no token in this text. Leave it out."
        )
    return encoded


def _columns(texts: Sequence[Any]) -> list[list[str]]:
    """Texts, or the first and the second texts of pairs."""
    return [list(column) for column in zip(*texts, strict=True)] if isinstance(texts[0], tuple) else [list(texts)]


def cut_texts(split: Split, preprocessing: Preprocessing) -> list[str]:
    """The warning that some texts are longer than what the network reads of them; none where all are read to their end."""
    if split.kind != "text" or preprocessing.kind != "text":
        return []
    longest, cut = 0, 0
    for start in range(0, len(split), _AT_ONCE):
        texts = [split.load(index) for index in range(start, min(start + _AT_ONCE, len(split)))]
        try:
            lengths = [len(tokens) for tokens in preprocessing.tokenizer(*_columns(texts), verbose=False)["input_ids"]]
        except Exception:
            return []  # the batches say which text it is
        longest, cut = (
            max([longest, *lengths]),
            cut + sum(length > (preprocessing.max_length or 0) for length in lengths),
        )
    if not cut:
        return []
    return [
        f"{cut} of {len(split)} texts of the {split.name} split are longer than the {preprocessing.max_length} tokens that the network "
        f"reads (the longest: {longest:,}); their ends are left out."
    ]


def by_length(run: Callable[[Any], dict[str, Tensor]], inputs: Inputs) -> dict[str, Tensor]:
    """What a function gives for each sample, with texts of like length together, so that one long text does not fill up all others.

    What has one entry per token has them in its second dimension. Without a mask of tokens, or where little is to be gained, `run`
    gets the batch as it is.

    Returns:
        Rows in the order of the inputs; tokens that were not there are zero.

    Example:
        >>> seen = []
        >>> def run(inputs):
        ...     seen.append(tuple(inputs["ids"].shape))
        ...     return {"sum": inputs["ids"].sum(dim=1, keepdim=True)}
        >>> mask = (torch.arange(512) < torch.tensor([[3], [512], [5], [7], [9]])).long()
        >>> by_length(run, {"ids": mask, "attention_mask": mask})["sum"].flatten().tolist(), seen
        ([3, 512, 5, 7, 9], [(1, 512), (3, 9), (1, 3)])
    """
    groups = _like_length(inputs["attention_mask"]) if isinstance(inputs, dict) and "attention_mask" in inputs else []
    if len(groups) < 2 or not isinstance(inputs, dict):
        return run(inputs)
    longest = inputs["attention_mask"].shape[1]
    parts: list[dict[str, Tensor]] = []
    for rows, columns in groups:
        part = {
            name: tensor[rows][:, columns] if tensor.ndim > 1 and tensor.shape[1] == longest else tensor[rows]
            for name, tensor in inputs.items()
        }
        width = part["attention_mask"].shape[1]
        found = run(part)
        parts.append({name: _widened(tensor, width, longest, columns) for name, tensor in found.items()})
    if any(tensor.shape[1:] != parts[0][name].shape[1:] for part in parts for name, tensor in part.items()):
        return run(inputs)  # the number of tokens decides the width: of flattened tokens
    order = torch.cat([rows for rows, _ in groups]).argsort()
    return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}


def _like_length(mask: Tensor) -> list[tuple[Tensor, slice]]:
    """Samples whose length differs by less than a factor of two, longest first, with the columns that hold their tokens."""
    lengths = mask.sum(dim=1)
    longest = mask.shape[1]
    right, left = bool((mask[:, 0] > 0).all()), bool((mask[:, -1] > 0).all())
    if mask.numel() < _SMALL or not (right or left):
        return []
    order = lengths.argsort(descending=True, stable=True)
    ordered = lengths[order].tolist()
    groups: list[tuple[Tensor, slice]] = []
    start = 0
    for index in range(1, len(ordered) + 1):
        if index == len(ordered) or 2 * ordered[index] <= ordered[start]:
            columns = slice(0, ordered[start]) if right else slice(longest - ordered[start], longest)
            groups.append((order[start:index], columns))
            start = index
    return groups


def _widened(tensor: Tensor, width: int, longest: int, columns: slice) -> Tensor:
    """Tokens of a group among as many as the whole batch has; other tensors as they are."""
    if tensor.ndim < 3 or tensor.shape[1] != width or width == longest:
        return tensor
    wide = tensor.new_zeros(len(tensor), longest, *tensor.shape[2:])
    wide[:, columns] = tensor
    return wide
