"""What a fine-tuning method trains: which blocks, with which head. Needs no torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Combine = Literal["pad_add", "concat", "project"]
COMBINES: tuple[Combine, ...] = ("pad_add", "concat", "project")
BatchNorm = Literal["frozen", "batch"]


@dataclass(frozen=True)
class Plan:
    """One way to adapt a network to new classes.

    Attributes:
        method: One of `METHODS`.
        blocks: Module names of the trained blocks in the network's order, for methods that train some.
        combine: How a skip from the last block meets the penultimate feature: the narrower is padded with zeros and added, the
            two are concatenated, or a trained matrix maps the skip to the feature's width. None for no skip.
        rank: Of low-rank updates.
        batch_norm: ``"frozen"`` leaves the statistics of BatchNorm as they are; ``"batch"`` uses and averages those of the
            batches, as most scripts do.
        layers: Frozen layers that the head sees beside the penultimate one, tamed, for methods that read several.
        mirror: Whether what the head sees is averaged over each image and its mirror image, in prediction as in training.

    Example:
        >>> plan = Plan("layer", blocks=("blocks.2",))
        >>> plan.describe(), plan.as_dict()["blocks"]
        ('layer blocks.2', ['blocks.2'])
    """

    method: str
    blocks: tuple[str, ...] = ()
    combine: Combine | None = None
    rank: int = 8
    batch_norm: BatchNorm = "frozen"
    layers: tuple[str, ...] = ()
    mirror: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "blocks": list(self.blocks), "layers": list(self.layers)}

    def describe(self) -> str:
        """For people: the method and where."""
        return f"{self.method} {', '.join(self.blocks)}".strip()


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `finetune` that mean something to some methods only; each method's record says which it reads."""

    layer: str | Sequence[str] = "auto"
    combine: Combine = "pad_add"
    rank: int = 8
    batch_norm: BatchNorm = "frozen"
    also: tuple[str, ...] = ()
    minutes: float | None = None
