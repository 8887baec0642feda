"""What a sample is: the sha256 of its bytes, whatever its name, its place and its times."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lowdim._reading import is_special

Contents: TypeAlias = np.ndarray
"""One sha256 per sample, of type ``S32``."""
_THREADS = 8
"""Files that are read at a time: what waits is the disk, or the network behind it."""
_AT_ONCE = 64
"""Files per task."""


@runtime_checkable
class HasContents(Protocol):
    """A reader that knows the contents of its samples without decoding them."""

    def contents(self, indices: NDArray[np.int64]) -> Contents:
        """Of the samples at these positions."""
        ...


def contents_of(read: Callable[[int], Any], indices: NDArray[np.int64]) -> Contents:
    """The contents of some samples; of those that only a function can give, what it gives."""
    if isinstance(read, HasContents):
        return read.contents(indices)
    return hashed(map(_sample_bytes, map(read, indices.tolist())))


def hashed(samples: Iterable[bytes]) -> Contents:
    """The sha256 of each."""
    return _packed([hashlib.sha256(sample).digest() for sample in samples])


def files_hashed(paths: list[Path]) -> Contents:
    """The sha256 of each file's bytes; of nothing for one that cannot be read, which reading it as a sample will report."""
    pieces = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="lowdim-hash") as pool:
        parts = pool.map(lambda piece: [_file_digest(path) for path in piece], pieces)
        return _packed([digest for part in parts for digest in part])


def array_bytes(array: np.ndarray) -> bytes:
    """Type, shape and numbers."""
    return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()


def first_copies(contents: Contents) -> NDArray[np.int64]:
    """For every sample the position of the first one with the same content: its own where there is none before it.

    Example:
        >>> first_copies(hashed([b"a", b"b", b"a"])).tolist()
        [0, 1, 0]
    """
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def _packed(digests: list[bytes]) -> Contents:
    return np.array(digests, dtype="S32")


def _file_digest(path: Path) -> bytes:
    if is_special(path):
        return hashlib.sha256().digest()
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return hashlib.sha256().digest()


def _sample_bytes(sample: Any) -> bytes:
    return sample.encode(errors="surrogatepass") if isinstance(sample, str) else array_bytes(np.asarray(sample))
