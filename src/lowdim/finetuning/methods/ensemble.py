"""The average of a probe and a block: where few samples cannot tell the two apart, choosing loses more than it gains."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="ensemble",
    title="probe and `scl`, probabilities averaged",
    reads=("layer", "combine"),
    parts=("probe", "scl"),
    exports=("torch", "onnx"),
)
