"""Features of a network by layer name: forward hooks that reduce a layer's output while it is there.

The reduction happens inside the hook, because a following in-place activation changes the tensor afterwards. A module that
is called several times in one forward pass gives several layers: ``relu``, ``relu#2``, …
"""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim.data._batches import Inputs
from lowdim.errors import InputError, LowdimError, UsageError, did_you_mean, is_out_of_memory
from lowdim.features._pooling import Pool, reduce_output

INPUT = ":input"
"""``NAME:input`` is what goes into the module NAME; ``NAME`` alone is what comes out."""


class Recorder:
    """What the hooks of `recording` caught in the last forward pass.

    Example:
        >>> network = nn.Sequential(nn.Identity(), nn.Flatten())
        >>> with recording(network, ["0"], pools=["avg", "flatten"]) as recorder, torch.no_grad():
        ...     _ = network(torch.ones(5, 2, 4, 4))
        >>> {pool: tuple(features.shape) for (_, pool), features in recorder.take().items()}
        {'avg': (5, 2), 'flatten': (5, 32)}
        >>> recorder.take()
        {}
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        self.mask: Tensor | None = None
        self._calls: dict[str, int] = {}
        self._caught: dict[tuple[str, Pool], Tensor] = {}

    def catch(self, layer: str, output: Any, module: nn.Module) -> None:
        """Reduces and keeps one output of a module, or one input to it."""
        self._calls[layer] = self._calls.get(layer, 0) + 1
        name = layer if self._calls[layer] == 1 else f"{layer}#{self._calls[layer]}"
        for pool in self.pools:
            self._caught[name, pool] = reduce_output(output, pool, self.mask, name, module)

    def take(self) -> dict[tuple[str, Pool], Float[Tensor, "n d"]]:
        """The features by (layer, pooling) in the order of computation, and forgets them."""
        caught, self._caught, self._calls = self._caught, {}, {}
        return caught


@contextlib.contextmanager
def recording(module: nn.Module, layers: Sequence[str], *, pools: Sequence[Pool] = ("avg",)) -> Generator[Recorder]:
    """Catches the features of the named layers in every forward pass inside the block.

    The module runs in evaluation mode and is left as it was found: hooks removed and modes restored, also after an exception.

    Args:
        module: Any network.
        layers: Names as in ``module.named_modules()``; ``NAME:input`` means what goes into NAME, and ``""`` the network's output.
        pools: One or more reductions, each giving its own features.

    Raises:
        UsageError: If a layer does not exist.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with recording(network, ["0", "1"]) as recorder, torch.no_grad():
        ...     _ = network(torch.ones(5, 2))
        >>> {layer: tuple(features.shape) for (layer, _), features in recorder.take().items()}
        {'0': (5, 3), '1': (5, 3)}
    """
    modules = dict(module.named_modules())
    recorder = Recorder(pools)
    modes = {name: child.training for name, child in modules.items()}
    with contextlib.ExitStack() as stack:
        for layer in layers:
            name = layer.removesuffix(INPUT)
            if name not in modules:
                raise UsageError(f"The network has no layer {name!r}. {did_you_mean(name, [n for n in modules if n])}")
            stack.callback(_hook(modules[name], recorder, layer).remove)
        try:
            module.eval()
            yield recorder
        finally:
            for name, child in modules.items():
                child.training = modes[name]


def _hook(module: nn.Module, recorder: Recorder, layer: str) -> Any:
    def before(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        recorder.catch(layer, inputs or list(keywords.values()), module)

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        recorder.catch(layer, output, module)

    if layer.endswith(INPUT):
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def call(network: nn.Module, inputs: Inputs) -> Any:
    """The network's output for a tensor, or for named tensors (tokens).

    Raises:
        InputError: If the network's code fails on these inputs.
    """
    # PyTorch's fused attention rounds differently and gives way to the plain one as soon as a hook is there.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return network(**inputs) if isinstance(inputs, dict) else network(inputs)
    except (Exception, SystemExit) as error:
        if isinstance(error, LowdimError) or is_out_of_memory(error) or torch.compiler.is_exporting():
            raise
        raise _refused(inputs, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _refused(inputs: Inputs, error: BaseException) -> InputError:
    """The error for code of a network that fails on its inputs."""
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    shapes = ", ".join(f"{name} {' x '.join(map(str, tensor.shape))}".strip() for name, tensor in named.items())
    why = " ".join(str(error).split()) or "no reason given"
    images = not isinstance(inputs, dict) and inputs.ndim == 4
    remedy = "another `image_size`" if images else "data of the form it was made for"
    return InputError(
        f"The network fails on inputs of shape {shapes}: {type(error).__name__}: {why[:300]}. Try {remedy}, or another network."
    )


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs on a device."""
    if isinstance(inputs, dict):
        return {name: tensor.to(device) for name, tensor in inputs.items()}
    return inputs.to(device)


def run_forward(module: nn.Module, inputs: Inputs, device: torch.device) -> Tensor | None:
    """One forward pass without gradients; the network's output if it is a tensor (or holds logits), else None."""
    with torch.inference_mode():
        output = call(module, moved(inputs, device))
    output = getattr(output, "logits", output)
    return output if isinstance(output, Tensor) else None
