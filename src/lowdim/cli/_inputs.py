"""Options that say which network and which data, and what they become. Shared by all commands about networks."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from lowdim._names import short_names
from lowdim.cli import _completion
from lowdim.cli._common import Fresh, Out, Seed, option
from lowdim.cli._python import Objects
from lowdim.errors import UsageError

if TYPE_CHECKING:
    from lowdim._preprocessing import Preprocessing
    from lowdim.data import Dataset
    from lowdim.models import LoadedModel
    from lowdim.ranking import Candidate

MODEL_HELP = (
    "digits · timm:NAME · hf:ORG/NAME · DIR of either, with its config.json · FILE.py:FACTORY (runs that code) · features. "
    "timm:NAME and hf:ORG/NAME mean the pre-trained hub weights."
)
DATA_HELP = "digits · image folder · FILE.npz · FILE.csv|tsv|jsonl|parquet|xlsx · torchvision:NAME@ROOT."

MODEL_OBJECTS = Objects("str | nn.Module | LoadedModel", "Or a torch module, or what `load_model` gives.")
CANDIDATE_OBJECTS = Objects(
    "str | nn.Module | LoadedModel | Candidate | Sequence | Mapping",
    "Or torch modules: one, a list, or by their names.",
)
DATA_OBJECTS = Objects(
    "str | Path | tuple | Mapping | DataFrame | Iterable | Dataset | None",
    "Or (inputs, labels), a frame, batches such as a DataLoader's, or such pairs by split.",
)


_model, _data, _run = (partial(option, panel=panel) for panel in ("Model", "Data", "Run"))


def data_option(more: str = "") -> Any:
    """The option that names data, with `more` to say of it."""
    return _data(f"{DATA_HELP}{more}", "--data", autocompletion=_completion.data_sets)


def candidate_option(more: str = "") -> Any:
    """The option that names networks, with `more` to say of it."""
    return _model(f"May be repeated. {MODEL_HELP}{more}", "--model", autocompletion=_completion.models)


class TaskChoice(StrEnum):
    """What labels are."""

    classification = "classification"
    regression = "regression"


class PoolChoice(StrEnum):
    """How tokens or maps become one row per sample."""

    avg = "avg"
    flatten = "flatten"
    cls = "cls"
    mean = "mean"
    last = "last"
    map = "map"


Model: TypeAlias = Annotated[str, _model(MODEL_HELP, "--model", autocompletion=_completion.models), MODEL_OBJECTS]
DataOption: TypeAlias = Annotated[str | None, data_option(), DATA_OBJECTS]
DataUnlessListing: TypeAlias = Annotated[str | None, data_option(" Not needed for --list-layers."), DATA_OBJECTS]
_OF_INPUTS = "a,b,c of inputs in 0..1, instead of the model's own."


@dataclass(frozen=True)
class Loading:
    """How networks are loaded; a command leaves out what does not apply to it."""

    weights: Annotated[Path | None, _model("Local safetensors file for that architecture.")] = None
    weights_key: Annotated[
        str | None, _model("Which table of a weights file with several (state_dict_ema, teacher …).")
    ] = None
    model_arg: Annotated[list[str] | None, _model("KEY=VALUE for the factory; may be repeated.")] = None
    random_weights: Annotated[bool, _model("Untrained weights; marked in every output.", "--random-weights")] = False
    allow_pickle: Annotated[
        bool, _model("Accept pickled weights (.pt, .pth, .bin, .th), tensors only.", "--allow-pickle")
    ] = False
    offline: Annotated[bool, _model("Never use the network; hub models come from the cache.", "--offline")] = False
    mean: Annotated[str | None, _model(_OF_INPUTS)] = None
    std: Annotated[str | None, _model(_OF_INPUTS)] = None
    image_size: Annotated[int | None, _model("Side in pixels, instead of the model's own.", min=1)] = None
    feature: Annotated[
        str | None,
        _model("Module whose output is the feature (NAME:input: what it reads), not what the classifier reads."),
    ] = None
    pool: Annotated[
        PoolChoice | None, _model("How the feature's tokens or map become one row [default: as the network does it].")
    ] = None

    def options(self) -> dict[str, Any]:
        """As the library takes them."""
        found = dict(vars(self))
        found["mean"], found["std"] = numbers(self.mean, "mean"), numbers(self.std, "std")
        found |= {"arguments": parse_arguments(found.pop("model_arg")), "pool": self.pool and str(self.pool)}
        return found


@dataclass(frozen=True)
class Reading:
    """How data is read; a command leaves out what does not apply to it."""

    limit: Annotated[int | None, _data("At most so many samples of each split, stratified.", min=1)] = None
    shots: Annotated[int | None, _data("So many training samples of each class.", min=1)] = None
    path_column: Annotated[str | None, _data("Of a table: image files.")] = None
    text_column: Annotated[str | None, _data("Of a table: texts; A,B for pairs.")] = None
    label_column: Annotated[str | None, _data("Of a table: labels; A,B for several numbers.")] = None
    path_root: Annotated[
        Path | None, _data("Of a table: folder that picture paths start from and may not leave [default: the table's].")
    ] = None
    task: Annotated[TaskChoice, _data("What labels are: classes, or numbers to be predicted (regression).")] = (
        TaskChoice.classification
    )
    skip_unreadable: Annotated[
        bool, _data("Leave out images that cannot be read, instead of stopping.", "--skip-unreadable")
    ] = False

    def dataset(self, data: Any, seed: int, **more: Any) -> "Dataset":
        """The data set.

        Raises:
            UsageError: If none was given.
        """
        from lowdim.data import as_dataset

        if data is None:
            raise UsageError(
                "Say which data with `data`: digits, an image folder, FILE.npz, FILE.csv or torchvision:NAME@ROOT."
            )
        given: dict[str, Any] = {**vars(self), "task": str(self.task), **more}
        return as_dataset(data, seed=seed, **given)

    def identity(self, dataset: "Dataset", **more: Any) -> dict[str, Any]:
        """What tells the data that was read from other data in a run's configuration, with `more` that a command chooses by."""
        return {"name": dataset.name, "splits": data_identity(dataset), "limit": self.limit, **more}

    def words(self, *, shots: bool = False) -> list[str]:
        """The same as words of a command line."""
        given = {f"--{name.replace('_', '-')}": value for name, value in vars(self).items() if name != "task"}
        return words(given if shots else {**given, "--shots": None})


