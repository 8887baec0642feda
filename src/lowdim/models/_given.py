"""Networks in any form in which a caller holds them."""

import os
from typing import Any, cast

from torch import nn

from lowdim._preprocessing import Preprocessing
from lowdim.errors import UsageError
from lowdim.models._load import load_model
from lowdim.models._loaded import LoadedModel, fingerprint, unwrapped


def require_network(model: Any) -> None:
    """Refuses what `as_model` does not take.

    Raises:
        UsageError: If it is no network, nor the name of one.
    """
    if not isinstance(model, str | os.PathLike | LoadedModel | nn.Module):
        arrays = " For vectors as they are, take the network 'features'." if hasattr(model, "shape") else ""
        raise UsageError(
            f"A network is a name such as 'timm:resnet18', a LoadedModel or a torch module, not {type(model).__name__}.{arrays}"
        )


def as_model(model: Any, *, kind: str = "features", **options: Any) -> LoadedModel:
    """A network from its name, or one that is there.

    Args:
        model: What `load_model` takes, a `LoadedModel`, or a module. A module gets features and tensors as they are, and images and
            texts as `Preprocessing` has them.
        kind: Of the data: ``"image"``, ``"text"`` or ``"features"``.
        options: Further arguments of `load_model`; those that are None or False are as good as absent.

    Raises:
        UsageError: If it is none of these, or options are given for a network that is there.

    Example:
        >>> as_model(nn.Sequential(nn.Linear(2, 3))).name
        'Sequential'
    """
    require_network(model)
    if isinstance(model, str | os.PathLike):
        return load_model(os.fspath(cast("str", model)), **options)
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"`{given[0]}` is for networks that are loaded by name, not for one that is there.", argument=given[0]
        )
    if isinstance(model, LoadedModel):
        return model
    model = unwrapped(cast("nn.Module", model))
    return LoadedModel(
        name=type(model).__name__,
        module=model,
        preprocessing=Preprocessing(kind="features") if kind == "features" else Preprocessing(),
        classes=None,
        random_weights=False,
        fingerprint=fingerprint(model),
        source={},
    )
