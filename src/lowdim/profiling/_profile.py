"""The collapse profile of a network on labelled data: every chosen layer, train and test."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._arguments import checked_arguments
from lowdim._job import CACHE_BUDGET, Job
from lowdim._preprocessing import Preprocessing
from lowdim._processes import Processes
from lowdim._random import child_seed
from lowdim.data import Dataset, as_dataset
from lowdim.data._copies import copy_warnings, said_of_copies
from lowdim.data._dataset import unseen_classes
from lowdim.errors import InputError, ResourceError, UsageError, is_out_of_memory
from lowdim.features import (
    FeatureCache,
    FeatureStream,
    Forward,
    Key,
    Pool,
    Source,
    SplitSource,
    TensorSource,
    content_digest,
    moved,
    network_content,
    opened_cache,
)
from lowdim.models import (
    Feature,
    LoadedModel,
    as_model,
    default_layers,
    find_feature,
    fingerprint,
    match_layers,
    unwrapped,
)
from lowdim.profiling._builder import Builder, Measured, Recipe
from lowdim.profiling._passes import first_pass, second_pass
from lowdim.profiling._result import Profile
from lowdim.statistics import Weighting


@checked_arguments
def profile(
    model: nn.Module | LoadedModel | str | os.PathLike[str],
    data: Any,
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[Pool] | None = None,
    feature: str | None = None,
    splits: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    weighting: Weighting = "pooled",
    unbiased: bool = False,
    outliers: int = 0,
    seed: int = 0,
    folder: Path | None = None,
    cache: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    processes: Processes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Measures how the classes separate at every chosen layer.

    Runs the network over the data once (twice where the features exceed `cache_budget`); memory does not grow with the number
    of samples. The network is left as it was found.

    Args:
        model: A network, one from `lowdim.models.load_model` (which brings its preprocessing), or its name.
        data: A data set from `lowdim.data.load_data`; ready inputs (a tensor, or several by name) and integer labels ``(n x …, n)`` as
            tensors, for one split or by split name; or anything else that `lowdim.data.as_dataset` takes: a name, arrays, a ``DataLoader``.
        layers: Names or globs as in ``module.named_modules()``; default the outputs of blocks and the penultimate feature.
        pools: How outputs become one row per sample; each gives its own entries. By default maps and tokens are averaged, and the
            feature is what the network itself takes (`lowdim.models.find_feature`).
        feature: The layer that is to be the feature, instead of what the network's classifier reads.
        splits: Which splits; default all. Test samples are classified by the class means of the training split.
        batch_size: Samples per forward pass; default 64 on a CPU, 256 elsewhere.
        device: Where the network runs; default where its parameters are.
        weighting: Of the classes, see `lowdim.metrics.variability`.
        unbiased: Divide class covariances by ``n - 1``.
        outliers: How many suspected labels to list.
        seed: Of the subsample and the permutations for the chance level.
        folder: Where features are kept between the passes, from which the same call continues; default a temporary folder.
        cache: Where they are kept instead, and found again by other calls that want them, of `rank` and `finetune` too.
        cache_budget: Bytes of features kept there; the least recently used are deleted first.
        processes: The processes of this job; default alone.
        progress: Called with (batches done, batches in all).

    Returns:
        The profile. Samples with NaN, infinite or overflowing features are left out of that layer and named in the warnings.

    Raises:
        InputError: If the data has fewer than two classes, or a layer has no row per sample.
        NonFiniteError: If no sample of a split has finite features at any layer.
        UsageError: If a layer does not exist.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> inputs = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]])
        >>> result = profile(network, (inputs, torch.tensor([0, 0, 1, 1])))
        >>> [layer.name for layer in result.layers]
        ['1', '2:input']
    """
    if not isinstance(data, Dataset) and not _are_tensors(data):
        data = as_dataset(data)
    if not isinstance(model, nn.Module | LoadedModel):
        model = as_model(model, kind=data.kind if isinstance(data, Dataset) else "features")
    stage = staged(
        model, data, splits, feature, batch_size, device, seed, folder, cache, cache_budget, processes, progress
    )
    for name, source in stage.sources.items():
        classes = len(np.unique(source.labels))
        if classes < 2:
            which = f"one class ({stage.names[int(source.labels[0])]})" if classes == 1 else "no class"
            others = [f"`split={other}`" for other in stage.sources if len(np.unique(stage.sources[other].labels)) > 1]
            instead = f" Measure the other alone with {others[0]}." if others else ""
            raise InputError(f"The {name} split has samples of {which}; collapse is about at least two.{instead}")
    found = stage.feature
    if pools and found.pool not in pools:
        found = replace(found, pool=pools[0])
    recipe = Recipe(
        keys=keys_of(stage.module, layers, pools, found),
        feature=found,
        weighting=weighting,
        unbiased=unbiased,
        outliers=outliers,
        seed=seed,
    )
    builder = Builder(stage.module, stage.names, stage.classes, recipe)
    if isinstance(data, Dataset):
        said = [*(unseen_classes(data) if len(stage.sources) > 1 else []), *copy_warnings(data, list(stage.sources))]
    else:
        repeated = {
            name: (source.copies != np.arange(len(source.labels))).sum() for name, source in stage.sources.items()
        }
        said = [
            said_of_copies(name, count, len(stage.sources[name].labels)) for name, count in repeated.items() if count
        ]
    for warning in said:
        builder.warn(warning)
    with stage.open() as features:
        return _measure(builder, stage, data, features)


