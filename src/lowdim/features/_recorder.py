"""Features of a network by layer name: forward hooks that reduce a layer's output while it is there.

The reduction happens inside the hook, because a following in-place activation changes the tensor afterwards. A module that
is called several times in one forward pass gives several layers: ``relu``, ``relu#2``, …
"""

import contextlib
import re
import sys
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim.data._batches import Inputs
from lowdim.errors import InputError, LowdimError, UsageError, did_you_mean, is_out_of_memory
from lowdim.features._pooling import INPUT, USUAL, Layout, Pool, main_tensor, reduce_output


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

    def __init__(self, pools: Mapping[str, Sequence[Pool]]) -> None:
        self.pools = {layer: tuple(chosen) for layer, chosen in pools.items()}
        self.mask: Tensor | None = None
        self.layout = USUAL
        self.fired: set[str] = set()
        self._calls: dict[str, int] = {}
        self._caught: dict[tuple[str, Pool], Tensor] = {}

    def catch(self, point: str, layers: Sequence[str], output: Any, module: nn.Module) -> None:
        """Reduces and keeps one output of a module, or one input to it, for the layers that it is one of."""
        self._calls[point] = number = self._calls.get(point, 0) + 1
        name = point if number == 1 else f"{point}#{number}"
        for layer in layers:
            if layer == point or name in _parts(layer):
                self.fired.add(layer)
                for pool in self.pools[layer]:
                    self._caught[name, pool] = reduce_output(output, pool, self.mask, name, module, layout=self.layout)

    def take(self) -> dict[tuple[str, Pool], Float[Tensor, "n d"]]:
        """The features by (layer, pooling) in the order of computation, and forgets them."""
        caught, self._caught, self._calls = self._caught, {}, {}
        for layer, pools in self.pools.items():
            for pool in pools if len(_parts(layer)) > 1 and caught else ():
                parts = [caught.pop((part, pool)) for part in _parts(layer)]
                caught[layer, pool] = torch.cat(parts, dim=1) if "&" in layer else torch.stack(parts).mean(dim=0)
        return caught


def _parts(layer: str) -> list[str]:
    return re.split(r"[+&]", layer)


@contextlib.contextmanager
def recording(
    module: nn.Module, layers: Sequence[str], *, pools: Sequence[Pool] | Mapping[str, Sequence[Pool]] = ("avg",)
) -> Generator[Recorder]:
    """Catches the features of the named layers in every forward pass inside the block.

    The module runs in evaluation mode and is left as it was found: hooks removed and modes restored, also after an exception.

    Args:
        module: Any network.
        layers: Names as in ``module.named_modules()``; ``NAME:input`` means what goes into NAME, and ``""`` the network's output.
            ``NAME#2`` is its second call alone. Names joined by ``+`` are averaged, joined by ``&`` concatenated.
        pools: One or more reductions, each giving its own features; or those of each layer.

    Raises:
        UsageError: If a layer does not exist.
        InputError: At the end of the block, if the network ran and a layer did not.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with recording(network, ["0", "1"]) as recorder, torch.no_grad():
        ...     _ = network(torch.ones(5, 2))
        >>> {layer: tuple(features.shape) for (layer, _), features in recorder.take().items()}
        {'0': (5, 3), '1': (5, 3)}
    """
    modules = dict(module.named_modules())
    recorder = Recorder(pools if isinstance(pools, Mapping) else dict.fromkeys(layers, pools))
    modes = {name: child.training for name, child in modules.items()}
    points: dict[str, list[str]] = {}
    for layer in layers:
        for part in _parts(layer):
            points.setdefault(part.partition("#")[0], []).append(layer)
    with contextlib.ExitStack() as stack:
        for point, wanted in points.items():
            name = point.removesuffix(INPUT)
            if name not in modules:
                raise UsageError(f"The network has no layer {name!r}. {did_you_mean(name, [n for n in modules if n])}")
            stack.callback(_hook(modules[name], recorder, point, wanted).remove)
        ran: list[nn.Module] = []
        stack.callback(module.register_forward_hook(lambda module, args, output: ran.append(module)).remove)
        try:
            module.eval()
            yield recorder
        finally:
            for name, child in modules.items():
                child.training = modes[name]
    silent = [layer for layer in layers if layer not in recorder.fired]
    if ran and silent:
        raise InputError(
            f"The layer {silent[0]} never runs in the forward pass of {type(module).__name__}. Choose another."
        )


def _hook(module: nn.Module, recorder: Recorder, point: str, layers: Sequence[str]) -> Any:
    def before(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        recorder.catch(point, layers, inputs or list(keywords.values()), module)

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        recorder.catch(point, layers, output, module)

    if point.endswith(INPUT):
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def recorded(
    module: nn.Module, layer: str, inputs: Inputs, pools: Sequence[Pool], layout: Layout = USUAL
) -> dict[Pool, Float[Tensor, "n d"]]:
    """The features of one layer for one batch, by pooling."""
    with recording(module, [layer], pools=pools) as recorder:
        recorder.mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
        recorder.layout = layout
        with torch.no_grad():
            call(module, inputs)
        caught = recorder.take()
    return {pool: caught[layer, pool] for pool in pools}


def call(network: nn.Module, inputs: Inputs) -> Any:
    """The network's output for a tensor, or for named tensors (tokens). Floating-point numbers go in as the type of its weights, and
    whole ones as floats into a network without any.

    Raises:
        InputError: If the network's code fails on these inputs.
    """
    if not isinstance(inputs, dict) and inputs.is_floating_point():
        weights = (weight.dtype for weight in network.parameters() if weight.ndim > 1 and weight.is_floating_point())
        inputs = inputs.to(next(weights, inputs.dtype))
    elif not isinstance(inputs, dict) and next(network.parameters(), None) is None:  # which looks nothing up
        inputs = inputs.float()
    # PyTorch's fused attention rounds differently and gives way to the plain one as soon as a hook is there.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _uncompiled():
            return network(**inputs) if isinstance(inputs, dict) else network(inputs)
    except (Exception, SystemExit) as error:
        if isinstance(error, LowdimError) or is_out_of_memory(error) or torch.compiler.is_exporting():
            raise
        raise _refused(inputs, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _uncompiled() -> contextlib.AbstractContextManager[Any]:
    """What `torch.compile` made of parts of a network knows no hooks of later: the parts themselves run."""
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


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


@contextlib.contextmanager
def samples_named(start: int, stop: int) -> Generator[None]:
    """Says in an error which samples a network was given."""
    try:
        yield
    except InputError as error:
        raise InputError(f"At samples {start} to {stop - 1}: {error}") from error


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs on a device."""
    if isinstance(inputs, dict):
        return {name: tensor.to(device) for name, tensor in inputs.items()}
    return inputs.to(device)


def run_forward(module: nn.Module, inputs: Inputs, device: torch.device) -> Tensor | None:
    """One forward pass without gradients; the network's output if it is a tensor (or holds logits), else None."""
    with torch.inference_mode():
        output = call(module, moved(inputs, device))
    return main_tensor(output)
