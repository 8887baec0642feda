"""The delta: what fine-tuning changed, in a small file that fits one network only and says so."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from lowdim._arguments import checked_arguments
from lowdim._files import load_tensors, read_checked, read_json, save_tensors, sha256, write_checked
from lowdim._pictures import MAX_PIXELS
from lowdim._preprocessing import Interpolation, Preprocessing
from lowdim._reading import typed
from lowdim.errors import InputError
from lowdim.features import Pool
from lowdim.finetuning._by_names import feature_by_names
from lowdim.finetuning._compress import with_expanded
from lowdim.finetuning._plan import BatchNorm, Combine, Plan
from lowdim.finetuning._prefix import Inputs
from lowdim.finetuning._tuned import Average, TunedModel
from lowdim.finetuning.methods import RECORDS, ensemble_adapt
from lowdim.models import Feature, fingerprint, unwrapped
from lowdim.models._hub import cached_or_downloaded
from lowdim.models._load import load_model
from lowdim.probe import Known

FORMAT = "lowdim-delta"
VERSION = 1
DELTA_FILES = _JSON, _TENSORS = "delta.json", "delta.safetensors"
_HUB = "hf:"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MEANS, _USUAL = "known/means", "known/usual"
_TOLERANCE = 1e-2
"""Of the largest output that a delta remembers: other devices and their reduced precisions stay well below."""


@dataclass(frozen=True)
class Delta:
    """A delta as read from its folder.

    Attributes:
        method: As the user asked for it, ``"ensemble"`` included.
        plans: What each part trained; several parts are averaged.
        weights: Powers of their probabilities, which are multiplied; empty for their mean.
        classes: Names of the outputs.
        preprocessing: Of the base, as `Preprocessing.as_dict`.
        base: ``name``, ``fingerprint`` and ``source`` (arguments of `load_model`; empty for a network given in Python).
        tensors: Changed parameters and buffers, by part and name.
        example: Shapes and types of the network's inputs for two samples.
        notes: Free facts of the run, such as its accuracy.
        feature: What the head sees; None in deltas of earlier versions, which found it by names.
        logits: Outputs for `example_of` the delta; None in deltas of earlier versions, or where they were not finite.
        known: What the training samples look like; None in deltas of earlier versions, or where the base was trained, too.
    """

    method: str
    plans: tuple[Plan, ...]
    weights: tuple[float, ...]
    classes: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    base: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    example: Mapping[str, Any]
    notes: Mapping[str, Any]
    logits: Sequence[Sequence[float]] | None = None
    feature: Feature | None = None
    known: Known | None = None


_Size = tuple[Annotated[int, msgspec.Meta(ge=1)], Annotated[int, msgspec.Meta(ge=1)]]
_Channels = tuple[float, ...]
Element = TypeVar("Element")
_Filled = Annotated[tuple[Element, ...], msgspec.Meta(min_length=1)]
_MOST = 2**28
"""Numbers in an example that a delta asks for."""


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    blocks: tuple[str, ...] = ()
    combine: Combine | None = None
    rank: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 8
    batch_norm: BatchNorm = "frozen"
    layers: tuple[str, ...] = ()
    mirror: bool = False
    head: str | None = None
    """How the head had started, in deltas of one earlier version; it means nothing afterwards."""

    def plan(self) -> Plan:
        """As `TunedModel` takes it."""
        return Plan(self.method, self.blocks, self.combine, self.rank, self.batch_norm, self.layers, self.mirror)


class _Image(msgspec.Struct, tag_field="kind", tag="image"):
    image_size: _Size | None
    channels: Literal[1, 3]
    crop: Annotated[float, msgspec.Meta(gt=0)] | msgspec.UnsetType = msgspec.UNSET
    crop_mode: Literal["center", "squash", "border"] | msgspec.UnsetType = msgspec.UNSET
    interpolation: Interpolation | msgspec.UnsetType = msgspec.UNSET
    mean: _Channels | msgspec.UnsetType = msgspec.UNSET
    std: tuple[Annotated[float, msgspec.Meta(gt=0)], ...] | msgspec.UnsetType = msgspec.UNSET
    resize: _Size | None = None
    processor: dict[str, Any] | None = None
    """Instead of all from `crop` to `std`."""

    def __post_init__(self) -> None:
        for size in (self.image_size, self.resize):
            if size is not None and math.prod(size) > MAX_PIXELS // 4:
                raise ValueError(
                    f"image_size and resize of {size[0]} x {size[1]} pixels are larger than any that is made"
                )
        if self.processor is not None:
            return
        for name in ("crop", "crop_mode", "interpolation", "mean", "std"):
            if getattr(self, name) is msgspec.UNSET:
                raise ValueError(f"the key {name!r} is missing")
        assert isinstance(self.mean, tuple) and isinstance(self.std, tuple)
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must have {self.channels} values, one per channel")


class _Text(msgspec.Struct, tag_field="kind", tag="text"):
    max_length: Annotated[int, msgspec.Meta(ge=1)] | None
    tokenizer: str


class _Features(msgspec.Struct, tag_field="kind", tag="features"):
    pass


class _Feature(msgspec.Struct):
    layer: str
    pool: Pool
    width: int
    why: str
    heads: tuple[str, ...] = ()
    prefix: int = 0
    tokens: int = 0
    channels: dict[str, Literal[1, 3]] = {}
    filled: bool = False
    outputs: int = 0
    blocks: Pool = "avg"

    def feature(self) -> Feature:
        """As `TunedModel` takes it."""
        return Feature(**msgspec.structs.asdict(self))


class _Source(msgspec.Struct):
    spec: str = ""
    weights: str | None = None
    arguments: dict[str, Any] = {}
    random_weights: bool = False
    allow_pickle: bool = False
    offline: bool = False
    mean: _Channels | None = None
    std: _Channels | None = None
    image_size: int | _Size | None = None
    feature: str | None = None
    pool: Pool | None = None


class _Base(msgspec.Struct):
    name: str
    fingerprint: str
    source: _Source


class _Tensor(msgspec.Struct):
    shape: _Filled[Annotated[int, msgspec.Meta(ge=1)]]
    dtype: Literal[
        "torch.float16", "torch.bfloat16", "torch.float32", "torch.float64", "torch.bool", "torch.uint8", "torch.int32", "torch.int64"
    ]  # fmt: skip
    below: Annotated[int, msgspec.Meta(ge=1)] = 1

    def __post_init__(self) -> None:
        if math.prod(self.shape) > _MOST:
            raise ValueError(f"an example of shape {list(self.shape)} is larger than any network takes")


class _Content(msgspec.Struct):
    """What a delta's JSON must hold; of what is free (arguments, notes), and of settings of later versions, nothing is said."""

    method: str
    parts: _Filled[_Part]
    classes: _Filled[str]
    preprocessing: _Image | _Text | _Features
    base: _Base
    example: dict[str, _Tensor]
    tensors: str
    notes: dict[str, Any] = {}
    logits: list[list[float]] | None = None
    feature: _Feature | None = None
    weights: tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...] | None = None

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.parts):
            raise ValueError("there must be one weight per part")
        if self.logits is not None and any(len(row) != len(self.classes) for row in self.logits):
            raise ValueError("the outputs in logits must have one number per class")
        if not self.example:
            raise ValueError("the example must name an input")


