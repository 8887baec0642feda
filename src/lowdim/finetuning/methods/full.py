"""Everything, from a new head."""

from lowdim.finetuning._recipe import Recipe, epochs_for
from lowdim.finetuning.methods._method import Method


def _recipe(samples: int, classes: int) -> Recipe:
    return Recipe(rate=3e-4, head_rate=1e-3, epochs=epochs_for(samples), from_probe=False)


METHOD = Method(
    name="full",
    title="everything",
    reads=("batch_norm",),
    recipe=_recipe,
    whole=True,
    also=True,
)
