"""What a fine-tuning method trains: which blocks, with which head, and how many parameters that is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from lowdim.errors import InputError, UsageError, did_you_mean
from lowdim.models import block_names, match_layers

Method = Literal["linear-probe", "layer", "scl", "lp-ft", "full", "norm", "lora", "zero-shot"]
METHODS: tuple[Method, ...] = ("linear-probe", "layer", "scl", "lp-ft", "full", "norm", "lora", "zero-shot")
Combine = Literal["pad_add", "concat", "project"]
COMBINES: tuple[Combine, ...] = ("pad_add", "concat", "project")
BatchNorm = Literal["frozen", "batch"]
DEPTH = 0.75
"""``layer="auto"``: the block at this share of the depth; its neighbours do as well, very early and very late ones worse."""


@dataclass(frozen=True)
class Plan:
    """One way to adapt a network to new classes.

    Attributes:
        method: ``"linear-probe"`` trains a new head only; ``"layer"`` one block (or several) and the head; ``"scl"`` the same
            with a skip connection from the block to the penultimate feature; ``"full"`` everything; ``"lp-ft"`` everything,
            from the probe and at a small rate; ``"norm"`` the parameters of all normalisation layers; ``"lora"`` low-rank
            updates of all weight matrices; ``"zero-shot"`` nothing: the head holds one text feature per class.
        blocks: Module names of the trained blocks in the network's order, for ``"layer"`` and ``"scl"``.
        combine: How the skip meets the penultimate feature: the narrower is padded with zeros and added, the two are
            concatenated, or a trained matrix maps the skip to the feature's width.
        rank: Of the updates of ``"lora"``.
        batch_norm: For ``"full"`` and ``"lp-ft"``: ``"frozen"`` leaves the statistics of BatchNorm as they are; ``"batch"`` uses and
            averages those of the batches, as most scripts do.

    Example:
        >>> plan = Plan("layer", blocks=("blocks.2",))
        >>> plan.describe(), Plan.from_dict(plan.as_dict()) == plan
        ('layer blocks.2', True)
    """

    method: Method
    blocks: tuple[str, ...] = ()
    combine: Combine | None = None
    rank: int = 8
    batch_norm: BatchNorm = "frozen"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "blocks": list(self.blocks)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        """What `as_dict` gave."""
        rest = {name: values[name] for name in ("combine", "rank", "batch_norm") if name in values}
        return cls(values["method"], tuple(values["blocks"]), **rest)

    def describe(self) -> str:
        """For people: the method and where."""
        return f"{self.method} {', '.join(self.blocks)}".strip()


def make_plan(
    module: nn.Module,
    method: Method,
    *,
    layer: str | Sequence[str] = "auto",
    combine: Combine = "pad_add",
    rank: int = 8,
    batch_norm: BatchNorm = "frozen",
) -> Plan:
    """The plan of a method on a network.

    Args:
        module: Any network.
        method: One of `METHODS`.
        layer: For ``"layer"`` and ``"scl"``: module names or globs of what to train, or ``"auto"`` for the block at 3/4 of
            the depth.
        combine: For ``"scl"``.
        rank: For ``"lora"``.
        batch_norm: For ``"full"`` and ``"lp-ft"``.

    Raises:
        UsageError: If the method does not exist or leaves no choice about BatchNorm, or a layer matches nothing or has no parameters.
        InputError: If there are no blocks to choose from.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> make_plan(network, "layer", layer="0").blocks
        ('0',)
    """
    if method not in METHODS:
        raise UsageError(f"There is no method {method!r}. {did_you_mean(method, METHODS)}")
    if batch_norm == "batch" and method not in ("full", "lp-ft"):
        raise UsageError(
            "--batch-norm batch goes with --method full or lp-ft; other methods always keep the statistics."
        )
    if method not in ("layer", "scl"):
        return Plan(method, rank=rank, batch_norm=batch_norm)
    blocks = (auto_block(module),) if layer == "auto" else _outermost(match_layers(module, layer))
    for name in blocks:
        if not any(True for _ in module.get_submodule(name).parameters()):
            raise UsageError(f"The layer {name} has no parameters to train. List the blocks with --list-layers.")
    return Plan(method, blocks, combine if method == "scl" else None)


def auto_block(module: nn.Module, depth: float = DEPTH) -> str:
    """The block at a share of the depth.

    Args:
        module: Any network.
        depth: 0 for the first block, 1 for the last.

    Raises:
        InputError: If the network has no blocks that can be told.

    Returns:
        Its module name.

    Example:
        >>> from lowdim.models import DigitsNet, block_names
        >>> network = DigitsNet(classes=10)
        >>> len(block_names(network)), auto_block(network), auto_block(network, depth=0)
        (6, 'blocks.4', 'blocks.0')
    """
    names = block_names(module)
    if not names:
        raise InputError(
            f"{type(module).__name__} has no blocks that lowdim recognises. Name what to train with --layer (see --list-layers)."
        )
    return names[round(depth * (len(names) - 1))]


def _outermost(names: Sequence[str]) -> tuple[str, ...]:
    if any(name.endswith(":input") for name in names):
        raise UsageError("A layer to train is a module, not what goes into it: leave out ':input'.")
    return tuple(name for name in names if not any(name.startswith(f"{other}.") for other in names))