def tuned_parts(model: nn.Module) -> list[TunedModel]:
    """The networks that a tuned model averages; one unless it is an `Average`."""
    parts = list(model.parts) if isinstance(model, Average) else [model]
    assert all(isinstance(part, TunedModel) for part in parts)
    return parts  # pyright: ignore[reportReturnType]


def save_delta(
    model: nn.Module,
    base: nn.Module,
    folder: Path,
    *,
    method: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    example: Inputs,
    name: str = "",
    source: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    factors: Sequence[Mapping[str, Tensor]] = (),
    known: Known | None = None,
) -> int:
    """Writes the trained tensors, the head and the buffers that changed. It is not verified yet: see `verify_delta`.

    Args:
        model: A `TunedModel` or an `Average`.
        base: The network before tuning.
        folder: Receives ``delta.json`` and ``delta.safetensors``.
        method: What the user asked for.
        classes: Names of the outputs.
        preprocessing: Of the base.
        example: A batch of inputs; only shapes and types are kept, and of token ids a bound.
        name: Of the base.
        source: Arguments with which `load_model` finds the base again.
        notes: Facts to keep with it.
        factors: Per part, low-rank updates from `compress`, stored instead of their matrices.
        known: What the training samples look like.

    Returns:
        Bytes of both files.

    Example:
        >>> import tempfile
        >>> network, inputs = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.ones(2, 4)
        >>> model = TunedModel(network, Plan("linear-probe"), classes=2, example=inputs).eval()
        >>> about = {"method": "linear-probe", "classes": ["cat", "dog"], "preprocessing": Preprocessing(kind="features")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = save_delta(model, network, Path(folder), example=inputs, **about)
        ...     load_delta(network, folder)(inputs).equal(model(inputs))
        True
    """
    parts = tuned_parts(model)
    arrays: dict[str, np.ndarray] = {}
    for index, part in enumerate(parts):
        low = factors[index] if factors else {}
        full = {key: tensor for key, tensor in _changed(part, base).items() if f"{key}@left" not in low}
        arrays |= {f"{index}/{key}": tensor.detach().cpu().numpy() for key, tensor in {**full, **low}.items()}
    if known is not None:
        usual = np.append(known.usual, known.threshold)
        arrays |= {_MEANS: known.means.astype(np.float32), _USUAL: usual}
    save_tensors(folder / _TENSORS, arrays)
    shapes, device = _shapes(example), next(model.parameters()).device
    content = {
        "format": FORMAT,
        "version": VERSION,
        "method": method,
        "parts": [part.plan.as_dict() for part in parts],
        "weights": list(model.weights) if isinstance(model, Average) else [],
        "classes": list(classes),
        "preprocessing": preprocessing.as_dict(),
        "base": {"name": name, "fingerprint": fingerprint(base), "source": dict(source or {})},
        "feature": {name: getattr(parts[0].feature, name) for name in _Feature.__struct_fields__},
        "example": shapes,
        "logits": _logits(model, _inputs(shapes, device)),
        "notes": dict(notes or {}),
        "tensors": sha256(folder / _TENSORS),
    }
    write_checked(folder / _JSON, content)
    return sum((folder / file).stat().st_size for file in (_JSON, _TENSORS))


