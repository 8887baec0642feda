"""How work is run, whatever the work is: where, from which seed, what may be kept, and who shares it."""

import contextlib
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lowdim._processes import Processes

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done and steps in all."""
CACHE_BUDGET = 4e9
"""Bytes of computed features that are kept on disk."""


def _alone() -> "Processes":
    from lowdim._processes import Processes

    return Processes()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What travels unchanged from a public function down to the loops. None of it decides what is computed but the seed.

    Attributes:
        device: Where networks run; None leaves the choice to the function.
        seed: Of everything random.
        folder: For what is kept and continued from; None for a temporary one.
        lasting: Whether the folder outlives the call, so that what is unfinished is worth writing down.
        cache: Folder of computed features that other runs find again; None keeps them in `folder`.
        cache_budget: Bytes of computed features that are kept.
        processes: That share the work.
        progress: Called with what is being done, steps done and steps in all.
        batch_size: Samples per step; None leaves the choice to the function.

    Example:
        >>> said = []
        >>> job = Job(seed=1, progress=lambda *words: said.append(words))
        >>> job.reporter("reading")(2, 5)
        >>> said, job.processes.count, Job().reporter("reading")
        ([('reading', 2, 5)], 1, None)
    """

    device: "torch.device | str | None" = None
    seed: int = 0
    folder: Path | None = None
    lasting: bool = True
    cache: Path | None = None
    cache_budget: float = CACHE_BUDGET
    processes: "Processes" = field(default_factory=_alone)
    progress: Progress | None = None
    batch_size: int | None = None

    def reporter(self, what: str) -> Callable[[int, int], None] | None:
        """A function of steps done and in all that reports one kind of work; None where nobody listens."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    @contextlib.contextmanager
    def in_folder(self) -> "Generator[Job]":
        """The job with a folder that its processes share: the given one of the first, or a temporary one for the time of the block."""
        with tempfile.TemporaryDirectory(prefix="lowdim-") as temporary:
            folder = Path(self.processes.gather(str(self.folder or temporary))[0])
            yield replace(self, folder=folder, lasting=self.folder is not None)
