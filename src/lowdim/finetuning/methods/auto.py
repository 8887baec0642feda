"""The choice between a probe, a block and their average, by cross-validation."""

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
    title="`scl` where cross-validation finds it clearly better than the probe, else `ensemble`",
    reads=("layer", "combine", "rank", "also"),
    decide=_decide,
    exports=("torch", "onnx"),
)
