"""Fine-tuning from end to end: choose, train, measure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lowdim._balance import balanced_accuracy, majority_warnings
from lowdim._intervals import independent, wilson_interval
from lowdim._job import CACHE_BUDGET, Job, Progress
from lowdim._processes import Processes
from lowdim.data import Dataset
from lowdim.data._copies import copy_warnings, said_without_copies
from lowdim.data._dataset import never_held_out, unseen_classes, untested_classes
from lowdim.data._kept import keeping_pictures
from lowdim.errors import LowdimError, UsageError
from lowdim.finetuning._bench import Bench, Fitted
from lowdim.finetuning._blocks import plan_of
from lowdim.finetuning._choice import evidence_of_head
from lowdim.finetuning._delta import tuned_parts
from lowdim.finetuning._evaluate import accuracy_of, averaged, correct_of, nc1, split_outputs
from lowdim.finetuning._mistakes import mistakes_of
from lowdim.finetuning._plan import BatchNorm, Combine, Options
from lowdim.finetuning._result import Tuned
from lowdim.finetuning._track import OnEpoch
from lowdim.finetuning._tuned import Average
from lowdim.finetuning._zero_shot import PROMPT
from lowdim.finetuning.methods import Decision, Method, check_options, method_named, weights_of
from lowdim.models import LoadedModel
from lowdim.profiling import profile

LARGEST_RATE = 1e30
"""Steps beyond it are no numbers in float32."""


@keeping_pictures()
def finetune(
    network: LoadedModel,
    data: Dataset,
    *,
    method: str = "auto",
    layer: str = "auto",
    also: str | Sequence[str] = (),
    minutes: float | None = None,
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
    cache_budget: float = CACHE_BUDGET,
    device: torch.device | str = "cpu",
    seed: int = 0,
    folder: Path | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
) -> Tuned:
    """Adapts a network to the classes of a data set's training split.

    Args:
        network: From `lowdim.models.load_model`; it is left alone.
        data: From `lowdim.data.load_data`. Its test split is looked at once, at the end, unless it is watched.
        method: One of `ASKED`; ``"probe"`` is a linear classifier on several frozen layers; ``"auto"`` cross-validates it, where the images
            themselves say much of what it says also together with a network of which everything was trained (``"ensemble-adapt"``), and
            where its weight lies on layers before the last ``"scl"`` and the average of the two (``"ensemble"``). It takes what is
            clearly better; a tie goes to the cheaper.
        layer: Block or blocks to train, for ``"layer"``, ``"scl"``, ``"ensemble"`` and ``"auto"``; ``"auto"`` is the one at
            3/4 of the depth.
        also: Methods that ``"auto"`` cross-validates too, and takes where they are clearly better: those that train the whole network,
            or through all of it. Each costs as many full trainings as there are folds.
        minutes: For ``"auto"``: no further training is begun for the comparison that would not end within so many.
        combine: How the skip of ``"scl"`` (alone or within ``"ensemble"`` and ``"auto"``) meets the penultimate feature.
        rank: Of ``"lora"``.
        batch_norm: For ``"full"``, ``"lp-ft"`` and ``"adapt"``: ``"batch"`` lets the statistics follow the batches.
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
    for name, value in (("rate", rate), ("epochs", epochs), ("views", views), ("rank", rank)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"`{name}` must be a number above 0, not {value}.", argument=name)
    if rate is not None and rate > LARGEST_RATE:
        raise UsageError(f"`rate` must be at most {LARGEST_RATE:g}, not {rate}.", argument="rate")
    record = method_named(method)
    also = (also,) if isinstance(also, str) else tuple(also)
    options = Options(layer=layer, combine=combine, rank=rank, batch_norm=batch_norm, also=also, minutes=minutes)
    job = Job(
        device=device,
        seed=seed,
        folder=folder,
        cache=cache,
        cache_budget=cache_budget,
        processes=processes or Processes(),
        progress=progress,
        batch_size=batch_size,
    )
    check_options(record, options)
    if batch_norm == "batch" and job.processes.count > 1:
        raise UsageError(
            'With `batch_norm="batch"` every process would have statistics of its own. Use one process.',
            argument="batch_norm",
        )
    if watch and not len(data.splits.get("test", ())):
        raise UsageError(
            f"`watch` measures the test split after every epoch, but {data.name} has none.", argument="watch"
        )
    with job.in_folder() as job:
        bench = Bench(
            network,
            data,
            job,
            views=views,
            class_weights=class_weights,
            prompts=prompts,
            text_features=text_features,
            changes={"rate": rate, "head_rate": rate, "epochs": epochs},
        )
        decision = _decision(record, bench, options)
        watched = data["test"] if watch else None
        fits = [bench.fit(plan, with_updates=True, watched=watched, on_epoch=on_epoch) for plan in decision.plans]
        looked = layer == "auto" and any(entry.layer for entry in decision.evidence)
        layers = _layers(bench, data) if looked else []
        return _measured(bench, fits, data, decision, layers)


