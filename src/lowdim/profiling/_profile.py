"""The collapse profile of a network on labelled data: every chosen layer, train and test."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lowdim._files import json_digest
from lowdim._preprocessing import Preprocessing
from lowdim._processes import Processes
from lowdim._random import child_seed
from lowdim.data import Dataset, Split
from lowdim.data._batches import batches
from lowdim.errors import InputError, ResourceError, is_out_of_memory
from lowdim.features import Pool
from lowdim.models import LoadedModel, default_layers, find_head, fingerprint, match_layers
from lowdim.profiling._builder import Builder, Measured, Recipe
from lowdim.profiling._passes import first_pass, second_pass
from lowdim.profiling._result import Profile
from lowdim.profiling._stream import FeatureStream, Source
from lowdim.statistics import Weighting

CACHE_BUDGET = 4e9
"""Bytes of features kept on disk per split by default."""


class _SplitSource:
    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
        self.labels, self.split, self.preprocessing = split.labels, split, preprocessing

    def digest(self) -> str:
        return json_digest([self.split.digest(), self.preprocessing.as_dict()])

    def inputs(self, positions: np.ndarray) -> Any:
        return next(batches(self.split, self.preprocessing, batch_size=len(positions), indices=positions))[0]


class _TensorSource:
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.labels, self.tensor = labels.cpu().numpy().astype(np.int64), inputs

    def digest(self) -> str:
        digest = hashlib.sha256(self.labels.tobytes())
        digest.update(self.tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def inputs(self, positions: np.ndarray) -> Any:
        return self.tensor[torch.from_numpy(positions)]


class _PresentClasses:
    """A source whose labels count only the classes that it has samples of: ``present[label]`` is the original one."""

    def __init__(self, name: str, source: Source) -> None:
        self.present, self.labels = np.unique(source.labels, return_inverse=True)
        self.inputs = source.inputs
        if len(self.present) < 2:
            raise InputError(
                f"The {name} split has samples of {len(self.present)} classes; collapse is about at least two."
            )


def profile(
    model: nn.Module | LoadedModel,
    data: Dataset | Mapping[str, tuple[Tensor, Tensor]] | tuple[Tensor, Tensor],
    *,
    layers: str | Sequence[str] | None = None,
    pools: Sequence[Pool] = ("avg",),
    splits: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    weighting: Weighting = "pooled",
    unbiased: bool = False,
    outliers: int = 0,
    seed: int = 0,
    folder: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    processes: Processes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Measures how the classes separate at every chosen layer.

    Runs the network over the data once (twice where the features exceed `cache_budget`); memory does not grow with the number
    of samples. The network is left as it was found.

    Args:
        model: A network, or one from `lowdim.models.load_model` (which brings its preprocessing).
        data: A data set from `lowdim.data.load_data`; or ready inputs and integer labels ``(n x …, n)``, for one split or by
            split name.
        layers: Names or globs as in ``module.named_modules()``; default the outputs of blocks and the penultimate feature.
        pools: How outputs become one row per sample; each gives its own entries.
        splits: Which splits; default all. Test samples are classified by the class means of the training split.
        batch_size: Samples per forward pass; default 64 on a CPU, 256 elsewhere.
        device: Where the network runs; default where its parameters are.
        weighting: Of the classes, see `lowdim.metrics.variability`.
        unbiased: Divide class covariances by ``n - 1``.
        outliers: How many suspected labels to list.
        seed: Of the subsample and the permutations for the chance level.
        folder: Where features are kept between the passes, from which the same call continues; default a temporary folder.
        cache_budget: Bytes of features kept per split.
        processes: The processes of this job; default alone.
        progress: Called with (batches done, batches in all).

    Returns:
        The profile. Samples with NaN or infinite features are left out of that layer and named in the warnings.

    Raises:
        InputError: If the data has fewer than two classes, or a layer has no row per sample.
        UsageError: If a layer does not exist.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> inputs = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]])
        >>> result = profile(network, (inputs, torch.tensor([0, 0, 1, 1])))
        >>> [layer.name for layer in result.layers]
        ['1', '2:input']
    """
    module = model.module if isinstance(model, LoadedModel) else model
    sources, names = _sources(model, data, splits)
    place = _device_of(module) if device is None else torch.device(device)
    recipe = Recipe(
        layers=match_layers(module, layers) if layers else default_layers(module),
        head=find_head(module),
        pools=tuple(pools),
        batch_size=batch_size or (64 if place.type == "cpu" else 256),
        device=place,
        weighting=weighting,
        unbiased=unbiased,
        outliers=outliers,
        seed=seed,
        budget=cache_budget,
    )
    builder = Builder(module, names, model.classes if isinstance(model, LoadedModel) else None, recipe)
    before = _device_of(module)
    if folder is None:
        kept = tempfile.TemporaryDirectory(prefix="lowdim-")
    else:
        content = [fingerprint(module), *(source.digest() for source in sources.values())]
        content += [recipe.layers, recipe.pools, recipe.batch_size]
        kept = contextlib.nullcontext(str(folder / json_digest(content)[:16]))
    with kept as where:
        try:
            module.to(place)
            return _measure(builder, sources, data, Path(where), processes or Processes(), progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = max(recipe.batch_size // 2, 1)
            raise ResourceError(
                f"Out of memory on {place} with {recipe.batch_size} samples per batch. Use --batch-size {smaller}."
            ) from error
        finally:
            module.to(before)


def _device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _sources(
    model: nn.Module | LoadedModel, data: Any, splits: Sequence[str] | None
) -> tuple[dict[str, _SplitSource | _TensorSource], tuple[str, ...]]:
    if isinstance(data, Dataset):
        preprocessing = model.preprocessing if isinstance(model, LoadedModel) else Preprocessing()
        chosen = {name: data[name] for name in splits or data.splits}
        return {name: _SplitSource(split, preprocessing) for name, split in chosen.items()}, data.classes
    if isinstance(data, tuple):
        data = {"train": data}
    sources: dict[str, _SplitSource | _TensorSource] = {}
    for name in splits or data:
        inputs, labels = data[name]
        if len(inputs) != len(labels) or labels.ndim != 1 or labels.is_floating_point():
            raise InputError(
                f"The {name} split has {len(inputs)} inputs and labels {tuple(labels.shape)} ({labels.dtype}); "
                "there is one integer label per input."
            )
        if len(labels) and int(labels.min()) < 0:
            raise InputError(f"The {name} split has negative labels. Drop those samples; labels are 0 … K - 1.")
        sources[name] = _TensorSource(inputs, labels)
    count = 1 + max((int(source.labels.max()) for source in sources.values() if len(source.labels)), default=-1)
    return sources, tuple(str(label) for label in range(count))


def _measure(
    builder: Builder,
    sources: Mapping[str, Source],
    data: Any,
    folder: Path,
    processes: Processes,
    progress: Callable[[int, int], None] | None,
) -> Profile:
    recipe = builder.recipe
    present = {name: _PresentClasses(name, source) for name, source in sources.items()}
    streams = {
        name: FeatureStream(
            builder.module,
            source,
            recipe.layers,
            recipe.pools,
            batch_size=recipe.batch_size,
            device=recipe.device,
            folder=folder / name,
            budget=recipe.budget,
            processes=processes,
        )
        for name, source in present.items()
    }
    total = 2 * sum(len(stream.mine) for stream in streams.values())
    done = 0

    def step(batches_done: int) -> None:
        nonlocal done
        done += batches_done
        if progress is not None:
            progress(done, total)

    for name, stream in streams.items():
        classes = torch.from_numpy(present[name].present)
        moments = first_pass(stream, len(classes), child_seed(recipe.seed, "subsample", name), processes, step)
        around, head, suspects = second_pass(
            stream,
            moments,
            builder.references if name == "test" else {},
            present=classes,
            weighting=recipe.weighting,
            scored=builder.scored,
            head_key=builder.head_key(moments),
            outliers=recipe.outliers,
            processes=processes,
            progress=step,
        )
        items = data[name].items if isinstance(data, Dataset) else None
        builder.add(Measured(name, present[name].labels, present[name].present, moments, around, head, suspects, items))
    return builder.result()
