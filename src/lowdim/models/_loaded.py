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
from lowdim.features import Inputs, Pool
from lowdim.models._feature import Feature, find_feature


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network with everything needed to run it and to find it again.

    Attributes:
        name: As typed, or the name given in a file of models.
        module: In evaluation mode.
        preprocessing: What its inputs go through.
        layer: The layer whose output is to be the feature, where one was asked for (see `lowdim.models.find_feature`).
        pool: How its tokens become one row, where that was asked for.
        classes: Names of the classifier's outputs, where known.
        random_weights: Whether the weights are untrained.
        fingerprint: sha256 over names, types, shapes and bytes of all parameters and buffers.
        source: Arguments with which `load_model` gives the same network.
        notes: What a reader of results should know, such as parts that had no weights.

    Example:
        >>> from lowdim.models import load_model
        >>> load_model("digits").feature(torch.zeros(2, 1, 8, 8)).describe()
        'head:input, 24 wide: what head reads, the classifier'
    """

    name: str
    module: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    random_weights: bool
    fingerprint: str
    source: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    layer: str | None = None
    pool: Pool | None = None

    def feature(self, example: Inputs) -> Feature:
        """What all commands take as its feature; `example` is a batch of at least two samples."""
        return find_feature(self.module, example, layer=self.layer, pool=self.pool)


def fingerprint(module: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of all parameters and buffers.

    Args:
        module: Any network; the device does not matter.

    Returns:
        64 hexadecimal digits, the same for equal weights of the same architecture.

    Raises:
        InputError: If a layer is lazy and was never run, or a weight has no values, or is sparse.

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
        if tensor.is_meta or tensor.layout != torch.strided:
            what = "no values (device meta)" if tensor.is_meta else f"the layout {tensor.layout}"
            raise InputError(
                f"The network's weight {name} has {what}. Load its weights, as dense tensors, before giving it to lowdim."
            )
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def example_of(preprocessing: Preprocessing) -> Inputs:
    """Two samples of noise that a network with this preprocessing takes, where there is no data at hand.

    Example:
        >>> example_of(Preprocessing(image_size=(8, 8), channels=1)).shape
        torch.Size([2, 1, 8, 8])
    """
    if preprocessing.kind == "text":
        return dict(preprocessing.tokenizer(["one", "two words"], padding=True, return_tensors="pt"))
    sizes = (preprocessing.channels, *(preprocessing.image_size or (224, 224)))
    return torch.randn(
        2, *(sizes if preprocessing.kind == "image" else (1,)), generator=torch.Generator().manual_seed(0)
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` or a class for several devices put around it; any other as it is.

    Raises:
        InputError: If it was traced, scripted, exported or quantised: its inner layers cannot be seen.
    """
    while True:
        inner = getattr(module, "_orig_mod", module)
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        if inner is module:
            break
        module = inner
    kinds = {type(part).__module__ for part in module.modules()}
    form = None
    if isinstance(module, torch.jit.ScriptModule):
        form = "traced or scripted (TorchScript)"
    elif isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
        form = "exported (torch.export)"
    elif any(kind.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")) for kind in kinds):
        form = "quantised"
    if form is not None:
        raise InputError(
            f"The network is {form}: its inner layers cannot be seen. Give the Python network that it was made from."
        )
    return module
