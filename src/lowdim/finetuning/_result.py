"""What fine-tuning gives: a network, and what is known about it; saved as a delta that is verified."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lowdim._preprocessing import Preprocessing
from lowdim.data import Split
from lowdim.finetuning._choice import Evidence
from lowdim.finetuning._compress import compress
from lowdim.finetuning._delta import save_delta, tuned_parts, verify_delta
from lowdim.finetuning._evaluate import accuracy_of, split_outputs
from lowdim.finetuning._prefix import Inputs
from lowdim.finetuning._update import Update
from lowdim.models import LoadedModel
from lowdim.probe import Known

_ALLOWED = 0.002
"""Loss of accuracy for which updates are stored in low rank."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A fine-tuned network and what is known about it.

    Attributes:
        model: In evaluation mode: `TunedModel`, or `Average` of two for an ensemble.
        method: What was done (never ``"auto"``).
        layer: Trained blocks, None where there are none.
        evidence: Cross-validated on the training split, for ``auto``.
        reasons: Why this method, and which differences are ties.
        accuracy: ``train`` and, where there is a test split, ``test`` with its 90 % Wilson ``interval``.
        per_class: Name, samples and accuracy on the test split (else on the training split).
        mistakes: The same samples: how many of each class were taken for which (``confusion``), and the wrong ones of which the
            network was surest (``mistakes``); ``judged`` names the split.
        nc1: Of the penultimate feature (for an ensemble: of the block's network), ``train`` and ``test``.
        updates: One entry per trained matrix.
        known: What the training samples look like, by which `lowdim predict` finds samples that are unlike all of them; None where the
            base was trained, too.
        layers: Where ``auto`` tried a block of its own choice: ``name``, ``nc1`` and ``nc1_chance`` of every layer before tuning, on the training
            samples. Information, by which nothing is chosen: no collapse number finds a better block than 3/4 of the depth.
        trained_parameters, total_parameters: Of the tuned network with its new head.
        history: Of the training loops, by part; with ``test_accuracy`` and ``test_nc1`` where they were watched.
        cache: Bytes and seconds of the stored prefixes.
        warnings: What a reader must know.
        columns: Of the table it was tuned on, see `lowdim.data.Dataset`.

    Example:
        >>> from lowdim.data import load_data
        >>> from lowdim.finetuning import finetune
        >>> from lowdim.models import load_model
        >>> network, data = load_model("digits-0-4"), load_data("digits-5-9", shots=5, limit=100)
        >>> tuned = finetune(network, data, method="linear-probe")
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tuned.save(Path(folder), network)["verified"]
        True
    """

    model: nn.Module = field(repr=False)
    method: str
    layer: str | None
    evidence: Sequence[Evidence]
    reasons: Sequence[str]
    accuracy: dict[str, Any]
    per_class: Sequence[dict[str, Any]]
    mistakes: dict[str, Any]
    nc1: dict[str, float | None]
    updates: Sequence[Update]
    known: Known | None = field(repr=False)
    layers: Sequence[dict[str, Any]]
    trained_parameters: int
    total_parameters: int
    history: dict[str, dict[str, Any]]
    cache: dict[str, float]
    warnings: Sequence[str]
    columns: Mapping[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    example: Inputs = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        seconds = [value for part in self.history.values() for value in part["seconds"]]
        shares = [update.share for update in self.updates if update.share is not None]
        return {
            "method": self.method,
            "layer": self.layer,
            "evidence": [entry.as_dict() for entry in self.evidence],
            "layers": list(self.layers),
            "reasons": list(self.reasons),
            "accuracy": self.accuracy,
            "per_class": list(self.per_class),
            **self.mistakes,
            "nc1": self.nc1,
            "update": {
                "rank": max((update.rank for update in self.updates), default=None),
                "share_in_initial_subspace": float(np.mean(shares)) if shares else None,
                "share_by_chance": float(np.mean([u.chance for u in self.updates])) if shares else None,
                "matrices": [asdict(update) for update in self.updates],
            },
            "feature": tuned_parts(self.model)[0].feature.as_dict(),
            "trained_parameters": self.trained_parameters,
            "total_parameters": self.total_parameters,
            "trained_share": self.trained_parameters / self.total_parameters,
            "seconds_per_epoch": float(np.mean(seconds)) if seconds else None,
            "history": self.history,
            "cache": self.cache,
            "warnings": list(self.warnings),
        }

    def save(self, folder: Path, network: LoadedModel, fresh: nn.Module | None = None) -> dict[str, Any]:
        """Saves the delta and verifies it bit for bit on a fresh base.

        Args:
            folder: For the delta.
            network: The base.
            fresh: The base loaded anew; the network's own module otherwise.

        Returns:
            Path, bytes and ``verified: True``.

        Raises:
            InputError: If the delta does not give the tuned network back.
        """
        return self._saved(folder, network, fresh)

    def save_compressed(
        self, folder: Path, network: LoadedModel, heldout: Split, fresh: nn.Module | None = None
    ) -> dict[str, Any]:
        """Saves the delta with its updates in low rank, if that costs at most 0.2 points on held-out data; else as it is.

        Args:
            folder: For the delta.
            network: The base.
            heldout: What the comparison is made on.
            fresh: The base loaded anew; the network's own module otherwise.

        Returns:
            As `save`, and ``compressed``, ``full_bytes``, ``accuracy_change``.
        """
        full = self.save(folder, network, fresh)
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        accuracy = self._accuracy_on(heldout)
        factors = [compress(part, self._there(network.module)) for part in tuned_parts(self.model)]
        change = self._accuracy_on(heldout) - accuracy
        if change < -_ALLOWED or not any(factors):
            self.model.load_state_dict(before)
            return {**full, "compressed": False, "full_bytes": full["bytes"], "accuracy_change": change}
        compressed = self._saved(folder, network, fresh, factors)
        return {**compressed, "compressed": True, "full_bytes": full["bytes"], "accuracy_change": change}

    def _saved(
        self,
        folder: Path,
        network: LoadedModel,
        fresh: nn.Module | None,
        factors: Sequence[Mapping[str, Tensor]] = (),
    ) -> dict[str, Any]:
        size = save_delta(
            self.model,
            network.module,
            folder,
            method=self.method,
            classes=self.classes,
            preprocessing=self.preprocessing,
            example=self.example,
            name=network.name,
            source=network.source,
            notes={"accuracy": self.accuracy, "columns": dict(self.columns)},
            factors=factors,
            known=self.known,
        )
        verify_delta(self.model, self._there(fresh or network.module), folder, self.example)
        return {"path": str(folder), "bytes": size, "verified": True}

    def _there(self, module: nn.Module) -> nn.Module:
        return module.to(next(self.model.parameters()).device)

    def _accuracy_on(self, split: Split) -> float:
        return accuracy_of(split_outputs(self.model, split, self.preprocessing)[0], split.labels)
