"""The record of a fine-tuning method: all that is true of it alone. Needs no torch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowdim.finetuning._plan import Options, Plan
from lowdim.finetuning._recipe import Recipe, block_recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from lowdim.finetuning._bench import Bench
    from lowdim.finetuning._choice import Evidence
    from lowdim.finetuning._tuned import TunedModel
    from lowdim.models import Feature


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to fit, several networks to be averaged, and why.

    Attributes:
        method: What it is called in the end.
        plans: One per network.
        evidence: By which it was chosen, if it was.
        reasons: In words.
    """

    method: str
    plans: tuple[Plan, ...]
    evidence: "Sequence[Evidence]" = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to fine-tune. What a record leaves out is as in most methods: the blocks of the plan are trained, and a head that
    starts from the probe.

    Attributes:
        name: As users write it.
        title: What it trains; for help and reference.
        reads: Which arguments mean something to it.
        recipe: By training samples and classes; None if nothing is trained by steps. Then the base stays as it is, and what the
            head sees is computed once per sample.
        whole: All of the base is trained.
        blocks: The blocks that it trains on a network with a feature, where no option chooses them.
        parameters: Parameters of the base that are trained beside its blocks; their modules stay in evaluation mode.
        adapt: Puts new parts into the copy of the base, with a seed.
        layered: The head sees several frozen layers of one pass, tamed, and is fitted with their evidence.
        own_output: The head sees the network's own output at length one, not the penultimate feature.
        head: Gives the head its weights, and perhaps the blocks theirs, by the samples at some positions; the head then stays. By default
            it is trained.
        parts: Methods whose networks are averaged; those of ``ensemble``, a probe and a block, are what ``auto`` tries.
        weights: Of the parts, of which then the logarithms of the probabilities are added; by default the mean of the probabilities is
            taken.
        decide: Chooses what to fit by evidence.
        also: Whether ``auto`` tries it where asked to.
        many: Samples per class from which it was the best of all that were measured: ``auto`` says so where it was not tried.
        exports: The forms in which it can leave lowdim.
    """

    name: str
    title: str
    reads: tuple[str, ...] = ()
    recipe: Callable[[int, int], Recipe] | None = block_recipe
    whole: bool = False
    blocks: "Callable[[nn.Module, Feature | None], tuple[str, ...]] | None" = None
    parameters: "Callable[[nn.Module], Iterable[nn.Parameter]] | None" = None
    adapt: "Callable[[nn.Module, Plan, int], None] | None" = None
    layered: bool = False
    own_output: bool = False
    head: "Callable[[TunedModel, Bench, np.ndarray], None] | None" = None
    parts: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    decide: "Callable[[Bench, Options], Decision] | None" = None
    also: bool = False
    many: int | None = None
    exports: tuple[str, ...] = ("torch", "onnx", "checkpoint")

    @property
    def single(self) -> bool:
        """Whether it fits one network, as a plan says."""
        return not self.parts and self.decide is None
