"""One forward pass, watched: which modules ran, and from which tensors each tensor was computed.

Every operation gives a `Value`, linked to the values that it was computed from. A module is a pair of values, what goes in and
what comes out, so that questions about a network ("which layer made this output?") become walks over values instead of guesses by
names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from lowdim.features import INPUT, Inputs, call

_SMALL = 50_000
_TO_LAST = {"addmm", "mm", "linear", "matmul", "native_layer_norm", "embedding"}
"""Operations that leave channels on the last axis."""


@dataclass(eq=False, slots=True)
class Value:
    """One version of a tensor.

    Attributes:
        operation: Name of the operation that made it; empty for inputs and weights.
        parents: What it was computed from.
        data: Whether it depends on the network's inputs.
        shape: Of the tensor.
        module: Name of the innermost module that was running.
        channels: The axis of the channels, where the operations on the way tell.
        tensor: Itself, where it is small.
        starts: Layers (``NAME:input``) that it goes into.
        ends: Layers (``NAME``) that give it, innermost first.
    """

    operation: str
    parents: tuple["Value", ...]
    data: bool
    shape: tuple[int, ...]
    module: str
    channels: int | None = None
    tensor: Tensor | None = None
    starts: list[str] = field(default_factory=list[str])
    ends: list[str] = field(default_factory=list[str])

    def before(self) -> list["Value"]:
        """The parents that depend on the inputs, each once."""
        return list(dict.fromkeys(parent for parent in self.parents if parent.data))


@dataclass(frozen=True)
class Trace:
    """What one forward pass did.

    Attributes:
        output: What the network returned.
        value: By tensor of the output.
        ran: Names of the modules in the order in which they were entered.
        maps: Heights times widths of the maps that convolutions gave.
        tokens: Length of the last sequence ``n x t x d`` that a module gave; 0 without one.
        channels: As of `lowdim.features.Layout`.
        filled: As of `lowdim.features.Layout`.
        apart: Modules that do not give one row per sample, but sequences ``t x n x d``, or windows and patches as samples.
    """

    output: Any
    values: WeakTensorKeyDictionary
    ran: tuple[str, ...]
    maps: tuple[int, ...]
    tokens: int
    channels: dict[str, int]
    filled: bool
    apart: frozenset[str]


def trace(module: nn.Module, inputs: Inputs) -> Trace:
    """Runs a network in evaluation mode and watches it."""
    watch = _Watch(module, len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs))
    for tensor in inputs.values() if isinstance(inputs, dict) else [inputs]:
        watch.values[tensor] = Value("", (), True, tuple(tensor.shape), "")
    # Scripted parts take no hooks; their operations are seen all the same.
    watched = [child for child in watch.names if not isinstance(child, torch.jit.ScriptModule)]
    handles = [child.register_forward_pre_hook(watch.enter, with_kwargs=True) for child in watched]
    handles += [child.register_forward_hook(watch.leave) for child in watched]
    try:
        with torch.no_grad(), watch:
            output = call(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Trace(
        output,
        watch.values,
        tuple(dict.fromkeys(watch.ran)),
        tuple(watch.maps),
        watch.tokens,
        watch.channels,
        watch.filled,
        frozenset(watch.apart),
    )


class _Watch(TorchDispatchMode):
    def __init__(self, module: nn.Module, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.values = WeakTensorKeyDictionary()
        self.ran: list[str] = []
        self.maps: list[int] = []
        self.tokens = 0
        self.channels: dict[str, int] = {}
        self.filled = False
        self.apart: set[str] = set()
        self.names = {child: name for name, child in module.named_modules()}
        self._open: list[tuple[str, str]] = []
        self._calls: dict[str, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return (
            False  # else PyTorch imports its compiler, a second and a half, only to keep it away from the method below
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        parents = tuple(self._value(tensor) for tensor in tensors_of((args, kwargs or {})))
        output = func(*args, **(kwargs or {}))
        data = any(parent.data for parent in parents)
        name, module = func.overloadpacket.__name__, self._open[-1][0] if self._open else ""
        for tensor in tensors_of(output):
            kept = tensor if tensor.numel() <= _SMALL else None
            axis = _channels(name, args, parents, tuple(tensor.shape)) if data else None
            self.values[tensor] = Value(name, parents, data, tuple(tensor.shape), module, axis, kept)
        if name == "constant_pad_nd" and data and output.ndim == 2 and not output.is_floating_point():
            self.filled = True
        if name == "convolution" and data and output.ndim == 4:
            self.maps.append(output.shape[2] * output.shape[3])
        return output

    def _value(self, tensor: Tensor) -> Value:
        if tensor not in self.values:
            self.values[tensor] = Value("", (), False, tuple(tensor.shape), "")
        return self.values[tensor]

    def _placed(self, tensor: Tensor, layer: str) -> Value:
        """The value of a layer, whose channels are noted where they are not in their usual place."""
        value = self._value(tensor)
        if value.channels is not None and (len(value.shape), value.channels) in ((3, 1), (4, 3)):
            self.channels[layer] = value.channels
        return value

    def enter(self, module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        name = self.names[module]
        self._calls[name] = number = self._calls.get(name, 0) + 1
        again = "" if number == 1 else f"#{number}"
        self._open.append((name, again))
        self.ran.append(name)
        for tensor in tensors_of(args or tuple(keywords.values()))[:1]:
            self._placed(tensor, f"{name}{INPUT}{again}").starts.append(f"{name}{INPUT}{again}")

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        name, again = self._open.pop()
        for tensor in tensors_of(output)[:1]:
            value = self._placed(tensor, f"{name}{again}")
            value.ends.append(f"{name}{again}")
            if name and tensor.ndim == 3 and tensor.shape[1] > 1 and value.channels != 1:
                self.tokens = tensor.shape[1]
            if tensor.shape[:1] != (self.samples,):
                self.apart.add(name)


def _channels(operation: str, args: Sequence[Any], parents: Sequence[Value], shape: tuple[int, ...]) -> int | None:
    """The axis of the channels in what an operation gives; None where it cannot be told."""
    if operation == "convolution":
        return 1
    weighted = any(not parent.data for parent in parents)
    if operation in ("bmm", "matmul") and not weighted and parents[1].channels == len(parents[1].shape) - 1:
        # Rows summed with weights that depend on the sample.
        return len(shape) - 1
    if operation in _TO_LAST or (operation in ("bmm", "baddbmm") and weighted):
        return len(shape) - 1
    before = next((parent for parent in parents if parent.channels is not None), None)
    if before is None or before.channels is None:
        return None
    axis, old = before.channels, before.shape
    if operation == "permute":
        return [number % len(old) for number in args[1]].index(axis)
    if operation in ("transpose", "t"):
        swapped = [number % len(old) for number in args[1:]] or [1, 0]
        return swapped[1 - swapped.index(axis)] if axis in swapped else axis
    if len(shape) == len(old):
        return axis if operation == "cat" or shape[axis] == old[axis] else None
    # Dimensions came, went or were joined: those before the channels are as they were, or those after them.
    if shape[: axis + 1] == old[: axis + 1]:
        return axis
    behind = len(old) - axis
    return len(shape) - behind if shape[-behind:] == old[axis:] else None


def tensors_of(tree: Any) -> list[Tensor]:
    """All tensors in tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def ancestors(value: Value) -> Iterator[Value]:
    """All values that a value was computed from, itself first."""
    seen, open_ = {id(value)}, [value]
    while open_:
        current = open_.pop()
        yield current
        for parent in current.parents:
            if parent.data and id(parent) not in seen:
                seen.add(id(parent))
                open_.append(parent)
