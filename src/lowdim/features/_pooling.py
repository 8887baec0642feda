"""From a layer's output to one row per sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeGuard, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lowdim.errors import InputError

Pool = Literal["avg", "flatten", "cls", "mean", "last", "map"]
POOLS: tuple[Pool, ...] = get_args(Pool)
INPUT = ":input"
"""``NAME:input`` is what goes into the module NAME; ``NAME`` alone is what comes out."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of patches and the channels are in what the layers of a network give.

    Attributes:
        prefix: Class and register tokens before those of the patches, which no mean holds.
        tokens: Length of the sequences that begin with them.
        channels: The axis of the channels, by layer, where that is the second of a signal ``n x c x t`` or the last of a map
            ``n x h x w x c``.
        filled: Whether the network fills texts up on their right, beyond the mask that it is given (to a multiple of its window).
    """

    prefix: int = 0
    tokens: int = 0
    channels: Mapping[str, int] = field(default_factory=dict[str, int])
    filled: bool = False

    def patches(self, tokens: Tensor) -> Tensor:
        """Tokens ``n x t x d`` without the prefix; a class token may join late: the patches before it have the length without."""
        # Without one, nothing may depend on the length of a sequence: exports are for any.
        late = self.prefix and tokens.shape[1] + self.prefix == self.tokens
        return tokens if late else tokens[:, self.prefix :]


USUAL = Layout()
_ANSWERS = ("logits", "out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores")
_BESIDE = ("aux", "loss")
"""What the names of outputs begin with that are not what a network is for."""


def main_tensor(output: Any) -> Tensor | None:
    """The tensor that an output is about: its logits, or the last map of several sizes, or else the first tensor with samples.

    Args:
        output: A tensor, or tuples, lists, dictionaries, dataclasses or objects with ``logits`` that hold some.

    Returns:
        None where there is none.

    Example:
        >>> maps = [torch.zeros(2, 4, 8, 8), torch.zeros(2, 8, 4, 4)]
        >>> [tuple(main_tensor(output).shape) for output in (maps, {"aux": maps[1], "out": maps[0]}, (maps[1], maps[0][:, 0]))]
        [(2, 8, 4, 4), (2, 4, 8, 8), (2, 8, 4, 4)]
    """
    if isinstance(output, Tensor):
        return output
    if is_dataclass(output) and not isinstance(output, Mapping):
        output = {entry.name: getattr(output, entry.name) for entry in fields(output)}
    if isinstance(output, Mapping):
        output = [output[name] for name in sorted(output, key=_order)]
        return next((tensor for part in output if _has_samples(tensor := main_tensor(part))), None)
    if isinstance(output, tuple | list):
        found = [tensor for tensor in map(main_tensor, output) if _has_samples(tensor)]
        sides = [tensor.shape[2:] for tensor in found if tensor.ndim == 4]
        pyramid = len(found) == len(output) == len(set(sides)) > 1
        return found[-1 if pyramid else 0] if found else None
    return main_tensor(getattr(output, "logits", None)) if hasattr(output, "logits") else None


def _has_samples(tensor: Tensor | None) -> TypeGuard[Tensor]:
    return tensor is not None and tensor.ndim > 0


def _order(name: Any) -> int:
    """Names of answers in their order, then others, then what is not what a network is for."""
    known = _ANSWERS.index(name) if name in _ANSWERS else len(_ANSWERS)
    return known + str(name).startswith(_BESIDE)


def reduce_output(
    output: Any,
    pool: Pool,
    mask: Tensor | None,
    layer: str,
    module: nn.Module | None = None,
    *,
    layout: Layout = USUAL,
) -> Float[Tensor, "n d"]:
    """One row per sample from whatever a layer gives, cut off from the graph; always a new tensor.

    Args:
        output: What `pool_output` takes, or what holds one (`main_tensor`).
        pool: As of `pool_output`.
        mask: The same.
        layer: As of `pool_output`.
        module: The layer, to tell maps ``n x h x w x c`` from ``n x c x h x w``; without it maps are the latter.
        layout: As of `pool_output`.

    Raises:
        InputError: If the output is no tensor of one of these shapes, or the pooling does not go with it.

    Example:
        >>> reduce_output(torch.arange(8.0).reshape(1, 2, 2, 2), "avg", None, "conv").tolist()  # a map with two channels
        [[1.5, 5.5]]
    """
    found = main_tensor(output)
    if found is None or found.ndim < 2 or not found.is_floating_point():
        shape = tuple(found.shape) if found is not None else type(output).__name__
        raise InputError(
            f"The layer {layer or 'output'} gives {shape}, not floating-point features with one row per sample. Choose another."
        )
    rows = pool_output(found.detach(), pool, mask, layer, module, layout=layout)
    shared = rows.untyped_storage().data_ptr() == found.untyped_storage().data_ptr()
    return rows.clone() if shared else rows


def pool_output(
    output: Tensor,
    pool: Pool,
    mask: Tensor | None,
    layer: str,
    module: nn.Module | None = None,
    *,
    layout: Layout = USUAL,
) -> Float[Tensor, "n d"]:
    """One row per sample from a floating-point output; gradients flow through it.

    Sums are taken in float32 at least: those of many tokens overflow float16 and lose the count in bfloat16.

    Args:
        output: ``n x d``, which is passed on; a map ``n x c x h x w``; or tokens ``n x t x d``.
        pool: ``"avg"`` averages a map over space and tokens over those that are neither padding nor in the prefix; ``"mean"`` is the
            same for tokens; ``"cls"`` takes the first token, ``"last"`` the last one that is not padding; ``"flatten"`` keeps
            everything; ``"map"`` says that the network has pooled by its own attention.
        mask: ``n x t``, 1 for tokens that are not padding.
        layer: Its name, for the layout and the error message.
        module: The layer, to find the channels of its maps where the layout does not say.
        layout: Where tokens and channels are.

    Raises:
        InputError: If the pooling does not go with the output.

    Example:
        >>> tokens, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])
        >>> [pool_output(tokens, pool, mask, "block").item() for pool in ("mean", "cls", "last")]
        [2.0, 1.0, 3.0]
    """
    if layer in layout.channels and (output.ndim == 4 or pool != "flatten"):
        output = output.movedim(layout.channels[layer], 2 if output.ndim == 3 else 1)
    elif module is not None:
        output = _channels_first(output, module, inputs=INPUT in layer)
    if output.ndim == 2:
        return output
    if pool == "flatten":
        return output.flatten(1)
    if pool == "map":
        raise InputError(
            f"The layer {layer or 'output'} is not pooled by an attention of the network's own. Choose another `pool`."
        )
    if output.ndim == 3:
        if mask is not None and layout.filled and output.shape[1] > mask.shape[1]:
            mask = nn.functional.pad(mask, (0, output.shape[1] - mask.shape[1]))
        mask = mask if mask is not None and mask.shape == output.shape[:2] else None
        return _pool_tokens(output if pool in ("cls", "last") else layout.patches(output), pool, mask)
    if pool != "avg":
        raise InputError(
            f'The layer {layer or "output"} gives maps of shape {tuple(output.shape[1:])}, not tokens. Use `pool="avg"` or `pool="flatten"`.'
        )
    return output.flatten(2).mean(dim=2, dtype=_wide(output)).to(output.dtype)


def _pool_tokens(tokens: Float[Tensor, "n t d"], pool: Pool, mask: Tensor | None) -> Float[Tensor, "n d"]:
    if pool == "cls":
        return tokens[:, 0]
    if mask is None:
        return tokens[:, -1] if pool == "last" else tokens.mean(dim=1, dtype=_wide(tokens)).to(tokens.dtype)
    weights = mask.to(tokens.dtype).unsqueeze(2)
    if pool == "last":
        # The mask's running count reaches its end at the last token; a sample without any has none: NaN, as its mean.
        end = mask.long().cumsum(dim=1).argmax(dim=1)
        rows = torch.arange(len(tokens), device=tokens.device)
        return tokens[rows, end] / weights[rows, end]
    wide = _wide(tokens)
    return ((tokens * weights).sum(dim=1, dtype=wide) / weights.sum(dim=1, dtype=wide)).to(tokens.dtype)


def tame(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Signed square root, then unit length: the heavy tails of activations count less. A row of zeros stays one.

    Args:
        features: Of one layer; half precision becomes float32.

    Example:
        >>> tame(torch.tensor([[9.0, -16.0]])).tolist()
        [[0.6000000238418579, -0.800000011920929]]
    """
    wide = features.to(_wide(features))
    return nn.functional.normalize(wide.sign() * wide.abs().sqrt(), dim=1)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _channels_first(output: Tensor, module: nn.Module, *, inputs: bool) -> Tensor:
    """A map ``n x h x w x c`` (Swin and its kin) as ``n x c x h x w``; anything else as it is.

    Nothing in a tensor says where its channels are. The normalisations and linear layers of the module that made it, or takes it,
    do: they have the width of the channels.
    """
    if output.ndim != 4:
        return output
    widths = {
        child.normalized_shape[-1]
        if isinstance(child, nn.LayerNorm)
        else (child.in_features if inputs else child.out_features)
        for child in module.modules()
        if isinstance(child, nn.LayerNorm | nn.Linear)
    }
    convolutions = {
        child.in_channels if inputs else child.out_channels
        for child in module.modules()
        if isinstance(child, nn.Conv2d)
    }
    last = output.shape[3] in widths and output.shape[1] not in widths | convolutions
    return output.permute(0, 3, 1, 2) if last else output
