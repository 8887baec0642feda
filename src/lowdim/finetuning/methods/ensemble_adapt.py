"""A probe and a network that was trained as a whole: together they lose little where that learned too much of few samples.

Their geometric mean gained more accuracy and log loss than the powers .7 and .4 on training parts of MNIST, CIFAR-10 and textures.
"""

from lowdim.finetuning.methods._method import Method

EARLIER_WEIGHTS = (0.7, 0.4)
"""Of deltas that do not hold their own."""
METHOD = Method(
    name="ensemble-adapt",
    title="probe and `adapt`, probabilities multiplied",
    parts=("probe", "adapt"),
    weights=(0.5, 0.5),
    exports=("torch", "onnx"),
)
