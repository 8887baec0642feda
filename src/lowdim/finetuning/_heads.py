"""A tuned network in the base network's own form: another head in the place of the base's."""

import copy

from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.finetuning._tuned import TunedModel
from lowdim.models import penultimate


def in_form(model: nn.Module, form: str, refusal: str) -> TunedModel:
    """The model, if its method can be exported in this form; an average cannot."""
    if not isinstance(model, TunedModel) or form not in model.method.exports:
        raise UsageError(refusal)
    return model


def head_name(base: nn.Module) -> str:
    """The name of a network's head, whose place a new one can take."""
    layer = penultimate(base)
    if layer is None:
        raise InputError(
            f"{type(base).__name__} has no head whose place the new one could take. Export to torch instead."
        )
    return layer.removesuffix(":input")


def with_head(base: nn.Module, name: str, head: nn.Linear) -> nn.Module:
    """A copy of a network with a copy of a head in the place of the one of this name."""
    module = copy.deepcopy(base).to(head.weight.device).eval()
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, copy.deepcopy(head))
    return module
