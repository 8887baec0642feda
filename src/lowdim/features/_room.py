"""Whether a forward pass would fit into memory, from the shapes alone, before it is made."""

import copy
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lowdim._memory import GIB, available_bytes
from lowdim.errors import ResourceError

_LARGE = 2**22
"""Numbers in a batch from which on its pass is looked at first."""
_PER_TOKEN = 64
"""A token is one number going in, and many inside."""
_ABOVE = 1.25
"""Of kernels, which rearrange what they read."""
_asked: "weakref.WeakKeyDictionary[nn.Module, set[Any]]" = weakref.WeakKeyDictionary()


class _Network(Protocol):
    def __call__(self, *args: Any, **keywords: Any) -> Any: ...


def require_room(network: nn.Module, inputs: Tensor | dict[str, Tensor]) -> None:
    """Refuses a batch whose pass through a network needs more than the memory that is available now.

    Small batches and devices other than the CPU are not looked at, nor are networks whose code cannot run without values.

    Raises:
        ResourceError: With both numbers, and the batch that would fit.
    """
    if torch.compiler.is_compiling():  # which also an export is: there a comparison would bind the number of samples
        return
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    numbers = sum(one.numel() * (1 if one.is_floating_point() else _PER_TOKEN) for one in named.values())
    first = next(iter(named.values()))
    if numbers < _LARGE or first.device.type != "cpu":
        return
    shapes = tuple((name, tuple(one.shape)) for name, one in named.items())
    form = (shapes, torch.is_grad_enabled(), sum(weight.requires_grad for weight in network.parameters()))
    if form in (asked := _asked.setdefault(network, set())):
        return
    asked.add(form)
    needed, available = peak_bytes(network, inputs), available_bytes()
    if needed is None or available is None or needed <= available:
        return
    asked.discard(form)
    samples = len(first)
    fitting = int(samples * available / needed)
    ways = [f"`batch_size={fitting}`"] if fitting and samples > 2 else []
    ways += ["a smaller `image_size`"] if first.ndim == 4 else []
    shown = ", ".join(f"{name} {' x '.join(map(str, shape))}".strip() for name, shape in shapes)
    raise ResourceError(
        f"A pass of the network over inputs of shape {shown} needs {needed / GIB:.1f} GiB of memory, but {available / GIB:.1f} GiB are "
        f"available. Use {' or '.join(ways) or 'shorter inputs'}."
    )


def peak_bytes(network: nn.Module, inputs: Tensor | dict[str, Tensor]) -> int | None:
    """What a pass takes at its fullest above inputs and weights, with gradients where they are enabled; None where the network's code
    needs values.

    Example:
        >>> network = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 1))
        >>> with torch.no_grad():
        ...     peak_bytes(network, torch.zeros(1000, 10))  # 1000 x 101 numbers, and a quarter more
        505000
    """
    held = (*network.parameters(), *network.buffers())
    empty = {id(one): _empty(one) for one in held}
    try:
        double: _Network = copy.deepcopy(network, dict(empty))
        for module in double.modules():  # pyright: ignore[reportAttributeAccessIssue]
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._forward_hooks_with_kwargs):
                hooks.clear()
            module._forward_pre_hooks_with_kwargs.clear()
        named = {name: _empty(one) for name, one in inputs.items()} if isinstance(inputs, dict) else {}
        rows = () if isinstance(inputs, dict) else (_empty(inputs).to(_dtype(held, inputs)),)
        with _Fused(), _Counted([*empty.values(), *named.values(), *rows]) as counted:
            double(*rows, **named)
    except Exception:
        return None  # whatever other people's code does without values
    return round(_ABOVE * counted.peak)


def _dtype(held: Sequence[Tensor], inputs: Tensor) -> torch.dtype:
    """As `call` gives floating-point numbers to a network."""
    floats = inputs.is_floating_point()
    return next((one.dtype for one in held if floats and one.ndim > 1 and one.is_floating_point()), inputs.dtype)


def _empty(tensor: Tensor) -> Tensor:
    """The same without values, or memory."""
    made = torch.empty_like(tensor, device="meta")
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


class _Fused(TorchFunctionMode):
    """Attention in the memory that the kernel for CPUs takes, which never holds all pairs of tokens."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            return named["query"] @ (named["key"].transpose(-2, -1) @ named["value"])
        return func(*args, **(kwargs or {}))


class _Counted(TorchDispatchMode):
    """Adds up the memory of what operations give while something holds it, beside what is there."""

    def __init__(self, there: Sequence[Tensor]) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: dict[int, Any] = {id(one): one for one in (tensor.untyped_storage() for tensor in there)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in `lowdim.models._trace`

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.held)
        return output

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def free(gone: Any) -> None:
            self.held -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, free)
        self.held += size
