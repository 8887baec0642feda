"""Classification without labels: images are compared with a sentence about each class (Radford et al. 2021, arXiv 2103.00020)."""

from typing import TYPE_CHECKING

from lowdim.finetuning.methods._method import Method

if TYPE_CHECKING:
    import numpy as np

    from lowdim.finetuning._bench import Bench
    from lowdim.finetuning._tuned import TunedModel


def text_weights(bench: "Bench") -> "np.ndarray":
    """One text feature per class, from a file or by the network's text encoder, times the scale of the logits."""
    from lowdim.finetuning._zero_shot import encode_classes, read_text_features

    if bench.text_features is not None:
        return read_text_features(bench.text_features, bench.classes)
    return encode_classes(bench.network, bench.class_names, bench.prompts)


def _head(model: "TunedModel", bench: "Bench", indices: "np.ndarray") -> None:
    from lowdim.finetuning._zero_shot import set_text_head

    set_text_head(model, text_weights(bench))


METHOD = Method(
    name="zero-shot",
    title="nothing: the head holds one text feature per class",
    reads=("prompts", "text_features"),
    recipe=None,
    own_output=True,
    head=_head,
    exports=("torch", "onnx"),
)
