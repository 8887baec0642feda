"""The cross-validated linear probe on the frozen network."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="linear-probe",
    title="a new head only",
    recipe=None,
    exports=("torch", "onnx", "checkpoint", "peft"),
)