def read_delta(path: Path) -> Delta:
    """Reads and checks a delta; nothing is loaded into a network yet.

    Args:
        path: The folder; ``hf:ORG/NAME`` is one of the Hugging Face hub, ``hf:DIR`` a local copy of such a one.

    Raises:
        InputError: If it is not a delta, is damaged by a single bit, or was made by a newer lowdim.

    Example:
        >>> import tempfile
        >>> from lowdim import finetune, load_data, load_model
        >>> base, data = load_model("digits-0-4"), load_data("digits-5-9", shots=4)
        >>> tuned = finetune(base, data, method="linear-probe")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = tuned.save(Path(folder), base)
        ...     delta = read_delta(Path(folder))
        >>> delta.method, delta.classes
        ('linear-probe', ('5', '6', '7', '8', '9'))
    """
    path = delta_folder(path)
    if not (path / _JSON).is_file():
        raise InputError(f"{path} is no delta: {_JSON} is missing. Give the folder that `lowdim finetune` printed.")
    remedy = "Save the delta again."
    content = read_json(path / _JSON, remedy=remedy)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path / _JSON} is not a lowdim delta.")
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} is a delta of format {content.get('version')}, but this lowdim reads format {VERSION}. Update lowdim."
        )
    content = read_checked(path / _JSON, remedy=remedy)
    found = typed(content, _Content, str(path / _JSON))
    arrays, _ = load_tensors(path / _TENSORS)
    if sha256(path / _TENSORS) != found.tensors:
        raise InputError(f"{path / _TENSORS} does not belong to {_JSON}. Save the delta again.")
    unknown = sorted({part.method for part in found.parts} - set(RECORDS))
    if unknown:
        raise InputError(
            f"{path} was tuned with the method {unknown[0]!r}, which this lowdim does not have. Update lowdim."
        )
    strange = sorted(content["base"]["source"].keys() - inspect.signature(load_model).parameters.keys())
    if strange:
        raise InputError(
            f"{path / _JSON}: base.source has a key {strange[0]!r}, which this lowdim does not know. Update lowdim."
        )
    known = _known(arrays, len(found.classes), path / _TENSORS)
    return Delta(
        method=found.method,
        plans=tuple(part.plan() for part in found.parts),
        weights=_weights(found),
        classes=found.classes,
        preprocessing=content["preprocessing"],
        base=content["base"],
        tensors=arrays,
        example=content["example"],
        notes=found.notes,
        logits=found.logits,
        feature=None if found.feature is None else found.feature.feature(),
        known=known,
    )


