"""Fine-tuning from end to end: choose, train, measure, save and verify."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from lowdim._intervals import wilson_interval
from lowdim._preprocessing import Preprocessing
from lowdim._processes import Processes
from lowdim.data import Dataset, Split
from lowdim.errors import LowdimError, UsageError, did_you_mean
from lowdim.finetuning._bench import Bench, Fitted
from lowdim.finetuning._choice import ALSO, Evidence, auto_plan, choose_method, gather_evidence
from lowdim.finetuning._compress import compress
from lowdim.finetuning._delta import save_delta, tuned_parts, verify_delta
from lowdim.finetuning._evaluate import nc1, split_outputs
from lowdim.finetuning._plan import METHODS, BatchNorm, Combine, Method, Plan, make_plan
from lowdim.finetuning._prefix import Inputs
from lowdim.finetuning._track import OnEpoch
from lowdim.finetuning._tuned import Average
from lowdim.finetuning._update import Update
from lowdim.finetuning._zero_shot import PROMPT
from lowdim.models import LoadedModel
from lowdim.profiling import profile

Asked = Literal["auto", "ensemble", Method]
ASKED: tuple[str, ...] = ("auto", "ensemble", *METHODS)


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
        nc1: Of the penultimate feature (for an ensemble: of the block's network), ``train`` and ``test``.
        updates: One entry per trained matrix.
        layers: Where the block was left to ``auto``: ``name``, ``nc1`` and ``nc1_chance`` of every layer before tuning, on the training
            samples. Information, by which nothing is chosen: no collapse number finds a better block than 3/4 of the depth.
        trained_parameters, total_parameters: Of the tuned network with its new head.
        history: Of the training loops, by part; with ``test_accuracy`` and ``test_nc1`` where they were watched.
        cache: Bytes and seconds of the stored prefixes.
        warnings: What a reader must know.

    Example:
        >>> from lowdim.data import load_data
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
    nc1: dict[str, float | None]
    updates: Sequence[Update]
    layers: Sequence[dict[str, Any]]
    trained_parameters: int
    total_parameters: int
    history: dict[str, dict[str, Any]]
    cache: dict[str, float]
    warnings: Sequence[str]
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
            "nc1": self.nc1,
            "update": {
                "rank": max((update.rank for update in self.updates), default=None),
                "share_in_initial_subspace": float(np.mean(shares)) if shares else None,
                "share_by_chance": float(np.mean([u.chance for u in self.updates])) if shares else None,
                "matrices": [asdict(update) for update in self.updates],
            },
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
        size = self._write(folder, network)
        verify_delta(self.model, self._there(fresh or network.module), folder, self.example)
        return {"path": str(folder), "bytes": size, "verified": True}

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
        size = self._write(folder, network, factors)
        verify_delta(self.model, self._there(fresh or network.module), folder, self.example)
        return {**full, "bytes": size, "compressed": True, "full_bytes": full["bytes"], "accuracy_change": change}

    def _write(self, folder: Path, network: LoadedModel, factors: Sequence[dict[str, torch.Tensor]] = ()) -> int:
        return save_delta(
            self.model,
            network.module,
            folder,
            method=self.method,
            classes=self.classes,
            preprocessing=self.preprocessing,
            example=self.example,
            name=network.name,
            source=network.source,
            notes={"accuracy": self.accuracy},
            factors=factors,
        )

    def _there(self, module: nn.Module) -> nn.Module:
        return module.to(next(self.model.parameters()).device)

    def _accuracy_on(self, split: Split) -> float:
        return _accuracy(split_outputs(self.model, split, self.preprocessing)[0], split.labels)


MANY = 50
"""Images per class from which training everything was the best on each of the three image sets measured."""
_ALLOWED = 0.002
"""Loss of accuracy for which updates are stored in low rank."""


def finetune(
    network: LoadedModel,
    data: Dataset,
    *,
    method: Asked = "auto",
    layer: str = "auto",
    also: Sequence[Method] = (),
    combine: Combine = "pad_add",
    rank: int = 8,
    batch_norm: BatchNorm = "frozen",
    rate: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    views: int = 1,
    class_weights: bool = False,
    watch: bool = False,
    prompts: Sequence[str] = (PROMPT,),
    text_features: np.ndarray | None = None,
    cache: Path | None = None,
    cache_budget: float = 4e9,
    device: torch.device | str = "cpu",
    seed: int = 0,
    folder: Path | None = None,
    processes: Processes | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Tuned:
    """Adapts a network to the classes of a data set's training split.

    Args:
        network: From `lowdim.models.load_model`; it is left alone.
        data: From `lowdim.data.load_data`. Its test split is looked at once, at the end, unless it is watched.
        method: One of `METHODS`; ``"ensemble"`` averages the probabilities of the probe and of ``"scl"``; ``"auto"`` cross-validates
            both, and takes ``"scl"`` where it is clearly better than the probe, else their average.
        layer: Block or blocks to train, for ``"layer"``, ``"scl"``, ``"ensemble"`` and ``"auto"``; ``"auto"`` is the one at
            3/4 of the depth.
        also: Methods that ``"auto"`` cross-validates too, and takes where they are clearly better: of `ALSO`. Each costs as
            many full trainings as there are folds.
        combine: How the skip of ``"scl"`` (alone or within ``"ensemble"`` and ``"auto"``) meets the penultimate feature.
        rank: Of ``"lora"``.
        batch_norm: For ``"full"`` and ``"lp-ft"``: ``"batch"`` lets the statistics follow the batches.
        rate: Largest learning rate, instead of the recipe's.
        epochs: The same.
        batch_size: The same.
        views: Augmented views per image, stored like the image itself.
        class_weights: Weight classes by the inverse of their size.
        watch: Also measure accuracy and NC1 on the test split after every epoch, into the history. Nothing is chosen by them.
        prompts: For ``"zero-shot"``: sentences in which ``{}`` stands for the class; several are averaged.
        text_features: For ``"zero-shot"`` without a text encoder: ``K x d``, rows in the order of the classes.
        cache: For stored prefixes instead of `folder`: other calls that want them, of `rank` and `advise` too, find them there.
        cache_budget: Bytes of stored prefixes; larger ones are computed in every epoch, the least recently used deleted first.
        device: Where the network runs.
        seed: Of everything random.
        folder: For stored prefixes and states, from which the same call continues; default a temporary one. Several processes
            share that of the first.
        processes: Of the job (``torchrun``); alone by default. All of them return the same.
        progress: Called with what is being done, steps done and steps in all.
        on_epoch: Called after every epoch of the final training with the method, the epoch's number and its `History`; for
            example `tracker`. It must not change the network.

    Raises:
        UsageError: If the method or layer does not exist, or an argument does not go with the method.
        InputError: If the data cannot be used.
        NonFiniteError: If the loss is NaN from the start.

    Example:
        >>> from lowdim.data import load_data
        >>> from lowdim.models import load_model
        >>> network, data = load_model("digits-0-4"), load_data("digits-5-9", shots=5, limit=100)
        >>> tuned = finetune(network, data, method="linear-probe")
        >>> tuned.trained_parameters, tuned.accuracy["test"] > 0.2  # 24 x 5 + 5; better than chance
        (125, True)
    """
    job = processes or Processes()
    if batch_norm == "batch" and method in ("auto", "ensemble"):
        raise UsageError(
            "--batch-norm batch goes with --method full or lp-ft; other methods always keep the statistics."
        )
    if batch_norm == "batch" and job.count > 1:
        raise UsageError("With --batch-norm batch every process would have statistics of its own. Use one process.")
    if unknown := set(also) - set(ALSO):
        raise UsageError(f"auto cannot also try {min(unknown)!r}. {did_you_mean(min(unknown), ALSO)}")
    if also and method != "auto":
        raise UsageError(f"--also goes with --method auto, not {method}.")
    if watch and not len(data.splits.get("test", ())):
        raise UsageError(f"--watch measures the test split after every epoch, but {data.name} has none.")
    if method not in ASKED:
        raise UsageError(f"There is no method {method!r}. {did_you_mean(method, ASKED)}")
    with tempfile.TemporaryDirectory(prefix="lowdim-") as temporary:
        bench = Bench(
            network,
            data,
            Path(job.gather(str(folder or temporary))[0]),
            device=device,
            cache=cache,
            cache_budget=cache_budget,
            views=views,
            class_weights=class_weights,
            prompts=prompts,
            text_features=text_features,
            seed=seed,
            processes=job,
            progress=progress,
        )
        changes = {"rate": rate, "head_rate": rate, "epochs": epochs, "batch_size": batch_size}
        changes = {name: value for name, value in changes.items() if value is not None}
        evidence: list[Evidence] = []
        reasons: tuple[str, ...] = ()
        chosen: str = method
        if method == "auto":
            candidate = auto_plan(bench, layer, combine)
            evidence = gather_evidence(bench, candidate, [Plan(name, rank=rank) for name in also], changes=changes)
            choice = choose_method(evidence)
            chosen, reasons = choice.evidence.method, choice.reasons
            if "lp-ft" not in also and len(bench.labels) >= MANY * bench.classes:
                reasons += (
                    "not tried: lp-ft, which trains everything and with so many images may be a few points better (--also lp-ft)",
                )
        single = partial(make_plan, network.module, layer=layer, combine=combine, rank=rank, batch_norm=batch_norm)
        plans = [Plan("linear-probe"), single("scl")] if chosen == "ensemble" else [single(cast(Method, chosen))]
        fits: list[Fitted] = []
        for plan in plans:
            recipe = replace(bench.recipe(plan), **changes)
            watched = data["test"] if watch else None
            fits.append(bench.fit(plan, recipe=recipe, with_updates=True, watched=watched, on_epoch=on_epoch))
        layers = _layers(bench, data) if method == "auto" and layer == "auto" else []
        return _measured(bench, fits, data, chosen, evidence, reasons, layers)


def _layers(bench: Bench, data: Dataset) -> list[dict[str, Any]]:
    try:
        found = profile(
            bench.network,
            data,
            splits=("train",),
            device=bench.device,
            cache=bench.cache.folder,
            cache_budget=bench.cache.budget,
            processes=bench.processes,
            seed=bench.seed,
        )
    except LowdimError as error:
        bench.warnings.append(f"The layers before tuning could not be measured. {error}")
        return []
    return [{"name": entry.name, "nc1": entry.nc1, "nc1_chance": entry.nc1_chance} for entry in found.layers]


def _measured(
    bench: Bench,
    fits: list[Fitted],
    data: Dataset,
    method: str,
    evidence: list[Evidence],
    reasons: tuple[str, ...],
    layers: list[dict[str, Any]],
) -> Tuned:
    model: nn.Module = fits[0].model if len(fits) == 1 else Average(*(fitted.model for fitted in fits)).eval()
    last = fits[-1]
    train_logarithms = np.logaddexp.reduce([fitted.log_probabilities() for fitted in fits])
    accuracy: dict[str, Any] = {"train": _accuracy(train_logarithms, bench.labels), "test": None, "interval": None}
    values: dict[str, float | None] = {"train": nc1(last.features(), bench.labels, bench.classes), "test": None}
    logarithms, split = train_logarithms, data["train"]
    warnings = [*bench.warnings, *(f"{f.model.plan.method}: {f.history.stopped}" for f in fits if f.history.stopped)]
    if "test" in data.splits and len(data["test"]):
        split = data["test"]
        outputs = [split_outputs(fitted.model, split, bench.network.preprocessing) for fitted in fits]
        logarithms = np.logaddexp.reduce([part[0] for part in outputs])
        accuracy["test"] = _accuracy(logarithms, split.labels)
        accuracy["interval"] = list(wilson_interval(accuracy["test"], len(split)))
        features = outputs[-1][1]
        values["test"] = None if features is None else nc1(features, split.labels, bench.classes)
        unseen = sorted(set(split.labels.tolist()) - set(bench.labels.tolist()))
        if unseen:
            names = ", ".join(data.classes[label] for label in unseen[:5])
            warnings.append(f"classes of the test split without training samples, always counted as wrong: {names}")
    parts = tuned_parts(model)
    trained = sum(parameter.numel() for part in parts for parameter in part.trained().values())
    # The parts of an ensemble share the frozen base.
    total = parts[-1].parameters_in_all() + sum(p.numel() for part in parts[:-1] for p in part.trained().values())
    stores = {id(fitted.store): fitted.store for fitted in fits}.values()
    return Tuned(
        model=model,
        method=method,
        layer=", ".join(last.model.plan.blocks) or None,
        evidence=evidence,
        reasons=reasons,
        accuracy=accuracy,
        per_class=_per_class(logarithms, split.labels, data.classes),
        nc1=values,
        updates=last.updates,
        layers=layers,
        trained_parameters=trained,
        total_parameters=total,
        history={f.model.plan.method: vars(f.history) for f in fits if f.history.loss},
        cache={"bytes": sum(s.bytes for s in stores), "seconds": sum(s.seconds for s in stores)},
        warnings=warnings,
        classes=data.classes,
        preprocessing=bench.network.preprocessing,
        example=bench.example,
    )


def _accuracy(logarithms: np.ndarray, labels: np.ndarray) -> float:
    return float((logarithms.argmax(axis=1) == labels).mean())


def _per_class(logarithms: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    right = logarithms.argmax(axis=1) == labels
    return [
        {
            "name": name,
            "samples": int((labels == k).sum()),
            "accuracy": float(right[labels == k].mean()) if np.any(labels == k) else None,
        }
        for k, name in enumerate(classes)
    ]
