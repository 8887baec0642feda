"""A tuned network in the base network's own form: another head in the place of the base's."""

import copy

from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.finetuning._tuned import TunedModel
from lowdim.models import Feature


def in_form(model: nn.Module, form: str, refusal: str) -> TunedModel:
    """The model, if its method can be exported in this form; an average cannot."""
    if not isinstance(model, TunedModel) or form not in model.method.exports:
        raise UsageError(refusal)
    return model


def heads_for(base: nn.Module, feature: Feature, head: nn.Linear) -> dict[str, nn.Module]:
    """What to put in the place of each of a network's classifiers, by name, so that its output is that of one head on its feature.

    Several classifiers get the same head where the feature is the mean of what they read, and their parts of it where that is
    joined. The answers are averaged by the network.
    """
    if not feature.heads:
        raise InputError(
            f"{type(base).__name__} has no head whose place the new one could take. Export to torch instead."
        )
    if "&" not in feature.layer:
        return {name: _in_kind(base.get_submodule(name), head) for name in feature.heads}
    found: dict[str, nn.Module] = {}
    start = 0
    for name in feature.heads:
        width = _width(base.get_submodule(name))
        part = nn.Linear(width, head.out_features).to(head.weight.device)
        weight = len(feature.heads) * head.weight[:, start : start + width]
        part.load_state_dict({"weight": weight, "bias": head.bias})
        found[name] = part
        start += width
    return found


def _width(old: nn.Module) -> int:
    """Of what a classifier reads."""
    if isinstance(old, nn.Linear):
        return old.in_features
    raise InputError(f"{type(old).__name__} is one of several heads and no linear layer. Export to torch instead.")


def _in_kind(old: nn.Module, head: nn.Linear) -> nn.Module:
    """A linear head as what it replaces: a convolution over single points, or over a whole map, stays one."""
    if not isinstance(old, nn.Conv1d | nn.Conv2d):
        return copy.deepcopy(head)
    points = old.kernel_size if head.in_features != old.in_channels else (1,) * len(old.kernel_size)
    new = type(old)(old.in_channels, head.out_features, points).to(head.weight.device)  # type: ignore[arg-type]
    new.load_state_dict({"weight": head.weight.reshape(new.weight.shape), "bias": head.bias})
    return new


def with_heads(base: nn.Module, heads: dict[str, nn.Module]) -> nn.Module:
    """A copy of a network with other modules in the places of these names."""
    module = copy.deepcopy(base).eval()
    for name, head in heads.items():
        module.to(next(head.parameters()).device).set_submodule(name, copy.deepcopy(head))
    return module
