"""A network with a new head for new classes, and perhaps a skip connection from a block to its penultimate feature."""

import contextlib
import copy
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim.errors import InputError
from lowdim.features import Pool, has_mirror, main_tensor, mirror, pool_output, require_room, tame
from lowdim.finetuning._plan import Plan
from lowdim.finetuning._prefix import Inputs, Prefix, call, stand_in
from lowdim.finetuning.methods import Method, method_named, weights_of
from lowdim.models import INPUT, OUTPUT, Feature, find_feature, unwrapped


class TunedModel(nn.Module):
    """A copy of a network in which a plan's parameters can be trained; its outputs are logits of the new classes.

    BatchNorm statistics stay, in trained blocks too, unless the plan says otherwise: with few images their batch estimates are noise.

    Args:
        network: The pre-trained network; it is copied and left alone.
        plan: What to train.
        classes: Number of new classes.
        example: A batch of at least two samples, from which widths are read.
        seed: Of new parts that start at random; the global generator is left alone.
        feature: What the head sees; by default what `lowdim.models.find_feature` finds.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> model = TunedModel(network, Plan("linear-probe"), classes=2, example=torch.zeros(2, 4))
        >>> model(torch.ones(5, 4)).shape, sum(weight.numel() for weight in model.trained().values())  # 8 x 2 + 2
        (torch.Size([5, 2]), 18)
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        classes: int,
        example: Inputs,
        seed: int = 0,
        *,
        feature: Feature | None = None,
    ) -> None:
        super().__init__()
        self.plan, network = plan, unwrapped(network)
        device = next(iter(example.values())).device if isinstance(example, dict) else example.device
        # One memory layout, whatever the network came in: outputs differ in the last bits between them.
        self.base = in_float32(copy.deepcopy(network)).to(device).to(memory_format=torch.contiguous_format).eval()
        found = feature or find_feature(self.base, example)
        # Methods that compare outputs have the network's output as feature.
        self.feature = replace(found, layer="", pool="avg", heads=()) if self.method.own_output else found
        self._caught: dict[str, Tensor] | None = None
        self._counts: dict[str, int] = {}
        self._read: dict[str, Tensor] = {}
        self._mask: Tensor | None = None
        self._catch_features(example)
        self.blocks = self._in_order(example)
        self.prefix: Prefix | None = None
        if plan.combine is not None:
            self.base.get_submodule(self.blocks[-1]).register_forward_hook(
                self._catcher("skip", self.feature.blocks, layer=self.blocks[-1])
            )
        if self.method.adapt is not None:
            self.method.adapt(self.base, plan, seed)
        self.pools: tuple[Pool, ...] = ("cls", "avg") if self.feature.blocks == "cls" else (self.feature.blocks,)
        for name, pool in itertools.product(plan.layers, self.pools):
            self.base.get_submodule(name).register_forward_hook(self._reader(name, pool))
        with torch.no_grad():
            row, skip = self._parts(example)
        # What gives no features is not read.
        self.layers = tuple(name for name in plan.layers if all(f"{name}|{pool}" in self._read for pool in self.pools))
        self.plan = replace(plan, layers=self.layers)
        self.width = row.shape[1]
        self.feature = replace(self.feature, width=self.width)
        self.project = (
            _zeros(skip.shape[1], self.width, bias=False) if plan.combine == "project" and skip is not None else None
        )
        with torch.no_grad():
            width = (self._layered(example) if self.method.layered else self._combine(row, skip)).shape[1]
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
        self.prefix = Prefix(self.base, self.blocks[0], example, self._parts)

    def frozen_part(self) -> Callable[[Inputs], Tensor] | None:
        """What may be computed once per sample: all up to the head where nothing before it is trained, else what goes into the first
        trained block; None where the network is not split."""
        if self.method.recipe is not None or self.blocks:
            return self.prefix and self.prefix.compute
        return torch.inference_mode()(lambda inputs: self.features(inputs).float())

    def features(self, inputs: Inputs, value: Tensor | None = None) -> Float[Tensor, "n d"]:
        """What the head sees.

        Args:
            inputs: A batch.
            value: What `frozen_part` gave for these samples.

        Raises:
            InputError: If these are of another width than those it was tuned on.
        """
        if value is None:
            combined = self._layered(inputs) if self.method.layered else self._combine(*self._parts(inputs))
        elif self.prefix is None:
            combined = value
        else:
            with self.prefix.replay(value):
                combined = self._combine(*self._parts(stand_in(inputs)))
        if combined.shape[1] != self.head.in_features:
            raise InputError(
                f"The features have {combined.shape[1]} columns, but the head was tuned on {self.head.in_features}. Give data of that form."
            )
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
        heads = [self.head, *([] if self.project is None else [self.project])]
        modules = heads if self.method.head is None else []
        modules += [self.base.get_submodule(name) for name in self._trained_modules()]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if self.method.parameters is not None:
            parameters += self.method.parameters(self.base)
        for parameter in parameters:
            parameter.requires_grad_(True)

    def _parts(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        self._mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
        require_room(self.base, inputs)
        self._caught, self._counts = {}, {}
        try:
            call(self.base, inputs)
            caught = self._caught
        finally:
            # The base also runs alone, to compute the frozen part: then nothing is caught.
            self._caught = None
        silent = [part for part in self._points if part not in caught]
        if silent:
            raise InputError(f"The layer {silent[0]} never runs in the forward pass. Choose another.")
        self._read = caught
        parts = [caught[part] for part in self._points]
        row = torch.cat(parts, dim=1) if "&" in self.feature.layer else torch.stack(parts).mean(dim=0)
        return row if len(parts) > 1 else parts[0], caught.get("skip")

    def _catch_features(self, example: Inputs) -> None:
        """Hooks on what gives the feature; a classifier gives way to a stand-in without weights."""
        for name, vacant in _vacant(self.base, self.feature.heads, example).items():
            self.base.set_submodule(name, vacant)
        self._points = re.split(r"[+&]", self.feature.layer)
        for point in self._points:
            layer, _, number = point.partition("#")
            module = self.base.get_submodule(layer.removesuffix(INPUT))
            catch = self._catcher(point, self.feature.pool, int(number or 1))
            if layer.endswith(INPUT):
                module.register_forward_pre_hook(
                    lambda module, args, keywords, catch=catch: catch(module, (), args or list(keywords.values())),
                    with_kwargs=True,
                )
            else:
                module.register_forward_hook(catch)

    def _in_order(self, example: Inputs) -> tuple[str, ...]:
        """The blocks as the forward pass enters them, which need not be the order in which the network lists them."""
        entered: list[str] = []

        def enter(name: str) -> None:
            if self._caught is not None and all(point in self._caught for point in self._points):
                raise InputError(f"The block {name} comes after the feature, so that training it changes nothing.")
            entered.append(name)

        handles = [
            self.base.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: enter(name))
            for name in self.plan.blocks
        ]
        try:
            with torch.no_grad():
                self._parts(example)
        finally:
            for handle in handles:
                handle.remove()
        unused = sorted(set(self.plan.blocks) - set(entered))
        if unused:
            raise InputError(f"The block {unused[0]} is never used in the forward pass. Choose another layer.")
        return tuple(dict.fromkeys(entered))

    def _catcher(
        self, name: str, pool: Pool, number: int = 1, *, layer: str | None = None
    ) -> Callable[[nn.Module, Any, Any], None]:
        """A hook that keeps what a module gives in one of its calls, reduced to one row per sample, under a name or that of the layer."""
        layer = name if layer is None else layer

        def catch(module: nn.Module, args: Any, output: Any) -> None:
            if self._caught is None:
                return
            self._counts[name] = count = self._counts.get(name, 0) + 1
            if count == number:
                self._caught[name] = self._pooled(output, pool, layer, module)

        return catch

    def _reader(self, name: str, pool: Pool) -> Callable[[nn.Module, Any, Any], None]:
        """The same for a layer beside the feature, where it gives features."""
        catch = self._catcher(f"{name}|{pool}", pool, layer=name)

        def read(module: nn.Module, args: Any, output: Any) -> None:
            with contextlib.suppress(InputError):
                catch(module, args, output)

        return read

    def _layered(self, inputs: Inputs) -> Tensor:
        """The feature and the layers beside it, each tamed, side by side; perhaps averaged with those of the mirror image."""
        images = [inputs, mirror(inputs)] if self.plan.mirror and has_mirror(inputs) else [inputs]
        rows: list[Tensor] = []
        for image in images:
            row, _ = self._parts(image)
            beside = [self._read[f"{name}|{pool}"] for name, pool in itertools.product(self.layers, self.pools)]
            rows.append(torch.cat([tame(part) for part in (row, *beside)], dim=1))
        return torch.stack(rows).mean(dim=0)

    def _pooled(self, output: Any, pool: Pool, layer: str, module: nn.Module) -> Float[Tensor, "n d"]:
        tensor = main_tensor(output)
        if tensor is None or not 2 <= tensor.ndim <= 4:
            shape = type(output).__name__ if tensor is None else tuple(tensor.shape)
            raise InputError(
                f"The layer {layer or OUTPUT} gives {shape}, no feature vector per sample. Choose another."
            )
        return pool_output(tensor, pool, self._mask, layer, module, layout=self.feature.layout)

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
    """The mean of the probabilities of several tuned networks, or their weighted product where a method says so; its outputs are their
    logarithms.

    Args:
        parts: Networks with the same classes.
        weights: Powers of their probabilities, which are multiplied; empty for the mean. By default those of the method with these parts.

    Example:
        >>> network, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.ones(2, 4)
        >>> parts = [TunedModel(network, Plan("linear-probe"), classes=2, example=inputs) for _ in range(2)]
        >>> parts[1].head.bias.data[0] = math.log(3)  # certain to 3/4; a new head knows nothing: 1/2
        >>> Average(*parts).eval()(inputs)[0].exp().round(decimals=3).tolist()
        [0.625, 0.375]
    """

    def __init__(self, *parts: TunedModel, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.weights = tuple(weights_of([part.plan.method for part in parts]) if weights is None else weights)

    def forward(self, inputs: Inputs) -> Float[Tensor, "n K"]:
        """Logarithms of the averaged class probabilities."""
        logarithms = [part(inputs).log_softmax(dim=1) for part in self.parts]
        if self.weights:
            weighed = [weight * rows for weight, rows in zip(self.weights, logarithms, strict=True)]
            return torch.stack(weighed).sum(dim=0).log_softmax(dim=1)
        return torch.stack(logarithms).logsumexp(dim=0) - math.log(len(self.parts))


class _Vacant(nn.Module):
    """In the place of a classifier: zeros of the form that it gave, whatever the network does with them.

    Where an input and its output had sides of the same length, they have so again. What else the network asks of its classifier
    (``head.weight.dtype``), that one answers; its weights are no part of the tuned network.
    """

    def __init__(self, head: nn.Module, given: Sequence[int], gave: Sequence[int]) -> None:
        super().__init__()
        self._head = (head.requires_grad_(False),)
        alike = given if len(given) == len(gave) else given[:1]
        self.shape = [None if axis < len(alike) and alike[axis] == side else side for axis, side in enumerate(gave)]

    def forward(self, inputs: Tensor) -> Tensor:
        """As many rows as there are inputs."""
        shape = [inputs.shape[axis] if side is None else side for axis, side in enumerate(self.shape)]
        # Its own memory: what follows may write into it.
        return inputs.new_zeros(shape)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_head" not in vars(self):  # while it is copied
                raise
            return getattr(self._head[0], name)

    def named_parameters(self, *args: Any, **keywords: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the classifier, to whom asks this module alone."""
        return self._head[0].named_parameters(*args, **keywords)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Vacant":
        self._head[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _vacant(base: nn.Module, heads: Sequence[str], example: Inputs) -> dict[str, _Vacant]:
    """A stand-in for each classifier."""
    found: dict[str, _Vacant] = {}

    def look(name: str, inputs: Any, output: Any) -> None:
        given, gave = main_tensor(inputs), main_tensor(output)
        assert given is not None and gave is not None
        found[name] = _Vacant(base.get_submodule(name), given.shape, gave.shape)

    handles = [
        base.get_submodule(name).register_forward_hook(
            lambda module, args, keywords, output, name=name: look(name, args or list(keywords.values()), output),
            with_kwargs=True,
        )
        for name in heads
    ]
    try:
        with torch.no_grad():
            call(base, example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def in_float32(network: nn.Module) -> nn.Module:
    """A network in another precision as float32: half of it overflows in training, rounds small steps away, and the head has float32."""
    other = any(weight.is_floating_point() and weight.dtype != torch.float32 for weight in network.parameters())
    return network.float() if other else network


def not_finite_because(network: nn.Module) -> str:
    """What to do where a network gives NaN or infinite numbers: half precision has often left them in its weights."""
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return (
                f"The weight {name} holds NaN or infinite numbers, as half precision (float16) makes them of what is beyond 65,504. Take a "
                "checkpoint in float32 or bfloat16."
            )
    return "Check the inputs for NaN, or lower `rate`."


def _zeros(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer that starts at zero: tuning starts at the network without the skip, and no random number is drawn."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)
    assert isinstance(layer, nn.Linear)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
