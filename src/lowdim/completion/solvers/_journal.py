"""What a long fit has done so far: told to whoever watches, and kept on disk between sweeps so that it can be continued.

A fit is a fixed sequence of stages (of the search for a rank, of the check, of the final fit). Each asks the journal for its number, finds
what an interrupted run left there, and reports after every sweep. Everything else is computed again: it is deterministic and cheap.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._files import load_tensors, save_tensors

Arrays = Mapping[str, NDArray[Any]]

INTERVAL = 30.0  # seconds between two writes; a stage that takes less is not written


def _nobody(done: int, total: int) -> None:
    """Watches nothing."""


@dataclass
class Journal:
    """Where stages report.

    Attributes:
        folder: For the state of the stages; None keeps nothing.
        watch: Called with the sweeps done and the most there will be, after every sweep.
        interval: Seconds between two writes.
        stages: Begun so far.
    """

    folder: Path | None = None
    watch: Callable[[int, int], None] = _nobody
    interval: float = INTERVAL
    stages: int = field(default=0, init=False)

    def stage(self, total: int) -> "Stage":
        """The next stage, of at most `total` sweeps."""
        self.stages += 1
        file = self.folder / f"stage-{self.stages}.safetensors" if self.folder else None
        return Stage(file, self.watch, self.interval, total)


class Stage:
    """One stage of a fit."""

    def __init__(self, file: Path | None, watch: Callable[[int, int], None], interval: float, total: int) -> None:
        self._file, self._watch, self._interval, self._total = file, watch, interval, total
        self._written = time.monotonic()

    def saved(self) -> dict[str, NDArray[Any]] | None:
        """What an interrupted run kept of this stage."""
        return load_tensors(self._file)[0] if self._file and self._file.exists() else None

    def report(self, done: int, state: Callable[[], Arrays]) -> None:
        """A sweep is done; `state` gives all that the next one needs."""
        if self._file and time.monotonic() - self._written >= self._interval:
            save_tensors(self._file, {name: np.asarray(array) for name, array in state().items()})
            self._written = time.monotonic()
        self._watch(done, self._total)
