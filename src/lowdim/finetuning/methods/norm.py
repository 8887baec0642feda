"""The parameters of all normalisation layers."""

from typing import TYPE_CHECKING

from lowdim.errors import InputError
from lowdim.finetuning._recipe import steady_recipe
from lowdim.finetuning.methods._method import Method

if TYPE_CHECKING:
    from torch import nn


def _parameters(base: "nn.Module") -> "list[nn.Parameter]":
    from torch import nn

    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)  # pyright: ignore[reportAttributeAccessIssue]
    layers = [module for module in base.modules() if isinstance(module, kinds)]
    parameters = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    if not parameters:
        raise InputError(f"{type(base).__name__} has no normalisation layer to train. Choose another method.")
    return parameters


METHOD = Method(
    name="norm",
    title="normalisation layers and the head",
    recipe=steady_recipe,
    parameters=_parameters,
    also=True,
)
