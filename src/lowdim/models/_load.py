"""From what a person types to a network."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lowdim._arguments import checked_arguments
from lowdim._files import read_json
from lowdim._preprocessing import Preprocessing, preprocessing_with
from lowdim.errors import InputError, UsageError, did_you_mean
from lowdim.features import Pool
from lowdim.models._digits import DIGITS_CLASSES, DIGITS_PREPROCESSING, digits_network
from lowdim.models._hf import load_hf, load_text_encoder
from lowdim.models._loaded import LoadedModel, fingerprint, unwrapped
from lowdim.models._python import drawn_anew, load_factory
from lowdim.models._timm import load_timm
from lowdim.models._weights import PICKLES, load_strictly, read_weights


def runs_code(spec: str) -> bool:
    """Whether loading a model of this name runs Python code that the name chooses.

    Args:
        spec: As for `load_model`.

    Example:
        >>> runs_code("timm:resnet18"), runs_code("nets.py:build"), runs_code("os:system")
        (False, True, True)
    """
    return not (spec in DIGITS_CLASSES or spec == "features" or with_form(spec).startswith(("timm:", "hf:")))


@checked_arguments
def load_model(
    spec: str | os.PathLike[str],
    *,
    name: str | None = None,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    random_weights: bool = False,
    allow_pickle: bool = False,
    offline: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | tuple[int, int] | None = None,
    feature: str | None = None,
    pool: Pool | None = None,
) -> LoadedModel:
    """A network in evaluation mode, with its own preprocessing, from its name.

    Args:
        spec: ``digits`` (also ``digits-0-4``, ``digits-split``), ``timm:NAME``, ``timm:local-dir:DIR``, ``hf:ORG/NAME``,
            ``hf:DIR`` (a folder alone: as its config.json has it), ``FILE.py:FACTORY`` or ``MODULE:FACTORY`` (runs that code), or ``features`` for data that already is
            features.
        name: Shown in results instead of ``spec``.
        weights: A local weights file for that architecture (safetensors, the index of several, or a pickle); it must fit exactly.
            Prefixes of what wrapped the network, tied weights and counters of batches are put right, and named in `notes`.
        weights_key: Which table of a file that holds several, such as ``state_dict_ema`` or ``teacher``.
        arguments: Keyword arguments of the factory, of ``timm.create_model`` or of the transformers configuration.
        random_weights: Draw untrained weights (seed 0).
        allow_pickle: Permit pickled weights files, tensors only.
        offline: Never use the network; hub models come from the cache.
        mean: Per channel, of inputs in 0..1, instead of the model's own.
        std: The same.
        image_size: One side, or height and width, instead of the model's own.
        feature: The layer whose output is the feature (``NAME``, or ``NAME:input`` for what goes into it), instead of what the
            network's classifier reads.
        pool: How the feature's tokens or maps become one row per sample, instead of what the network does.

    Returns:
        The network with its preprocessing and fingerprint. The global random generators are left alone.

    Raises:
        UsageError: If the spec, an option or an argument is wrong.
        InputError: If the model or its weights are missing, damaged or do not fit.

    Example:
        >>> model = load_model("digits")
        >>> model.preprocessing.describe()
        'grey 8 x 8 (crop 1, center, bilinear), mean 0, std 1'
    """
    spec = with_form(os.fspath(spec))
    source = {
        "spec": _absolute(spec),
        "weights": None if weights is None else str(Path(weights).expanduser().resolve()),
        "weights_key": weights_key,
        "arguments": dict(arguments or {}),
        "random_weights": random_weights,
        "allow_pickle": allow_pickle,
        "offline": offline,
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
        "image_size": image_size,
        "feature": feature,
        "pool": pool,
    }
    if random_weights and weights is not None:
        raise UsageError("Give a weights file or ask for random weights, not both.")
    if weights_key is not None and weights is None:
        raise UsageError("A key chooses among the tables of a weights file. Give one with `weights`.")
    loaded = _load(source)
    preprocessing = preprocessing_with(loaded.preprocessing, mean=mean, std=std, image_size=image_size)
    return replace(loaded, name=name or spec, preprocessing=preprocessing)


def text_encoder(network: LoadedModel) -> tuple[Callable[[list[str]], Tensor], float]:
    """The text side of a CLIP-type network.

    Args:
        network: ``hf:`` CLIP.

    Returns:
        A function from sentences to their features (``n x d``, not normalised), and the scale of the logits.

    Raises:
        InputError: If the network has none.
    """
    spec = network.source["spec"]
    if not spec.startswith("hf:") or network.random_weights:
        raise InputError(
            f"{network.name} has no trained text encoder; zero-shot needs a CLIP model (hf:…), or the text features of the "
            "classes with `text_features`."
        )
    return load_text_encoder(
        spec.removeprefix("hf:"), allow_pickle=network.source["allow_pickle"], offline=network.source["offline"]
    )


def with_form(spec: str) -> str:
    """A folder with the form that its own description has."""
    file = Path(spec).expanduser() / "config.json"
    if spec in ("", "features", *DIGITS_CLASSES) or not file.is_file():
        return spec
    described = read_json(file)
    found: set[str] = set(described) if isinstance(described, dict) else set()
    known = (form for key, form in (("architecture", "timm:local-dir:"), ("model_type", "hf:")) if key in found)
    return f"{next(known, '')}{spec}"


def _absolute(spec: str) -> str:
    """The spec with its file or folder as an absolute path, so that it is found from elsewhere too."""
    for prefix in ("timm:local-dir:", "hf:"):
        path = Path(spec.removeprefix(prefix)).expanduser()
        if spec.startswith(prefix) and path.is_dir():
            return f"{prefix}{path.resolve()}"
    where, colon, factory = spec.rpartition(":")
    if where.endswith(".py"):
        return f"{Path(where).expanduser().resolve()}{colon}{factory}"
    return spec


def _load(source: dict[str, Any]) -> LoadedModel:
    spec, arguments, weights, pool = source["spec"], source["arguments"], source["weights"], source["pool"]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    file = None if weights is None else Path(weights)
    untrained = source["random_weights"]
    if spec in DIGITS_CLASSES or spec == "features":
        if arguments:
            raise UsageError(f"{spec} takes no model arguments.")
        module, preprocessing, classes = _embedded(spec, source["random_weights"])
    elif spec.startswith("timm:"):
        size = source["image_size"]
        module, preprocessing, notes = load_timm(
            spec.removeprefix("timm:"),
            weights=file,
            arguments=arguments,
            random_weights=source["random_weights"],
            allow_pickle=source["allow_pickle"],
            offline=source["offline"],
            image_size=(size, size) if isinstance(size, int) else size,
            weights_key=source["weights_key"],
        )
        file = None
    elif spec.startswith("hf:"):
        module, preprocessing, classes, notes, pool = load_hf(
            spec.removeprefix("hf:"),
            random_weights=source["random_weights"],
            allow_pickle=source["allow_pickle"],
            offline=source["offline"],
            arguments=arguments,
            pool=pool,
        )
    elif ":" in spec:
        module, preprocessing = load_factory(spec, arguments)
        module = unwrapped(module)
        if untrained:
            raise UsageError(f"{spec} decides about its own weights; `random_weights` does not apply.")
        drawn = drawn_anew(spec, arguments, module) if file is None else []
        untrained = drawn is None
        if drawn:
            notes = (
                f"{spec} draws some weights at random, untrained: {', '.join(drawn[:3])}{' …' * (len(drawn) > 3)}",
            )
    else:
        raise _unknown(spec)
    if file is not None:
        found = read_weights(file, allow_pickle=source["allow_pickle"], key=source["weights_key"])
        # What the network's own file lacked, this one has.
        notes = load_strictly(module, found, str(file))
    return LoadedModel(
        name=spec,
        module=module.eval(),
        preprocessing=preprocessing,
        classes=classes,
        random_weights=untrained,
        fingerprint=fingerprint(module),
        source=source,
        notes=notes,
        layer=source["feature"],
        pool=pool,
    )


def _embedded(spec: str, random_weights: bool) -> tuple[nn.Module, Preprocessing, tuple[str, ...] | None]:
    if spec == "features":
        return nn.Sequential(OrderedDict(features=nn.Identity())), Preprocessing(kind="features"), None
    return digits_network(spec, seed=0 if random_weights else None), DIGITS_PREPROCESSING, DIGITS_CLASSES[spec]


def _unknown(spec: str) -> InputError | UsageError:
    if Path(spec).suffix == ".py":
        return UsageError(f"Which function of {spec} makes the network? Write {spec}:FUNCTION.")
    if Path(spec).is_dir():
        return UsageError(
            f"{spec} is a folder: write timm:local-dir:{spec} if timm or the hub's download made it, hf:{spec} if `save_pretrained` did."
        )
    if Path(spec).suffix.lower() in {".safetensors", ".onnx", ".pt2", ".pkl", *PICKLES}:
        return UsageError(
            f"{spec} holds weights, and not the code that they are for. Name the network, timm:NAME or FILE.py:FUNCTION, and this file as its "
            "weights (in a TOML file of candidates as weights = 'FILE')."
        )
    return UsageError(
        f"{spec!r} is no model lowdim knows. {did_you_mean(spec, [*DIGITS_CLASSES, 'features'])} "
        "Or write timm:NAME, timm:local-dir:DIR, hf:ORG/NAME, hf:DIR or FILE.py:FUNCTION."
    )
