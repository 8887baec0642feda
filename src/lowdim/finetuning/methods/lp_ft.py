"""Linear probing, then fine-tuning (Kumar et al. 2022, arXiv 2202.10054)."""

from lowdim.finetuning._recipe import Recipe, epochs_for
from lowdim.finetuning.methods._method import Method


def _recipe(samples: int, classes: int) -> Recipe:
    return Recipe(rate=3e-4, head_rate=3e-4, epochs=epochs_for(samples))


METHOD = Method(
    name="lp-ft",
    title="the probe first, then everything at a small rate",
    reads=("batch_norm",),
    recipe=_recipe,
    whole=True,
    also=True,
    many=50,
)
