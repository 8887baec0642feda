"""A network that is ready to be measured."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network with everything needed to run it and to find it again.

    Attributes:
        name: As typed, or the name given in a file of models.
        module: In evaluation mode.
        preprocessing: What its inputs go through.
        head: Module name of the classifier, None where there is none.
        classes: Names of the classifier's outputs, where known.
        random_weights: Whether the weights are untrained.
        fingerprint: sha256 over names, types, shapes and bytes of all parameters and buffers.
        source: Arguments with which `load_model` gives the same network.
        notes: What a reader of results should know, such as parts that had no weights.
    """

    name: str
    module: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    head: str | None
    classes: tuple[str, ...] | None
    random_weights: bool
    fingerprint: str
    source: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def fingerprint(module: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of all parameters and buffers.

    Args:
        module: Any network; the device does not matter.

    Returns:
        64 hexadecimal digits, the same for equal weights of the same architecture.

    Raises:
        InputError: If a layer is lazy and was never run.

    Example:
        >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> _ = second.load_state_dict(first.state_dict())
        >>> fingerprint(first) == fingerprint(second), len(fingerprint(first))
        (True, 64)
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if is_lazy(tensor):
            raise InputError(
                f"The network's weight {name} has no shape yet (a lazy layer). Run the network once on an input before giving it to lowdim."
            )
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
