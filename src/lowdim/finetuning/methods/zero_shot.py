"""Classification without labels: images are compared with a sentence about each class (Radford et al. 2021, arXiv 2103.00020)."""

from typing import TYPE_CHECKING

from lowdim.finetuning.methods._method import Method

if TYPE_CHECKING:
    from lowdim.finetuning._bench import Bench
    from lowdim.finetuning._tuned import TunedModel


def _head(model: "TunedModel", bench: "Bench") -> None:
    from lowdim.finetuning._zero_shot import encode_classes, read_text_features, set_text_head

    if bench.text_features is not None:
        weights = read_text_features(bench.text_features, bench.classes)
    else:
        weights = encode_classes(bench.network, bench.class_names, bench.prompts)
    set_text_head(model, weights)


METHOD = Method(
    name="zero-shot",
    title="nothing: the head holds one text feature per class",
    reads=("prompts", "text_features"),
    recipe=None,
    own_output=True,
    head=_head,
    exports=("torch", "onnx"),
)