def _weights(found: _Content) -> tuple[float, ...]:
    """Deltas of earlier versions do not say it."""
    if found.weights is not None:
        return found.weights
    before = tuple(part.method for part in found.parts) == ensemble_adapt.METHOD.parts
    return ensemble_adapt.EARLIER_WEIGHTS if before else ()


def _known(arrays: Mapping[str, np.ndarray], classes: int, file: Path) -> Known | None:
    if _MEANS not in arrays and _USUAL not in arrays:
        return None
    means, usual = arrays.get(_MEANS, np.empty(0)), arrays.get(_USUAL, np.empty(0))
    if means.ndim != 2 or len(means) != classes or usual.shape != (5,) or not np.isfinite(usual).all():
        raise InputError(f"{file} does not describe the known samples of {classes} classes. Save the delta again.")
    return Known(means.astype(np.float64), usual[:4].reshape(2, 2), float(usual[4]))


def delta_folder(path: Path) -> Path:
    """Where the files of a delta lie: in the folder, in the run folder that holds it, downloaded from the hub, or from its cache, where the path says ``hf:``."""
    name = str(path)
    if not name.startswith(_HUB):
        path = path.parent if path.name == _JSON else path
        inside = path / "delta"  # of a run folder
        return inside if (inside / _JSON).is_file() and not (path / _JSON).exists() else path
    name = name.removeprefix(_HUB)
    if Path(name).is_dir():
        return Path(name)
    if not HUB_NAME.fullmatch(name):
        raise InputError(f"{path} is neither a folder nor hf:ORG/NAME, a delta of the hub.")
    content, _ = (cached_or_downloaded(name, file, offline=False) for file in DELTA_FILES)
    return content.parent


def beside_delta(path: Path) -> Path:
    """Where what is made from a delta goes: its run folder; the current one for a delta of the hub."""
    return Path() if str(path).startswith(_HUB) else delta_folder(path).resolve().parent


def delta_bytes(path: Path) -> int:
    """What the files of a delta weigh."""
    return sum((delta_folder(path) / file).stat().st_size for file in DELTA_FILES)


@checked_arguments
def load_delta(model: nn.Module, path: str | Path) -> nn.Module:
    """The tuned network: the base with a delta applied.

    Args:
        model: The base that the delta was made from, with the same weights; it is copied and left alone.
        path: Folder of the delta, or ``hf:ORG/NAME``.

    Returns:
        A network in evaluation mode whose outputs are logits (of an ensemble: log probabilities) of the delta's classes.

    Raises:
        InputError: If the delta is damaged, made by a newer lowdim, or for another network.

    Example:
        >>> import tempfile
        >>> from lowdim import finetune, load_data, load_model
        >>> base, data = load_model("digits-0-4"), load_data("digits-5-9", shots=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = finetune(base, data, method="linear-probe").save(Path(folder), base)
        ...     model = load_delta(base.module, folder)
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 5])
    """
    return apply_delta(model, read_delta(Path(path)))


