"""The frozen head: penultimate feature and second half of the blocks, each tamed, their weights by evidence."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="probe",
    title="a new head on several frozen layers, weighted by evidence",
    layered=True,
    recipe=None,
    exports=("torch", "onnx"),
)