TestShare: TypeAlias = Annotated[
    float,
    _data(
        "Held back to measure on, of data without a test split of its own; with 0 all of it is trained on.",
        min=0,
        max=0.9,
    ),
]


@dataclass(frozen=True)
class Running:
    """Where and with what a command computes, and where its results go; a command leaves out what does not apply to it."""

    device: Annotated[str, _run("auto · cpu · cuda · mps.")] = "auto"
    batch_size: Annotated[str, _run("auto, or samples per forward pass.")] = "auto"
    cache_budget: Annotated[float, _run("GB of features kept on disk, least recently used deleted first.", min=0)] = 4.0
    cache: Annotated[
        Path | None,
        _run("Folder of computed features that measure, rank, advise and finetune share [default: none shared]."),
    ] = None
    seed: Seed = 0
    out: Out = None
    fresh: Fresh = False


def parse_arguments(pairs: list[str] | None) -> dict[str, Any]:
    """``key=value`` pairs; a value that is valid JSON (numbers, true, lists) is taken as such, anything else as text.

    Example:
        >>> parse_arguments(["depth=3", "name=best"])
        {'depth': 3, 'name': 'best'}
    """
    import json

    arguments: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"{pair!r} is not KEY=VALUE.")
        try:
            arguments[key] = json.loads(value)
        except (ValueError, RecursionError):  # of a number with thousands of digits, too
            arguments[key] = value
    return arguments


def network(model: Any, **options: Any) -> "LoadedModel":
    """`as_model`, imported when a command comes to its network: what is wrong with the data is said without the seconds PyTorch takes."""
    from lowdim.models import as_model

    return as_model(model, **options)


def require_network(model: Any) -> None:
    """Refuses an object that is no network before the data is read; a name needs PyTorch, and is looked at after it."""
    if not isinstance(model, str | os.PathLike):
        from lowdim.models import require_network

        require_network(model)


