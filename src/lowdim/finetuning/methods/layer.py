"""One block, or several."""

from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="layer",
    title="one block and the head",
    reads=("layer",),
    exports=("torch", "onnx", "checkpoint", "peft"),
)
