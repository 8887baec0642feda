"""Where a method trains: the blocks of a network, by name or by depth."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.finetuning._plan import BatchNorm, Combine, Options, Plan
from lowdim.finetuning.methods import Method, check_options, method_named
from lowdim.models import Feature, block_names, later_blocks, match_layers

DEPTH = 0.75
"""``layer="auto"``: the block at this share of the depth; its neighbours do as well, very early and very late ones worse."""


def make_plan(
    module: nn.Module,
    method: str,
    *,
    layer: str | Sequence[str] = "auto",
    combine: Combine = "pad_add",
    rank: int = 8,
    batch_norm: BatchNorm = "frozen",
) -> Plan:
    """The plan of a method on a network. What the method does not read is left out.

    Args:
        module: Any network.
        method: One of `METHODS`.
        layer: Module names or globs of what to train, or ``"auto"`` for the block at 3/4 of the depth.
        combine: How a skip meets the penultimate feature.
        rank: Of low-rank updates.
        batch_norm: Whether BatchNorm's statistics follow the batches.

    Raises:
        UsageError: If the method does not exist or leaves no choice about BatchNorm, or a layer matches nothing or has no parameters.
        InputError: If there are no blocks to choose from.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> make_plan(network, "layer", layer="0").blocks
        ('0',)
    """
    options = Options(layer=layer, combine=combine, rank=rank, batch_norm=batch_norm)
    record = method_named(method, single=True)
    check_options(record, options)
    return plan_of(record, module, options)


def plan_of(method: Method, module: nn.Module, options: Options, feature: Feature | None = None) -> Plan:
    """The plan of a method, from those options that it reads; a block that it may choose comes before the feature."""
    if method.blocks is not None:
        blocks = method.blocks(module, feature)
    else:
        blocks = _trained_blocks(module, options.layer, feature) if "layer" in method.reads else ()
    read: dict[str, Any] = {
        name: getattr(options, name) for name in ("combine", "rank", "batch_norm") if name in method.reads
    }
    if method.layered:
        read |= {"layers": tuple(later_blocks(module, feature)), "mirror": True}
    return Plan(method.name, blocks, **read)


def auto_block(module: nn.Module, depth: float = DEPTH, feature: Feature | None = None) -> str:
    """The block at a share of the depth.

    Args:
        module: Any network.
        depth: 0 for the first block, 1 for the last.
        feature: Of the network; only blocks before it are counted.

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
    names = [name for name in block_names(module) if feature is None or feature.trains(name)]
    if not names:
        raise InputError(
            f"{type(module).__name__} has no blocks that lowdim recognises. Name what finetune is to train with its `layer` (see "
            "`module.named_modules()`)."
        )
    return names[round(depth * (len(names) - 1))]


def _trained_blocks(module: nn.Module, layer: str | Sequence[str], feature: Feature | None = None) -> tuple[str, ...]:
    names = [auto_block(module, feature=feature)] if layer == "auto" else match_layers(module, layer)
    if any(name.endswith(":input") for name in names):
        raise UsageError("A layer to train is a module, not what goes into it: leave out ':input'.", argument="layer")
    blocks = tuple(name for name in names if not any(name.startswith(f"{other}.") for other in names))
    for name in blocks:
        if not any(True for _ in module.get_submodule(name).parameters()):
            raise UsageError(
                f"The layer {name} has no parameters to train. See `module.named_modules()` for others.",
                argument="layer",
            )
    return blocks
