"""Everything, from a soft probe, at a rate that grows with the samples: for data unlike what the network was trained on."""

from lowdim.finetuning._recipe import Recipe, epochs_for
from lowdim.finetuning.methods._method import Method

_RATE, _OF = 3e-4, 5.0
"""At so many samples per class; it grows with their root, to `_FASTEST`."""
_FASTEST = 1e-3


def _recipe(samples: int, classes: int) -> Recipe:
    rate = min(_FASTEST, _RATE * (samples / classes / _OF) ** 0.5)
    return Recipe(rate=rate, head_rate=rate, epochs=epochs_for(samples), temperature=10.0, softening=2.0)


METHOD = Method(
    name="adapt",
    title="as `lp-ft`, from a softer probe and at a larger rate",
    reads=("batch_norm",),
    recipe=_recipe,
    whole=True,
)
