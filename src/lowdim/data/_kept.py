"""Pictures that several passes read: decoded and resized once."""

import threading
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager

import numpy as np

from lowdim._memory import GIB, available_bytes

_SHARE, _MOST = 8, 2 * GIB
_open: list["_Kept"] = []


class _Kept:
    """Arrays by key, until there is no more room; what comes later is made each time."""

    def __init__(self, room: int) -> None:
        self._room, self._held, self._lock = room, dict[Hashable, np.ndarray](), threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        found = self._held.get(key)
        if found is not None:
            return found
        made = make()
        with self._lock:
            if key not in self._held and self._room >= made.nbytes:
                self._room -= made.nbytes
                self._held[key] = made
        return made


@contextmanager
def keeping_pictures() -> Generator[None]:
    """Within it a picture is decoded and resized once for all networks of one input size, mirrored or not, as far as an eighth of the
    available memory goes, 2 GiB at most."""
    if _open:
        yield
        return
    _open.append(_Kept(min((available_bytes() or _MOST) // _SHARE, _MOST)))
    try:
        yield
    finally:
        _open.clear()


def kept_picture(key: Callable[[], Hashable], make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` gives, or gave for this key, if pictures are kept now."""
    return _open[0].get(key(), make) if _open else make()
