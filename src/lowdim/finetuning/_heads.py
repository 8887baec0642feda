"""The head of a network: where it is, and another one in its place. For exports in the base network's own form."""

import copy

from torch import nn

from lowdim.errors import InputError
from lowdim.models import penultimate


def head_name(base: nn.Module) -> str:
    """The name of a network's head.

    Args:
        base: The network.

    Raises:
        InputError: If it has none whose place a new one could take.
    """
    layer = penultimate(base)
    if layer is None:
        raise InputError(
            f"{type(base).__name__} has no head whose place the new one could take. Export to torch instead."
        )
    return layer.removesuffix(":input")


def with_head(base: nn.Module, name: str, head: nn.Linear) -> nn.Module:
    """A copy of a network with a copy of a head in the place of its own.

    Args:
        base: The network.
        name: Of its head.
        head: The new one.
    """
    module = copy.deepcopy(base).to(head.weight.device).eval()
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, copy.deepcopy(head))
    return module