def _decision(record: Method, bench: Bench, options: Options) -> Decision:
    if record.decide is not None:
        return record.decide(bench, options)
    parts = [method_named(part) for part in record.parts] or [record]
    plans = tuple(plan_of(part, bench.network.module, options, bench.feature) for part in parts)
    found = evidence_of_head(bench, plans[0]) if record.layered else None
    return Decision(method=record.name, plans=plans, evidence=() if found is None else (found,))


def _layers(bench: Bench, data: Dataset) -> list[dict[str, Any]]:
    try:
        measured = profile(
            bench.network,
            data,
            splits=("train",),
            device=bench.device,
            cache=bench.cache.folder,
            cache_budget=bench.cache.budget,
            processes=bench.job.processes,
            seed=bench.job.seed,
        )
    except LowdimError as error:
        bench.warnings.append(f"The layers before tuning could not be measured. {error}")
        return []
    return [{"name": entry.name, "nc1": entry.nc1, "nc1_chance": entry.nc1_chance} for entry in measured.layers]


def _measured(
    bench: Bench, fits: list[Fitted], data: Dataset, decision: Decision, layers: list[dict[str, Any]]
) -> Tuned:
    model: nn.Module = fits[0].model if len(fits) == 1 else Average(*(fitted.model for fitted in fits)).eval()
    last, weights = fits[-1], weights_of([plan.method for plan in decision.plans])
    logarithms, split = averaged([fitted.log_probabilities() for fitted in fits], weights), data["train"]
    accuracy: dict[str, Any] = dict.fromkeys(
        ("train", "test", "interval", "balanced_train", "balanced_test", "test_without_copies")
    )
    values: dict[str, float | None] = {"train": nc1(last.features(), bench.labels, bench.classes), "test": None}
    warnings = [
        *(never_held_out(data["train"], data.classes) if decision.evidence else []),
        *copy_warnings(data, [name for name in ("train", "test") if len(data.splits.get(name, ()))]),
        *bench.warnings,
    ]
    warnings += [*(f"{f.model.plan.method}: {f.history.stopped}" for f in fits if f.history.stopped)]

    def judge(name: str, logarithms: np.ndarray, labels: np.ndarray) -> None:
        right = correct_of(logarithms, labels)
        accuracy.update({name: float(right.mean()), f"balanced_{name}": balanced_accuracy(right, labels)})
        warnings.extend(
            majority_warnings(
                f"{name} accuracy",
                right,
                labels,
                data.classes,
                weighted=bench.class_weights,
                independent=data[name].independent,
                guessing=name == "test",
            )
        )

    judge("train", logarithms, bench.labels)
    if len(data.splits.get("test", ())):
        split = data["test"]
        outputs = [split_outputs(fitted.model, split, bench.network.preprocessing) for fitted in fits]
        logarithms = averaged([part[0] for part in outputs], weights)
        judge("test", logarithms, split.labels)
        accuracy["interval"] = list(wilson_interval(accuracy["test"], independent(split.copies)))
        copied = np.isin(split.contents, data["train"].contents)
        if 0 < copied.sum() < len(split):
            alone = accuracy_of(logarithms[~copied], split.labels[~copied])
            accuracy["test_without_copies"] = alone
            warnings.append(said_without_copies("test", accuracy["test"], alone))
        features = outputs[-1][1]
        values["test"] = None if features is None else nc1(features, split.labels, bench.classes)
        warnings += [*unseen_classes(data), *untested_classes(data)]
    parts = tuned_parts(model)
    trained = [sum(parameter.numel() for parameter in part.trained().values()) for part in parts]
    stores = {id(fitted.store): fitted.store for fitted in fits}.values()
    return Tuned(
        model=model,
        method=decision.method,
        layer=", ".join(last.model.plan.blocks) or None,
        evidence=decision.evidence,
        reasons=decision.reasons,
        accuracy=accuracy,
        per_class=_per_class(logarithms, split.labels, data.classes),
        mistakes=mistakes_of(logarithms, split, data.classes),
        nc1=values,
        updates=last.updates,
        known=last.known if len(fits) == 1 else None,
        layers=layers,
        trained_parameters=sum(trained),
        # The parts of an ensemble share the frozen base.
        total_parameters=parts[-1].parameters_in_all() + sum(trained[:-1]),
        history={f.model.plan.method: vars(f.history) for f in fits if f.history.loss},
        cache={"bytes": sum(s.bytes for s in stores), "seconds": sum(s.seconds for s in stores)},
        warnings=warnings,
        columns=data.columns,
        classes=data.classes,
        preprocessing=bench.network.preprocessing,
        example=bench.example,
    )


def _per_class(logarithms: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    members = [labels == k for k in range(len(classes))]
    return [
        {
            "name": name,
            "samples": int(mine.sum()),
            "accuracy": accuracy_of(logarithms[mine], labels[mine]) if mine.any() else None,
        }
        for name, mine in zip(classes, members, strict=True)
    ]