def apply_delta(model: nn.Module, delta: Delta) -> nn.Module:
    """`load_delta` for a delta that was read already."""
    network = _applied(model, delta)
    if delta.logits is not None:
        _check_outputs(network, delta)
    return network


def _applied(model: nn.Module, delta: Delta) -> nn.Module:
    model = unwrapped(model)
    given = fingerprint(model)
    if given != delta.base["fingerprint"]:
        raise InputError(
            f"This delta was made from {delta.base['name'] or 'a network'} with fingerprint {delta.base['fingerprint'][:12]}…, but "
            f"the network given has {given[:12]}…. Use the same architecture and weights."
        )
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    feature = delta.feature or feature_by_names(model)
    parts: list[TunedModel] = []
    names = {name for name, _ in model.named_modules()}
    for index, plan in enumerate(delta.plans):
        if strange := {*plan.blocks, *plan.layers, *feature.modules()} - names:
            raise InputError(f"The delta names the module {strange.pop()!r}, which the network does not have.")
        part = TunedModel(model, plan, len(delta.classes), _inputs(delta.example, device), feature=feature)
        state = part.state_dict()
        stored = {key.partition("/")[2]: array for key, array in delta.tensors.items() if key.startswith(f"{index}/")}
        for name, tensor in with_expanded(stored, state).items():
            if name not in state or state[name].shape != tensor.shape:
                raise InputError(
                    f"The delta holds {name} {tuple(tensor.shape)}, which the network does not have in this form."
                )
            state[name] = tensor
        part.load_state_dict(state)
        parts.append(part.eval())
    return parts[0] if len(parts) == 1 else Average(*parts, weights=delta.weights).eval()


def _check_outputs(network: nn.Module, delta: Delta) -> None:
    """Weights do not say everything about a network: its code and options decide what it does with them."""
    expected = torch.tensor(delta.logits, dtype=torch.float64)
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    tolerance = max(_TOLERANCE, *(8 * torch.finfo(parameter.dtype).eps for parameter in parameters))
    logits = _logits(network, _inputs(delta.example, parameters[0].device))
    now = torch.tensor(logits or [], dtype=torch.float64)
    if now.shape == expected.shape and (now - expected).abs().max() <= tolerance * expected.abs().max():
        return
    raise InputError(
        f"The base has the same weights, but other outputs than {delta.base['name'] or 'the network'} had when this delta was made. Load "
        "it as it was then: the same options (such as pooling or activation), the same code."
    )


def _logits(model: nn.Module, inputs: Inputs) -> list[list[float]] | None:
    """Outputs in evaluation mode, if they are finite."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        outputs = model(inputs).float().cpu()
    model.train(training)
    return outputs.tolist() if bool(outputs.isfinite().all()) else None


def tuned_preprocessing(delta: Delta, base: Preprocessing) -> tuple[Preprocessing, list[str]]:
    """How the samples were prepared that a delta was tuned with, by the tokenizer of the base as it is now; and a warning where the
    base has another preprocessing now."""
    # Where a delta names no processor, the settings themselves say how images were prepared.
    named = {"processor": None} if delta.preprocessing["kind"] == "image" else {}
    then, now = {**named, **delta.preprocessing}, {**named, **base.as_dict()}
    if then["kind"] != now["kind"]:
        raise InputError(
            f"This delta was tuned with {then['kind']} inputs, but the base takes {now['kind']}. Name another."
        )
    unknown = sorted(then.keys() - {entry.name for entry in fields(Preprocessing)})
    if unknown:
        raise InputError(
            f"The delta's preprocessing has settings that this lowdim does not know: {unknown}. Update lowdim."
        )
    flat = _flat(now)
    changed = [
        f"{name} is {flat.get(name)}, was {value}" for name, value in _flat(then).items() if flat.get(name) != value
    ]
    warning = f"The base prepares samples in another way than when the delta was tuned: {'; '.join(changed)}. The delta's way is used"
    exception = ", with the base's tokenizer" if "tokenizer" in then else ""
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in then.items()}
    settings.pop("tokenizer", None)
    try:
        prepared = replace(base, **settings)
    except (InputError, TypeError) as error:
        raise InputError(f"The delta's preprocessing cannot be used. {error}") from error
    return prepared, [f"{warning}{exception}."] if changed else []


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of a processor among them."""
    return {name: value for name, value in settings.items() if name != "processor"} | dict(
        settings.get("processor") or {}
    )