@dataclass(frozen=True)
class Stage:
    """A network and what it is to be run on, before it runs; `classes` are those of its own head, `names` those of the data."""

    module: nn.Module
    classes: tuple[str, ...] | None
    sources: Mapping[str, Source]
    names: tuple[str, ...]
    feature: Feature
    job: Job

    @contextmanager
    def open(self) -> Generator[FeatureCache]:
        """The network where the job has it, with the cache of its features, and back where it was; what to do where its memory is
        too small."""
        before, job = device_of(self.module), self.job
        try:
            with opened_cache(job.cache, job.folder, job.cache_budget) as features:
                self.module.to(job.device)
                yield features
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(
                f"Out of memory on {job.device} with {job.batch_size} samples per batch. "
                f"Use `batch_size={max((job.batch_size or 1) // 2, 1)}`."
            ) from error
        finally:
            self.module.to(before)

    def streams(
        self, keys: Sequence[Key], labels: Mapping[str, np.ndarray], features: FeatureCache
    ) -> dict[str, FeatureStream]:
        """The features of every split, not yet computed."""
        job = self.job
        forward = Forward(self.module, keys, torch.device(job.device or "cpu"), self.feature.layout)
        network = network_content(self.module, fingerprint(self.module)) if features.lasting else []
        streams: dict[str, FeatureStream] = {}
        for name, source in self.sources.items():
            streams[name] = FeatureStream(
                forward,
                source,
                labels[name],
                cache=features,
                content=content_digest(network, source) if features.lasting else name,
                batch_size=job.batch_size or 1,
                processes=job.processes,
                like=next(iter(streams.values()), None),
            )
        return streams


def staged(
    model: nn.Module | LoadedModel,
    data: Any,
    splits: Sequence[str] | None,
    feature: str | None,
    batch_size: int | None,
    device: torch.device | str | None,
    seed: int,
    folder: Path | None,
    cache: Path | None,
    cache_budget: float,
    processes: Processes | None,
    progress: Callable[[int, int], None] | None,
) -> Stage:
    """What `profile` was asked for, with the feature found on two of the inputs."""
    loaded, module = (model, model.module) if isinstance(model, LoadedModel) else (None, model)
    module = unwrapped(module)
    sources, names = sources_of(model, data, splits)
    for name, source in sources.items():
        if not len(source.labels):
            raise InputError(f"The {name} split has no samples.")
    before = device_of(module)
    place = before if device is None else _device(device)
    first = next(iter(sources.values()))
    example = moved(first.inputs(np.arange(2) % len(first.labels)), before)
    found = find_feature(module, example, layer=feature or (loaded and loaded.layer), pool=loaded and loaded.pool)
    told = None if progress is None else lambda _, done, total: progress(done, total)
    size = batch_size or (64 if place.type == "cpu" else 256)
    if size < 1 or seed < 0:
        raise UsageError(f"`batch_size` must be at least 1 and `seed` at least 0; they are {size} and {seed}.")
    where: dict[str, Any] = {name: path and Path(path) for name, path in (("folder", folder), ("cache", cache))}
    where["cache_budget"] = cache_budget
    job = Job(device=place, seed=seed, processes=processes or Processes(), progress=told, batch_size=size, **where)
    return Stage(module, loaded and loaded.classes, sources, names, found, job)


def keys_of(
    module: nn.Module, layers: str | Sequence[str] | None, pools: Sequence[Pool] | None, feature: Feature
) -> list[Key]:
    """What to measure: layers by pooling, where the feature has its own unless one is asked for."""
    default = default_layers(module, feature)
    names = match_layers(module, layers, default) if layers else default
    own = (feature.pool,) if pools is None else tuple(pools)
    return [(name, pool) for name in names for pool in (own if name == feature.layer else pools or ("avg",))]