def candidates(specs: Any, file: Path | None, options: dict[str, Any]) -> "list[Candidate]":
    """The networks of ``--model`` (repeated) or ``--models`` (a TOML file); exactly one of the two must be given. From Python, one
    spec or several, or `Candidate` objects."""
    from lowdim.ranking import candidates_of, read_candidates

    if (file is None) == (specs is None or (isinstance(specs, list) and not specs)):
        raise UsageError("Name candidates with `model` (once for each), or a file of them with `models`.")
    if file is not None and not file.exists() and file.suffix != ".toml":
        names = str(file).split(",")
        raise UsageError(f"`models` is a TOML file, and {file} does not exist. Networks are named so: `model={names}`.")
    if file is not None:
        return read_candidates(file, **options)
    if isinstance(specs, Mapping):
        given: list[Any] = [
            _candidate(spec, options, str(name)) for name, spec in cast("Mapping[Any, Any]", specs).items()
        ]
    else:
        several = isinstance(specs, list | tuple)
        given = [_candidate(spec, options) for spec in (cast("list[Any]", specs) if several else [specs])]
    named = iter(candidates_of([spec for spec in given if isinstance(spec, str)], **options))
    found = [next(named) if isinstance(spec, str) else spec for spec in given]
    return _told_apart(found)


def _candidate(spec: Any, options: dict[str, Any], name: str = "") -> Any:
    """A network as a candidate; a name that is its own stays text."""
    from torch import nn

    from lowdim.models import LoadedModel
    from lowdim.ranking import Candidate

    if isinstance(spec, Candidate) or (isinstance(spec, str) and not name):
        return spec
    if isinstance(spec, str) and spec.endswith(".npz"):
        return Candidate(name=name, features=spec)
    if isinstance(spec, str | LoadedModel | nn.Module):
        return Candidate(
            name=name or getattr(spec, "name", type(spec).__name__),
            model=spec,
            options=options,
        )
    raise UsageError(
        f"A candidate is a name such as 'timm:resnet18', a .npz file, a torch module, a LoadedModel or a Candidate, not "
        f"{type(spec).__name__}."
    )


def _told_apart(candidates: "list[Candidate]") -> "list[Candidate]":
    """Networks in memory that have one name get numbers."""
    from collections import Counter

    seen: Counter[str] = Counter()
    found: list[Candidate] = []
    for one in candidates:
        seen[one.name] += 1
        again = seen[one.name] > 1 and not isinstance(one.model, str | None)
        found.append(replace(one, name=f"{one.name} {seen[one.name]}") if again else one)
    return found


def numbers(given: str | Sequence[float] | None, option: str) -> list[float] | None:
    """``a,b,c`` as numbers.

    Example:
        >>> numbers("0.5,.25", "mean")
        [0.5, 0.25]
    """
    if given is None:
        return None
    try:
        return [float(part) for part in (given.split(",") if isinstance(given, str) else given)]
    except ValueError as error:
        raise UsageError(f"`{option}` takes numbers separated by commas, not {given!r}.") from error


def batch_size(given: str | int | None) -> int | None:
    """A positive number, or None for ``auto``."""
    return None if given in (None, "auto") else positive(given, "`batch_size` takes auto or a positive number")


def positive(given: Any, expected: str) -> int:
    """A whole number from 1 on in plain digits; anything else is an error that begins with what was `expected`.

    Example:
        >>> positive("12", "`rank` takes a positive number")
        12
    """
    if not re.fullmatch("[1-9][0-9]{0,8}", str(given)):
        raise UsageError(f"{expected}, not {str(given)[:40]!r}.")
    return int(given)


def spelled(given: Any) -> str | None:
    """A network or data as it is typed; None for an object."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else None


def short(name: str) -> str:
    """The last part of a path."""
    return short_names([name])[0]


def device(name: str) -> str:
    """The device to use; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: If the device is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind, False) or (":" in name and not (index.isdecimal() and int(index[:9]) < count)):
        raise UsageError(
            f"`device={name}` is not available here. There are: {', '.join(n for n, ok in there.items() if ok)}."
        )
    return name


def feature_line(feature: "Mapping[str, Any]", name: str = "") -> str:
    """What was taken as the feature, with its width and why."""
    of = f" of {name}" if name else ""
    return f"feature{of}: {feature['layer']}, {feature['width']:,} wide ({feature['why']})"


