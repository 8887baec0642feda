"""A ladder: the probe, and only where it may pay a block, everything, and their averages with the probe, by cross-validation."""

from typing import TYPE_CHECKING

from lowdim.finetuning._plan import Options
from lowdim.finetuning.methods._method import Decision, Method

if TYPE_CHECKING:
    from lowdim.finetuning._bench import Bench


def _decide(bench: "Bench", options: Options) -> Decision:
    from lowdim.finetuning._choice import decide

    return decide(bench, options)


METHOD = Method(
    name="auto",
    title="`probe`, and where training may pay `scl`, `ensemble` or `ensemble-adapt` if cross-validation finds them clearly better",
    reads=("layer", "combine", "rank", "also", "minutes"),
    decide=_decide,
    exports=("torch", "onnx"),
)
