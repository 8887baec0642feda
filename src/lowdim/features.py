"""Features of a network by layer name: forward hooks that reduce a layer's output while it is there.

The reduction happens inside the hook, because a following in-place activation changes the tensor afterwards. A module that
is called several times in one forward pass gives several layers: ``relu``, ``relu#2``, …
"""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim.errors import InputError, UsageError, did_you_mean

__all__ = ["Recorder", "recording", "reduce_output"]

Pool = Literal["avg", "flatten", "cls", "mean"]
POOLS: tuple[Pool, ...] = ("avg", "flatten", "cls", "mean")
INPUT = ":input"


def reduce_output(
    output: Any, pool: Pool, mask: Tensor | None, layer: str, module: nn.Module | None = None
) -> Float[Tensor, "n d"]:
    """One row per sample from a layer's output; always a new tensor.

    Args:
        output: ``n x d``, a map ``n x c x h x w``, tokens ``n x t x d``, or a tuple or dictionary whose first tensor is one.
        pool: ``"avg"`` averages a map over space and tokens over those that are not padding; ``"mean"`` is the same for
            tokens; ``"cls"`` takes the first token; ``"flatten"`` keeps everything.
        mask: ``n x t``, 1 for tokens that are not padding.
        layer: For the error message.
        module: The layer, to tell maps ``n x h x w x c`` from ``n x c x h x w``; without it maps are the latter.

    Raises:
        InputError: If the output is no tensor of one of these shapes, or the pooling does not go with it.

    Example:
        >>> reduce_output(torch.arange(8.0).reshape(1, 2, 2, 2), "avg", None, "conv").tolist()  # a map with two channels
        [[1.5, 5.5]]
    """
    if isinstance(output, dict):
        output = next(iter(output.values()), None)
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    if not isinstance(output, Tensor) or output.ndim < 2 or not output.is_floating_point():
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"The layer {layer} gives {shape}, not floating-point features with one row per sample. Choose another."
        )
    output = output.detach() if module is None else channels_first(output.detach(), module)
    if output.ndim == 2:
        return output.clone()
    if pool == "flatten":
        return output.flatten(1).clone()
    if output.ndim == 3:
        if pool == "cls":
            return output[:, 0].clone()
        if mask is None or mask.shape != output.shape[:2]:
            return output.mean(dim=1)
        weights = mask.to(output.dtype).unsqueeze(2)
        # Sums of many tokens overflow float16 and lose the count in bfloat16.
        wide = torch.promote_types(output.dtype, torch.float32)
        mean = (output * weights).sum(dim=1, dtype=wide) / weights.sum(dim=1, dtype=wide)
        return mean.to(output.dtype)
    if pool in ("cls", "mean"):
        raise InputError(
            f"The layer {layer} gives maps of shape {tuple(output.shape[1:])}, not tokens. Use --pool avg or flatten."
        )
    return output.flatten(2).mean(dim=2)


def channels_first(output: Tensor, module: nn.Module) -> Tensor:
    """A map ``n x h x w x c`` (Swin and its kin) as ``n x c x h x w``; anything else as it is.

    Nothing in a tensor says where its channels are. The normalisations and linear layers of the module that made it do: they
    have the width of the channels.

    Args:
        output: Of any shape.
        module: The layer that gave it.
    """
    if output.ndim != 4:
        return output
    widths = {
        child.normalized_shape[-1] if isinstance(child, nn.LayerNorm) else child.out_features
        for child in module.modules()
        if isinstance(child, nn.LayerNorm | nn.Linear)
    }
    convolutions = {child.out_channels for child in module.modules() if isinstance(child, nn.Conv2d)}
    last = output.shape[3] in widths and output.shape[1] not in widths | convolutions
    return output.permute(0, 3, 1, 2) if last else output


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
        layers: Names as in ``module.named_modules()``; ``NAME:input`` means what goes into NAME.
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
            handle = (
                modules[name].register_forward_pre_hook(_input_hook(recorder, layer), with_kwargs=True)
                if layer.endswith(INPUT)
                else modules[name].register_forward_hook(_output_hook(recorder, layer))
            )
            stack.callback(handle.remove)
        try:
            module.eval()
            yield recorder
        finally:
            for name, child in modules.items():
                child.training = modes[name]


def _output_hook(recorder: Recorder, layer: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        recorder.catch(layer, output, module)

    return hook


def _input_hook(recorder: Recorder, layer: str) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        recorder.catch(layer, inputs or list(keywords.values()), module)

    return hook


def run_forward(module: nn.Module, inputs: Tensor | dict[str, Tensor], device: torch.device) -> Tensor | None:
    """One forward pass without gradients; the network's output if it is a tensor (or holds logits), else None."""
    with torch.inference_mode():
        if isinstance(inputs, dict):
            output = module(**{name: tensor.to(device) for name, tensor in inputs.items()})
        else:
            output = module(inputs.to(device))
    output = getattr(output, "logits", output)
    return output if isinstance(output, Tensor) else None
