"""Recipes: how long and how fast to train, by number of images. Chosen on parts of training sets. Needs no torch."""

import math
from dataclasses import dataclass

ENOUGH = 12
"""Samples per class from which a block gained from moving further: so at 20, not yet at 10."""
FEWEST_STEPS = 100
"""Of any training in batches of the default size: 25 images in 30 epochs would be 30 steps, from which a new head has not learned."""


@dataclass(frozen=True)
class Recipe:
    """AdamW with a warm-up and a cosine decay to zero.

    Attributes:
        rate: Largest learning rate of the trained blocks.
        head_rate: Largest learning rate of the head (and of the ``project`` skip).
        epochs: Passes over the data.
        batch_size: Samples per step.
        weight_decay: Decoupled, on matrices only.
        warmup: Share of the steps in which the rate rises from zero.
        from_probe: Start the head from the cross-validated probe instead of zero.
        temperature: The probe's logits are divided by it at the start. A probe that separates the training samples leaves hardly
            a gradient; a softer one lets the blocks move further.
        softening: The logits are divided by it at the end: what was trained for long on few samples is surer than it is right.
    """

    rate: float
    head_rate: float
    epochs: int
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.2
    from_probe: bool = True
    temperature: float = 1.0
    softening: float = 1.0

    def factor(self, step: int, steps: int) -> float:
        """The share of the largest rate at a step.

        Example:
            >>> recipe = Recipe(rate=1.0, head_rate=1.0, epochs=1, warmup=0.5)
            >>> [round(recipe.factor(step, 8), 2) for step in (0, 3, 4, 7)]
            [0.25, 1.0, 1.0, 0.15]
        """
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def epochs_for(samples: int) -> int:
    """Few samples get more epochs."""
    steps_per_epoch = max(1, samples // Recipe.batch_size)
    return max(12, min(30, round(6000 / samples)), math.ceil(FEWEST_STEPS / steps_per_epoch))


def block_recipe(samples: int, classes: int) -> Recipe:
    """For a block and the head."""
    epochs = epochs_for(samples)
    if samples >= ENOUGH * classes:
        return Recipe(rate=1e-3, head_rate=1e-3, epochs=epochs, temperature=3.0)
    return Recipe(rate=1e-3, head_rate=3e-4, epochs=epochs)


def steady_recipe(samples: int, classes: int) -> Recipe:
    """For few parameters all over the network: one rate, whatever the number of samples."""
    return Recipe(rate=1e-3, head_rate=1e-3, epochs=epochs_for(samples))