def verify_delta(model: nn.Module, fresh: nn.Module, folder: Path, inputs: Inputs) -> None:
    """Loads the saved delta on a fresh base and compares the outputs bit for bit with those of the tuned network in memory."""
    again = _applied(fresh, read_delta(folder))
    model.eval()
    with torch.inference_mode():
        expected, reloaded = model(inputs), again(inputs)
    if not torch.equal(expected, reloaded):
        difference = float((expected - reloaded).abs().max())
        raise InputError(
            f"The delta in {folder} does not give the tuned network back (largest difference {difference:.3g}). Does the network's "
            "code change its weights or buffers outside training?"
        )


def _changed(part: TunedModel, base: nn.Module) -> dict[str, Tensor]:
    """Trained tensors, and all others that a fresh base would not have."""
    trained = set(part.trained())
    original = {f"base.{name}": tensor for name, tensor in base.state_dict().items()}
    changed: dict[str, Tensor] = {}
    for name, tensor in part.state_dict().items():
        # Adapters wrap a layer and move its weight to an inner name.
        before = original.get(name.replace(".base_layer.", "."))
        if name in trained or before is None or not torch.equal(before.to(tensor), tensor):
            changed[name] = tensor
    return changed


def example_of(delta: Delta) -> Inputs:
    """Inputs of the shape that a delta's network takes: normally distributed images, small token ids without padding."""
    return _inputs(delta.example, torch.device("cpu"))


_IDS = 100
"""Token ids are below, and no larger than the largest in the batch that was seen: a vocabulary may be smaller."""


def _shapes(inputs: Inputs) -> dict[str, Any]:
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    shapes: dict[str, Any] = {
        name: {"shape": [2, *tensor.shape[1:]], "dtype": str(tensor.dtype)} for name, tensor in named.items()
    }
    if "input_ids" in named:
        ids = named["input_ids"]
        shapes["input_ids"]["below"] = min(_IDS, int(ids.max()) + 1)
        mask = named.get("attention_mask", torch.ones_like(ids))
        ends = {int(row[kept > 0][-1]) for row, kept in zip(ids, mask, strict=True)}
        if len(ends) == 1 and ids.shape[1] > 1:
            shapes["input_ids"]["end"] = ends.pop()
    return shapes


def _inputs(shapes: Mapping[str, Any], device: torch.device) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def make(name: str, entry: Mapping[str, Any]) -> Tensor:
        dtype = getattr(torch, entry["dtype"].removeprefix("torch."))
        if dtype.is_floating_point:
            return torch.randn(entry["shape"], generator=generator, dtype=dtype)
        if name == "input_ids":
            ids = torch.randint(0, entry.get("below", _IDS), entry["shape"], generator=generator, dtype=dtype)
            if "end" in entry:
                # Some classifiers read the one token that ends a text.
                ids[ids == entry["end"]] = 1 if entry["end"] == 0 else entry["end"] - 1
                ids[:, -1] = entry["end"]
            return ids
        return torch.full(entry["shape"], int("mask" in name), dtype=dtype)

    tensors = {name: make(name, entry).to(device) for name, entry in shapes.items()}
    return tensors.get("", tensors)
