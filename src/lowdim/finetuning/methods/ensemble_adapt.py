"""The average of a probe and a network that was trained as a whole: it loses little where that learned too much of few samples."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="ensemble-adapt",
    title="probe and `adapt`, probabilities averaged",
    parts=("probe", "adapt"),
    exports=("torch", "onnx"),
)
