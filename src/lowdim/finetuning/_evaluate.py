"""Features and log probabilities of tuned networks over stored samples or a split, and the head that the probe gives."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lowdim._preprocessing import Preprocessing
from lowdim.data import Split, batches
from lowdim.data._batches import Inputs, by_length
from lowdim.errors import InputError, NonFiniteError
from lowdim.features import mirror, tame
from lowdim.finetuning._store import HeldStore, Store
from lowdim.finetuning._tuned import TunedModel
from lowdim.metrics import variability
from lowdim.probe import FrozenHead, Known, LinearProbe, fit_probe
from lowdim.statistics import ClassStatistics, between_span, span_scatter

PER_PASS = 64
"""Samples."""
_NEVER = -1e4
"""Logit of a class without training samples: finite, for training starts from it, and below all others, which sum up to about 0."""


def stored_features(
    model: TunedModel, store: Store | HeldStore, indices: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n d"]:
    """What the head of a model in evaluation mode sees, for stored samples."""
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(indices), PER_PASS):
            batch = store.batch(indices[start : start + PER_PASS])
            rows.append(batch.features(model).float().cpu().numpy())
    return np.concatenate(rows)


def averaged(parts: Sequence[Float[np.ndarray, "n K"]], weights: Sequence[float] = ()) -> Float[np.ndarray, "n K"]:
    """The logarithms of mean probabilities, or of their product, each to the power of its weight; NaN where one of them is.

    Example:
        >>> np.exp(averaged([np.log([[0.2, 0.8]]), np.log([[0.6, 0.4]])])).round(3).tolist()
        [[0.4, 0.6]]
        >>> np.exp(averaged([np.log([[0.2, 0.8]]), np.log([[0.5, 0.5]])], [1.0, 0.5])).round(3).tolist()
        [[0.2, 0.8]]
    """
    with np.errstate(invalid="ignore"):
        if weights:
            product = np.tensordot(weights, np.stack(parts), 1)
            return product - np.logaddexp.reduce(product, axis=1, keepdims=True)
        return np.logaddexp.reduce(parts) - np.log(len(parts))


def split_outputs(
    model: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int = PER_PASS,
    mirrored: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "n d"] | None]:
    """Log probabilities of a split, by the plain forward pass, and the features where there is one network.

    Args:
        model: A `TunedModel` or an `Average` of some.
        split: The samples.
        preprocessing: The network's.
        batch_size: Samples per forward pass.
        mirrored: The images turned left to right.
        progress: Called with (samples done, samples in all).

    Returns:
        ``n x K``, natural logarithms, NaN for samples whose inputs or outputs are not finite; and ``n x d``, or None for an average.

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
            inputs = mirror(inputs) if mirrored else inputs
            found = by_length(partial(_outputs, model), inputs)
            features += [found["features"]] if "features" in found else []
            logits = found["logits"]
            # MPS has no float64.
            logits = logits.cpu() if device.type == "mps" else logits
            logarithms.append(logits.double().log_softmax(dim=1).cpu())
            if not isinstance(inputs, dict):
                logarithms[-1][~torch.isfinite(inputs).flatten(1).all(dim=1).cpu()] = float("nan")
            if progress is not None:
                progress(sum(map(len, logarithms)), len(split))
    return torch.cat(logarithms).numpy(), torch.cat(features).float().cpu().numpy() if features else None


def _outputs(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    if not isinstance(model, TunedModel):
        return {"logits": model(inputs)}
    features = model.features(inputs)
    return {"features": features, "logits": model.head(features)}


def probe_head(
    model: TunedModel,
    features: np.ndarray,
    labels: np.ndarray,
    seed: int,
    class_weights: Tensor | None = None,
    copies: np.ndarray | None = None,
) -> Float[np.ndarray, "n K"]:
    """Fits the cross-validated probe to what the head sees, ``n x d``, and makes it the head; gives its held-out log probabilities."""
    weights = None if class_weights is None else class_weights.double().cpu().numpy()
    classes = model.head.out_features
    found = fit_probe(features, labels, classes=classes, class_weights=weights, copies=copies, seed=seed)
    set_head(model, found.probe)
    return found.heldout


def described(model: TunedModel, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Features that a head sees as known samples are described by: tamed, however the head sees them."""
    return features if model.method.layered else tame(torch.from_numpy(features)).numpy()


def strangeness_of(
    model: nn.Module, known: Known | None, logarithms: Float[np.ndarray, "n K"], features: np.ndarray | None
) -> Float[np.ndarray, " n"] | None:
    """How unlike the known samples each sample is, by outputs and features of `split_outputs`; None where nothing is known of them."""
    if known is None or features is None or not isinstance(model, TunedModel):
        return None
    if known.means.shape[1] != features.shape[1]:
        raise InputError(
            f"The delta describes known samples of {known.means.shape[1]} features, but the head sees {features.shape[1]}. Save it again."
        )
    return known.strangeness(described(model, features), logarithms)


def set_head(model: TunedModel, fitted: LinearProbe | FrozenHead) -> None:
    """Makes a fitted classifier the head.

    Raises:
        InputError: If the head's precision does not hold its weights.
    """
    weight = torch.from_numpy(fitted.weight).to(model.head.weight.dtype)
    if not bool(weight.isfinite().all()):
        columns = np.flatnonzero(~weight.isfinite().all(dim=0).numpy())
        raise InputError(
            f"{len(columns)} columns of the features vary so little that their weights in a classifier exceed float32 (the first, from 0: "
            f"{columns[0]}). Multiply them, or leave them out."
        )
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(torch.from_numpy(np.where(np.isneginf(fitted.bias), _NEVER, fitted.bias)))


def without_class(logarithms: Float[np.ndarray, "n K"]) -> Bool[np.ndarray, " n"]:
    """Which samples have no most probable class, because outputs or inputs are not finite."""
    return np.asarray(np.isnan(logarithms).any(axis=1))


def require_classes(logarithms: Float[np.ndarray, "n K"]) -> None:
    """Refuses outputs of which the most probable class is not known."""
    bad = np.flatnonzero(without_class(logarithms))
    if len(bad):
        raise NonFiniteError(
            f"The outputs of {len(bad)} of {len(logarithms)} samples are NaN or infinite (the first: number {bad[0]}). Check those "
            "inputs, or the network's precision."
        )


def accuracy_of(logarithms: Float[np.ndarray, "n K"], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the samples whose most probable class is theirs.

    Raises:
        NonFiniteError: If a sample has no most probable class.
    """
    return float(correct_of(logarithms, labels).mean())


def correct_of(logarithms: Float[np.ndarray, "n K"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1 where a sample's most probable class is its own, else 0; raises as `accuracy_of`."""
    require_classes(logarithms)
    return (logarithms.argmax(axis=1) == labels).astype(np.float64)


def nc1(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: int) -> float | None:
    """NC1 of features (pooled, not divided by K, absent classes left out); None where it has no value (one sample per class,
    classes that coincide)."""
    rows, y = torch.from_numpy(features), torch.from_numpy(labels)
    try:
        statistics = ClassStatistics.from_samples(rows, y, classes=classes, scatter="none").without_empty()
        _, y = torch.unique(y, return_inverse=True)
        return variability(statistics, span_scatter(rows, y, statistics, between_span(statistics))).value
    except InputError:
        return None
