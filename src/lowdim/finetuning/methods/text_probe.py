"""Text features as in ``zero-shot``, drawn towards the labels as far as cross-validation finds that better."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lowdim.finetuning.methods import zero_shot

if TYPE_CHECKING:
    import numpy as np

    from lowdim.finetuning._bench import Bench
    from lowdim.finetuning._tuned import TunedModel


def _head(model: "TunedModel", bench: "Bench", indices: "np.ndarray") -> None:
    from lowdim.finetuning._evaluate import stored_features
    from lowdim.finetuning._zero_shot import set_text_head
    from lowdim.probe import draw_towards_labels

    weights, _ = draw_towards_labels(
        zero_shot.text_weights(bench).astype(float),
        stored_features(model.eval(), bench.store(model), indices).astype(float),
        bench.labels[indices],
        class_weights=bench.weights_of_classes(indices),
        copies=bench.train.copies[indices],
        seed=bench.job.seed,
    )
    set_text_head(model, weights)


METHOD = replace(
    zero_shot.METHOD,
    name="text-probe",
    title="the text features of `zero-shot`, drawn towards the labels",
    head=_head,
)
