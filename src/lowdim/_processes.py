"""The processes of one job (``torchrun``): who is who, sums and merges over all of them."""

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from lowdim.errors import ResourceError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True)
class Processes:
    """This process among `count` equal ones. With one process every operation returns its input."""

    index: int = 0
    count: int = 1

    def share(self, items: int) -> range:
        """Which of `items` are this process's: every one belongs to exactly one process, none is padded or repeated."""
        return range(self.index, items, self.count)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by index (pickled between processes of this job only)."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.count
        with waiting(self.index, self.count):
            distributed.all_gather_object(values, value)
        return values

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Adds the tensors up over all processes, in place."""
        if self.count == 1:
            return
        for tensor, *others in zip(tensors, *self._others(tensors), strict=True):
            total = torch.zeros_like(tensor)
            for part in [tensor, *others]:
                total += part
            tensor.copy_(total)

    def reduce(self, tensors: Sequence[Tensor]) -> None:
        """Adds many tensors up over all processes, in place and in one collective: for gradients, several times a second."""
        if self.count == 1:
            return
        from torch import distributed

        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with waiting(self.index, self.count):
            distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def _others(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        # Gathered and added in their order, so that every process holds the same bits.
        parts: list[list[Tensor]] = self.gather([tensor.cpu() for tensor in tensors])
        for tensor, first in zip(tensors, parts[0], strict=True):
            tensor.copy_(first)
        return [[part.to(tensor.device) for part, tensor in zip(row, tensors, strict=True)] for row in parts[1:]]


@contextlib.contextmanager
def waiting(index: int, count: int) -> Generator[None]:
    """Says what happened when the others did not answer in time."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            f"Process {index} of {count} waited more than {PATIENCE.total_seconds():.0f} seconds for the others, or lost one of "
            "them. Look for the first error in their output; the same command continues from the last state."
        ) from error


def _backend(device: torch.device | None) -> str:
    """NCCL where every local process has a GPU of its own, which it then uses; gloo otherwise."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if (
        device is None
        or device.type != "cuda"
        or torch.cuda.device_count() < int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    ):
        return "gloo"
    torch.cuda.set_device(local)
    return "nccl"


@contextlib.contextmanager
def processes(device: torch.device | None = None) -> Generator[Processes]:
    """Joins the job that ``torchrun`` started, for the time of the block; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    from torch import distributed

    mine = not distributed.is_initialized()
    if mine:
        with waiting(int(os.environ.get("RANK", "0")), count):
            distributed.init_process_group(_backend(device), timeout=PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        if mine:
            distributed.destroy_process_group()