def model_line(network: "LoadedModel", data: "Dataset") -> str:
    """The network, and what its inputs go through: of vectors nothing, whatever the network was made for."""
    return inputs_line(network.name, network.preprocessing, data)


def inputs_line(name: str, preprocessing: "Preprocessing", data: "Dataset") -> str:
    """A network's name, and what its inputs go through."""
    return f"model: {name}, {'vectors as stored' if data.kind == 'features' else preprocessing.describe()}"


def untrained(network: "LoadedModel") -> list[str]:
    """The warning that belongs to random weights, if they are."""
    return (
        [
            "The weights are random: these numbers say nothing about a trained network. Give the trained ones with `weights=FILE`, or let "
            "the function that makes the network load them."
        ]
        if network.random_weights
        else []
    )


def seen_before(spec: str | None, data: "Dataset", *, untrained: bool) -> list[str]:
    """The warning where an embedded network was trained on images of this very data; elsewhere none."""
    import numpy as np

    from lowdim.data import load_data
    from lowdim.models._digits import EMBEDDED

    if (
        untrained
        or not isinstance(spec, str)
        or spec not in EMBEDDED
        or data.kind != "image"
        or not data.name.startswith("digits")
    ):
        return []
    source, train = load_data(EMBEDDED[spec])["train"], data["train"]
    again = int(np.isin(train.contents, source.contents).sum())
    if not again:
        return []
    return [f"{spec} was itself trained on {again} of these {len(train)} images: its numbers here are too good."]


def data_identity(data: "Dataset") -> dict[str, Any]:
    """What tells one data set from another in a run's configuration."""
    from lowdim._files import json_digest

    return {
        name: {"samples": len(split), "sha256": json_digest([split.digest(), data.classes])[:16]}
        for name, split in data.splits.items()
    }


def model_identity(model: "LoadedModel") -> dict[str, Any]:
    """What tells one network from another in a run's configuration."""
    from lowdim.features import network_content

    return {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "code": network_content(model.module, "")[1][:16],
        "random_weights": model.random_weights,
        "feature": model.layer,
        "pool": model.pool,
        "preprocessing": model.preprocessing.as_dict(),
    }


def seen_by_any(candidates: "Sequence[Candidate]", dataset: "Dataset") -> list[str]:
    """`seen_before` of several candidates."""
    return [
        warning
        for one in candidates
        for warning in seen_before(spelled(one.model), dataset, untrained=bool(one.options.get("random_weights")))
    ]


def words(options: dict[str, Any]) -> list[str]:
    """The options that were given, as words of a command line.

    Example:
        >>> words({"--offline": True, "--limit": None, "--model-arg": ["a=1", "b=2"]})
        ['--offline', '--model-arg', 'a=1', '--model-arg', 'b=2']
    """
    found: list[str] = []
    for name, value in options.items():
        for entry in value if isinstance(value, list) else [value]:
            if entry is True:
                found.append(name)
            elif entry is not None and entry is not False:
                found += [name, str(entry)]
    return found


def model_words(settings: Mapping[str, Any], name: str = "") -> list[str]:
    """The options of `lowdim finetune` that load a candidate as it was loaded here."""
    from json import dumps as json_text

    size = settings.get("image_size")
    return words(
        {
            "--weights": settings.get("weights"),
            "--weights-key": settings.get("weights_key"),
            "--model-arg": [f"{key}={json_text(value)}" for key, value in settings.get("arguments", {}).items()],
            "--random-weights": settings.get("random_weights"),
            "--allow-pickle": settings.get("allow_pickle"),
            "--offline": settings.get("offline"),
            "--mean": _by_commas(settings.get("mean")),
            "--std": _by_commas(settings.get("std")),
            "--feature": settings.get("feature"),
            "--pool": settings.get("pool"),
            "--image-size": size if isinstance(size, int | None) else _side(name, *size),
        }
    )


def _side(name: str, height: int, width: int) -> int:
    if height != width:
        raise UsageError(f"{name}: image_size = [{height}, {width}] is not square; lowdim finetune takes one side.")
    return height


def _by_commas(numbers: list[float] | None) -> str | None:
    return None if numbers is None else ",".join(map(repr, numbers))
