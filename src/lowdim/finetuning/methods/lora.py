"""Low-rank updates of all weight matrices (Hu et al. 2021, arXiv 2106.09685)."""

from typing import TYPE_CHECKING

from lowdim.errors import InputError, require
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._recipe import steady_recipe
from lowdim.finetuning.methods._method import Method

if TYPE_CHECKING:
    from torch import nn


def _adapt(base: "nn.Module", plan: Plan, seed: int) -> None:
    """Puts the factors beside the weights; the global generator is left alone."""
    import torch
    from torch import nn

    from lowdim._random import child_seed

    peft = require("peft", "The method lora")
    targets = {
        name: min(module.weight.flatten(1).shape)
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    if not targets:
        raise InputError(f"{type(base).__name__} has no linear or convolutional layer for LoRA.")
    if plan.rank > max(targets.values()):
        raise InputError(
            f"rank {plan.rank} is above that of every weight of the network, at most {max(targets.values())}."
        )
    config = peft.LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, target_modules=[*targets])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, "lora"))
        peft.inject_adapter_in_model(config, base)


def _parameters(base: "nn.Module") -> "list[nn.Parameter]":
    ends = ("lora_A.default", "lora_B.default")
    factors = [module for name, module in base.named_modules() if name.endswith(ends)]
    return [parameter for factor in factors for parameter in factor.parameters()]


METHOD = Method(
    name="lora",
    title="low-rank updates of all weight matrices, and the head",
    reads=("rank",),
    recipe=steady_recipe,
    parameters=_parameters,
    adapt=_adapt,
    also=True,
)
