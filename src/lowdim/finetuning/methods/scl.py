"""Skip connection layer fine-tuning (Li et al. 2022, arXiv 2212.12206)."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="scl",
    title="the same, and the block's output is added to the last feature (a skip to the head)",
    reads=("layer", "combine"),
    exports=("torch", "onnx"),
)
