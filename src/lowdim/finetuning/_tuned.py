"""A network with a new head for new classes, and perhaps a skip connection from a block to its penultimate feature."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim.errors import InputError
from lowdim.features import pool_output
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._prefix import Inputs, Prefix, call, stand_in
from lowdim.finetuning.methods import Method, method_named
from lowdim.models import penultimate

Pooling = Literal["avg", "cls"]


class TunedModel(nn.Module):
    """A copy of a network in which a plan's parameters can be trained; its outputs are logits of the new classes.

    BatchNorm statistics stay, in trained blocks too, unless the plan says otherwise: with few images their batch estimates are noise.

    Args:
        network: The pre-trained network; it is copied and left alone.
        plan: What to train.
        classes: Number of new classes.
        example: A batch of at least two samples, from which widths are read.
        seed: Of new parts that start at random; the global generator is left alone.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> model = TunedModel(network, Plan("linear-probe"), classes=2, example=torch.zeros(2, 4))
        >>> model(torch.ones(5, 4)).shape, sum(weight.numel() for weight in model.trained().values())  # 8 x 2 + 2
        (torch.Size([5, 2]), 18)
    """

    def __init__(self, network: nn.Module, plan: Plan, classes: int, example: Inputs, seed: int = 0) -> None:
        super().__init__()
        self.plan = plan
        device = next(iter(example.values())).device if isinstance(example, dict) else example.device
        # One memory layout, whatever the network came in: outputs differ in the last bits between them.
        self.base = in_float32(copy.deepcopy(network)).to(device).to(memory_format=torch.contiguous_format).eval()
        self.pooling: Pooling = "cls" if getattr(network, "global_pool", None) == "token" else "avg"
        self._caught: dict[str, Tensor] | None = None
        self._mask: Tensor | None = None
        if not self.method.own_output:
            self._catch_features()
        self.blocks = _in_order(self.base, plan.blocks, example)
        self.prefix: Prefix | None = None
        if plan.combine is not None:
            self.base.get_submodule(self.blocks[-1]).register_forward_hook(self._catch_skip)
        if self.method.adapt is not None:
            self.method.adapt(self.base, plan, seed)
        with torch.no_grad():
            feature, skip = self._parts(example)
        self.width = feature.shape[1]
        self.project = (
            _zeros(skip.shape[1], self.width, bias=False) if plan.combine == "project" and skip is not None else None
        )
        with torch.no_grad():
            width = self._combine(feature, skip).shape[1]
        self.head = _zeros(width, classes)
        self.to(device)
        self._freeze()

    @property
    def method(self) -> Method:
        """The record of the plan's method."""
        return method_named(self.plan.method, single=True)

    def forward(self, inputs: Inputs) -> Float[Tensor, "n K"]:
        """Logits of the new classes."""
        return self.head(self.features(inputs))

    def split(self, example: Inputs) -> None:
        """From now on, `features` can start at the first trained block.

        Args:
            example: A batch of at least two samples.

        Raises:
            InputError: If the network cannot be split there.
        """
        self.prefix = Prefix(self.base, self.blocks[0], example)

    def frozen_part(self) -> Callable[[Inputs], Tensor] | None:
        """What may be computed once per sample: all up to the head where nothing before it is trained, else what goes into the first
        trained block; None where the network is not split."""
        if self.method.recipe is not None:
            return self.prefix and self.prefix.compute
        return torch.inference_mode()(lambda inputs: self.features(inputs).float())

    def features(self, inputs: Inputs, value: Tensor | None = None) -> Float[Tensor, "n d"]:
        """What the head sees.

        Args:
            inputs: A batch.
            value: What `frozen_part` gave for these samples.
        """
        if value is None:
            combined = self._combine(*self._parts(inputs))
        elif self.prefix is None:
            combined = value
        else:
            with self.prefix.replay(value):
                combined = self._combine(*self._parts(stand_in(inputs)))
        # Saved features may be float64; the head is float32.
        return combined.to(self.head.weight.dtype)

    def train(self, mode: bool = True) -> "TunedModel":
        """Training mode for what is trained; frozen parts stay as they are, and so does BatchNorm where the plan says so."""
        super().train(False)
        if mode:
            self.training = True
            for name in self._trained_modules():
                self.base.get_submodule(name).train()
            for module in self.base.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and self.plan.batch_norm == "frozen":
                    module.eval()
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that the plan trains, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def changing(self) -> dict[str, Tensor]:
        """All tensors that training changes, by name: the trained parameters, and statistics that follow the batches."""
        following = dict(self.named_buffers()) if self.plan.batch_norm == "batch" else {}
        return {**self.trained(), **following}

    def parameters_in_all(self) -> int:
        """All parameters of the tuned network, the new head included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _trained_modules(self) -> tuple[str, ...]:
        return ("",) if self.method.whole else self.plan.blocks

    def _freeze(self) -> None:
        self.requires_grad_(False)
        if self.method.head is not None:
            return
        modules = [self.head, *([] if self.project is None else [self.project])]
        modules += [self.base.get_submodule(name) for name in self._trained_modules()]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if self.method.parameters is not None:
            parameters += self.method.parameters(self.base)
        for parameter in parameters:
            parameter.requires_grad_(True)

    def _parts(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        self._mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
        self._caught = {}
        try:
            output = call(self.base, inputs)
            feature, skip = self._caught.get("feature"), self._caught.get("skip")
        finally:
            # The base also runs alone, to compute the frozen part: then nothing is caught.
            self._caught = None
        return self._pooled(_first_tensor(output)) if feature is None else feature, skip

    def _catch_features(self) -> None:
        """The old head becomes an identity, and what goes into it is the feature."""
        layer = penultimate(self.base)
        if layer is None:
            return
        name = layer.removesuffix(":input")
        parent, _, child = name.rpartition(".")
        identity = nn.Identity()
        setattr(self.base.get_submodule(parent), child, identity)
        identity.register_forward_hook(self._catch_feature)

    def _catch_feature(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._caught is not None:
            self._caught["feature"] = self._pooled(_first_tensor(output))

    def _catch_skip(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._caught is not None:
            self._caught["skip"] = self._pooled(_first_tensor(output), module)

    def _pooled(self, output: Tensor, module: nn.Module | None = None) -> Float[Tensor, "n d"]:
        """Maps averaged over space; tokens averaged over those that are not padding, or the class token."""
        if 2 <= output.ndim <= 4:
            pool = "avg" if output.ndim == 4 else self.pooling
            return pool_output(output, pool, self._mask, "of the feature", module)
        raise InputError(
            f"A layer of shape {tuple(output.shape)} gives no feature vector per sample. Choose another block, or a network whose "
            "classifier can be recognised (a last linear layer named head, fc or classifier)."
        )

    def _combine(self, feature: Tensor, skip: Tensor | None) -> Tensor:
        if self.method.own_output:
            return F.normalize(feature, dim=1)
        if skip is None:
            return feature
        if self.plan.combine == "concat":
            return torch.cat([feature, skip], dim=1)
        if self.plan.combine == "project":
            return feature if self.project is None else feature + self.project(skip)
        width = max(feature.shape[1], skip.shape[1])
        return F.pad(feature, (0, width - feature.shape[1])) + F.pad(skip, (0, width - skip.shape[1]))


class Average(nn.Module):
    """The mean of the probabilities of several tuned networks; its outputs are their logarithms.

    Args:
        parts: Networks with the same classes.

    Example:
        >>> network, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.ones(2, 4)
        >>> parts = [TunedModel(network, Plan("linear-probe"), classes=2, example=inputs) for _ in range(2)]
        >>> parts[1].head.bias.data[0] = math.log(3)  # certain to 3/4; a new head knows nothing: 1/2
        >>> Average(*parts).eval()(inputs)[0].exp().round(decimals=3).tolist()
        [0.625, 0.375]
    """

    def __init__(self, *parts: TunedModel) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, inputs: Inputs) -> Float[Tensor, "n K"]:
        """Logarithms of the averaged class probabilities."""
        logarithms = torch.stack([part(inputs).log_softmax(dim=1) for part in self.parts])
        return logarithms.logsumexp(dim=0) - math.log(len(self.parts))


def in_float32(network: nn.Module) -> nn.Module:
    """A network in half precision as float32: in training, gradients overflow or vanish there, and small steps are rounded away."""
    half = any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in network.parameters())
    return network.float() if half else network


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, dict):
        output = next(iter(output.values()))
    while isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, Tensor):
        raise InputError(f"The network returns {type(output).__name__}; lowdim needs a tensor.")
    return output


def _zeros(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer that starts at zero: tuning starts at the network without the skip, and no random number is drawn."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    assert isinstance(layer, nn.Linear)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _in_order(base: nn.Module, blocks: Sequence[str], example: Inputs) -> tuple[str, ...]:
    """The blocks as the forward pass enters them, which need not be the order in which the network lists them."""
    entered: list[str] = []
    handles = [
        base.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: entered.append(name))
        for name in blocks
    ]
    try:
        with torch.no_grad():
            call(base, example)
    finally:
        for handle in handles:
            handle.remove()
    unused = sorted(set(blocks) - set(entered))
    if unused:
        raise InputError(f"The block {unused[0]} is never used in the forward pass. Choose another layer.")
    return tuple(dict.fromkeys(entered))
