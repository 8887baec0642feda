"""Features and log probabilities of tuned networks over stored samples or a split, and the head that the probe gives."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lowdim._preprocessing import Preprocessing
from lowdim.data import Split, batches
from lowdim.errors import InputError
from lowdim.finetuning._prefix import Prefix
from lowdim.finetuning._store import Store
from lowdim.finetuning._tuned import TunedModel
from lowdim.metrics import variability
from lowdim.probe import LinearProbe, ProbeResult, fit_probe
from lowdim.statistics import ClassStatistics, between_span, span_scatter

BATCH = 64
_NEVER = -30.0
"""Logit of a class without training samples."""


def stored_features(
    model: TunedModel, store: Store, prefix: Prefix | None = None, indices: np.ndarray | None = None, view: int = 0
) -> Float[np.ndarray, "n d"]:
    """What the head sees, for stored samples.

    Args:
        model: In evaluation mode.
        store: Its values enter at `prefix`.
        prefix: None where the store holds inputs.
        indices: Positions; all by default.
        view: Which view.
    """
    indices = np.arange(len(store)) if indices is None else indices
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(indices), BATCH):
            batch = store.batch(indices[start : start + BATCH], view)
            rows.append(model.features(batch.inputs, prefix, batch.value).float().cpu().numpy())
    return np.concatenate(rows)


def split_outputs(
    model: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "n d"] | None]:
    """Log probabilities of a split, by the plain forward pass, and the features where there is one network.

    Args:
        model: A `TunedModel` or an `Average` of some.
        split: The samples.
        preprocessing: The network's.
        batch_size: Samples per forward pass.
        progress: Called with (samples done, samples in all).

    Returns:
        ``n x K``, natural logarithms; and ``n x d``, or None for an average.

    Example:
        >>> from lowdim.data import load_data
        >>> from lowdim.finetuning import Plan
        >>> from lowdim.models import load_model
        >>> network, test = load_model("digits-0-4"), load_data("digits", limit=20)["test"]
        >>> model = TunedModel(network.module, Plan("linear-probe"), classes=10, example=torch.zeros(2, 1, 8, 8)).eval()
        >>> logarithms, features = split_outputs(model, test, network.preprocessing)
        >>> np.allclose(np.exp(logarithms).sum(axis=1), 1), features.shape
        (True, (20, 24))
    """
    device = next(model.parameters()).device
    logarithms: list[Tensor] = []
    features: list[Tensor] = []
    with torch.inference_mode():
        for inputs, _, _ in batches(split, preprocessing, batch_size=batch_size):
            inputs = {k: v.to(device) for k, v in inputs.items()} if isinstance(inputs, dict) else inputs.to(device)
            if isinstance(model, TunedModel):
                features.append(model.features(inputs))
                logits = model.head(features[-1])
            else:
                logits = model(inputs)
            logarithms.append(
                logits.double().log_softmax(dim=1).cpu()
                if device.type != "mps"
                else logits.cpu().double().log_softmax(1)
            )
            if progress is not None:
                progress(sum(map(len, logarithms)), len(split))
    return torch.cat(logarithms).numpy(), torch.cat(features).float().cpu().numpy() if features else None


def set_head(head: nn.Linear, probe: LinearProbe) -> None:
    """Puts a probe's weights into a head.

    Args:
        head: Of the same widths.
        probe: Fitted to what the head sees.
    """
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(probe.weight))
        head.bias.copy_(torch.from_numpy(np.maximum(probe.bias, _NEVER)))


def probe_head(
    model: TunedModel, features: np.ndarray, labels: np.ndarray, seed: int, class_weights: Tensor | None = None
) -> ProbeResult:
    """Fits the cross-validated probe to features and makes it the model's head.

    Args:
        model: Its head changes.
        features: What the head sees, ``n x d``.
        labels: ``n``.
        seed: Of the folds.
        class_weights: Of the loss, one per class.
    """
    weights = None if class_weights is None else class_weights.double().cpu().numpy()
    result = fit_probe(features, labels, classes=model.head.out_features, class_weights=weights, seed=seed)
    set_head(model.head, result.probe)
    return result


def nc1(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: int) -> float | None:
    """NC1 of features (pooled, not divided by K); None where it has no value (one sample per class, classes that coincide).

    Args:
        features: ``n x d``.
        labels: ``n``.
        classes: ``K``; absent ones are left out.
    """
    rows, y = torch.from_numpy(features), torch.from_numpy(labels)
    try:
        statistics = ClassStatistics.from_samples(rows, y, classes=classes, scatter="none").without_empty()
        _, y = torch.unique(y, return_inverse=True)
        return variability(statistics, span_scatter(rows, y, statistics, between_span(statistics))).value
    except InputError:
        return None