def _device(given: torch.device | str) -> torch.device:
    try:
        return torch.device(given)
    except RuntimeError as error:
        raise UsageError(
            f"`device={given}` is none that PyTorch knows. Give cpu, cuda or mps.", argument="device"
        ) from error


def _are_tensors(data: Any) -> bool:
    """Whether these are ready inputs with labels, for one split or by split name."""
    pairs: list[Any] = list(cast("Mapping[Any, Any]", data).values()) if isinstance(data, Mapping) else [data]
    return all(
        isinstance(pair, tuple)
        and len(cast("Any", pair)) == 2
        and isinstance(pair[1], Tensor)
        and (isinstance(pair[0], Tensor) or _is_named(pair[0]))
        for pair in pairs
    )


def device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _is_named(inputs: Any) -> bool:
    """Whether these are tensors by name, as networks for texts take them."""
    return isinstance(inputs, Mapping) and all(
        isinstance(rows, Tensor) for rows in cast("Mapping[str, Any]", inputs).values()
    )


def sources_of(
    model: nn.Module | LoadedModel, data: Any, splits: Sequence[str] | None
) -> tuple[dict[str, Source], tuple[str, ...]]:
    if isinstance(data, Dataset):
        plain = Preprocessing(kind="features") if data.kind == "features" else Preprocessing()
        preprocessing = model.preprocessing if isinstance(model, LoadedModel) else plain
        return {name: SplitSource(data[name], preprocessing) for name in splits or data.splits}, data.classes
    if isinstance(data, tuple):
        data = {"train": data}
    sources: dict[str, Source] = {}
    for name in splits or data:
        inputs, labels = data[name]
        inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
        count = min(map(len, inputs.values())) if isinstance(inputs, dict) else len(inputs)
        if count != len(labels) or labels.ndim != 1 or labels.is_floating_point():
            raise InputError(
                f"The {name} split has {count} inputs and labels {tuple(labels.shape)} ({labels.dtype}); "
                "there is one integer label per input."
            )
        if len(labels) and int(labels.min()) < 0:
            raise InputError(f"The {name} split has negative labels. Drop those samples; labels are 0 … K - 1.")
        sources[name] = TensorSource(inputs, labels)
    count = 1 + max((int(source.labels.max()) for source in sources.values() if len(source.labels)), default=-1)
    return sources, tuple(str(label) for label in range(count))


def _measure(builder: Builder, stage: Stage, data: Any, features: FeatureCache) -> Profile:
    recipe, job = builder.recipe, stage.job
    unique = {name: np.unique(source.labels, return_inverse=True) for name, source in stage.sources.items()}
    for source in stage.sources.values():
        for message in source.warnings():
            builder.warn(message)
    streams = stage.streams(recipe.keys, {name: labels for name, (_, labels) in unique.items()}, features)
    step = Counter(2 * sum(len(stream.mine) for stream in streams.values()), job.reporter("measuring"))
    for name, stream in streams.items():
        classes = torch.from_numpy(unique[name][0])
        subsample = child_seed(recipe.seed, "subsample", name)
        moments = first_pass(stream, len(classes), subsample, job.processes, step)
        around, head, suspects = second_pass(
            stream,
            moments,
            builder.references if name == "test" else {},
            present=classes,
            weighting=recipe.weighting,
            scored=builder.scored,
            head_key=builder.head_key(moments),
            outliers=recipe.outliers,
            copied=_copied(data, name, len(stream.labels)),
            places=builder.places,
            processes=job.processes,
            progress=step,
        )
        items = data[name].items if isinstance(data, Dataset) else None
        builder.add(
            Measured(
                name,
                stream.labels,
                stream.source.copies,
                unique[name][0],
                moments,
                around,
                head,
                suspects,
                items,
                stream.exponents,
            )
        )
    return builder.result()


def _copied(data: Any, name: str, samples: int) -> np.ndarray:
    """Which samples of the test split are also in the train split."""
    if name != "test" or not isinstance(data, Dataset) or "train" not in data.splits:
        return np.zeros(samples, dtype=bool)
    return np.isin(data["test"].contents, data["train"].contents)


class Counter:
    """Tells how many of all steps are done."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def __call__(self, steps: int) -> None:
        self._done += steps
        if self._report is not None:
            self._report(self._done, self._total)
