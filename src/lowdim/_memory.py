"""Saying beforehand that memory would not suffice; having it at hand."""

import ctypes
import os
import sys
from pathlib import Path

from lowdim.errors import ResourceError

GIB = 2**30


def require_memory(needed: int, purpose: str, advice: str) -> None:
    """Refuse what would not fit into the memory that is available now.

    Raises:
        ResourceError: With both numbers in GiB.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise ResourceError(
            f"{purpose} needs {needed / GIB:.1f} GiB of memory, but {available / GIB:.1f} GiB are available. {advice}"
        )


def bytes_of_text(lines: int, fields: int, length: float) -> int:
    """What reading a text file takes at most, with `length` characters per line; from measured peaks too."""
    return round(lines * (220 + 100 * fields + 4 * length))


def bytes_of_table(cells: int, length: int) -> int:
    """What reading a text table takes at most, every cell with its place; from measured peaks too."""
    return 420 * cells + 8 * length


def available_bytes() -> int | None:
    """Memory that can still be taken, without swapping and within the limits of the control group and of `ulimit -v`; None if unknown."""
    amounts = [_of_the_system(), _of_the_control_group(), of_the_process()]
    return min((amount for amount in amounts if amount is not None), default=None)


def _of_the_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def of_the_process() -> int | None:
    """Addresses that this process may still take; None without a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not on Windows; no /proc on macOS
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - used)


_KEPT = {"MALLOC_MMAP_THRESHOLD_": (-3, 2**25), "MALLOC_TRIM_THRESHOLD_": (-1, 2**30)}
"""Options of `mallopt` and their values, by the variables that set them for a whole process."""


def keep_freed_memory() -> None:
    """Has this process keep what it frees, unless its environment says how much; with the GNU C library alone.

    Otherwise each map of a network and each large array is given back to the system and asked for again, all its pages cleared: up to
    a fifth of the time of a fine-tuning. For processes that are lowdim's own.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for name, (option, value) in _KEPT.items():
        if change is not None and name not in os.environ:
            change(option, value)


def claim_blas() -> None:
    """Has OpenBLAS, which NumPy and SciPy carry, take its buffers: where it finds no room for them later, it ends the process."""
    import numpy as np
    from scipy.linalg import cholesky

    matrix = np.ones((64, 64))
    _ = matrix @ matrix, cholesky(matrix + 64 * np.eye(64))


def _of_the_control_group() -> int | None:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return None
    return int(limit) - used if limit.isdigit() else None
