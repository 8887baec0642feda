"""The last projection, compared with text features as in ``zero-shot``, drawn towards the labels (arXiv 2410.05270)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lowdim.errors import InputError
from lowdim.finetuning.methods import zero_shot

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from lowdim.finetuning._bench import Bench
    from lowdim.finetuning._tuned import TunedModel
    from lowdim.models import Feature


def _blocks(module: "nn.Module", feature: "Feature | None") -> tuple[str, ...]:
    """The linear layer that reads the feature; without one known, the last linear layer."""
    from torch import nn

    from lowdim.models import INPUT

    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    name = feature.layer.removesuffix(INPUT) if feature is not None else next(reversed(linear), "")
    if name not in linear or (feature is not None and not feature.layer.endswith(INPUT)):
        raise InputError(
            f"{type(module).__name__} does not end in one linear projection, which alone would be trained. Choose another method."
        )
    return (name,)


def _head(model: "TunedModel", bench: "Bench", indices: "np.ndarray") -> None:
    import torch
    from torch import nn

    from lowdim.finetuning._evaluate import stored_features
    from lowdim.finetuning._plan import Plan
    from lowdim.finetuning._tuned import TunedModel
    from lowdim.finetuning._zero_shot import set_text_head
    from lowdim.probe import draw_projection

    texts = zero_shot.text_weights(bench).astype(float)
    set_text_head(model, texts)
    layer = model.base.get_submodule(model.blocks[0])
    assert isinstance(layer, nn.Linear)
    parts = {name: part.detach().cpu().double().numpy() for name, part in layer.named_parameters()}
    reader = TunedModel(bench.network.module, Plan("linear-probe"), 2, bench.example, feature=bench.feature).eval()
    inputs = stored_features(reader, bench.store(reader), indices).astype(float)
    drawn, _ = draw_projection(
        parts["weight"],
        inputs,
        texts,
        bench.labels[indices],
        bias=parts.get("bias"),
        class_weights=bench.weights_of_classes(indices),
        copies=bench.train.copies[indices],
        seed=bench.job.seed,
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(drawn))


METHOD = replace(
    zero_shot.METHOD,
    name="text-projection",
    title="the last projection, with the text features of `zero-shot` as head",
    blocks=_blocks,
    head=_head,
)
