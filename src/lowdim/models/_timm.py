"""Vision networks of timm: hub weights, a local folder, or a weights file for a named architecture."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError, UsageError, did_you_mean, require
from lowdim.models._hub import cached_or_downloaded
from lowdim.models._weights import load_strictly, matched, misfit, read_weights, renamed

_LOCAL = "local-dir:"


def load_timm(
    name: str,
    *,
    weights: Path | None,
    arguments: dict[str, Any],
    random_weights: bool,
    allow_pickle: bool,
    offline: bool,
    image_size: tuple[int, int] | None,
    weights_key: str | None = None,
) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """A timm network and its own evaluation preprocessing.

    Returns:
        The network, its preprocessing, and what was done to make the file fit.

    Raises:
        UsageError: If the name or an argument is unknown.
        InputError: If the weights are missing or do not fit.
    """
    timm = require("timm", "A timm model")
    if name.startswith(_LOCAL):
        folder = Path(name.removeprefix(_LOCAL)).expanduser().resolve()
        weights = weights or _local_weights(folder)
        name = f"{_LOCAL}{folder}"
        fixed = False
    else:
        _check_name(timm, name)
        configuration = timm.get_pretrained_cfg(name)
        fixed = bool(configuration and configuration.fixed_input_size)
        if weights is None and not random_weights:
            hub_id = configuration.hf_hub_id if configuration else None
            if not hub_id:
                raise InputError(
                    f"timm has no pre-trained weights for {name}. Give `weights=FILE` or `random_weights=True`."
                )
            weights = cached_or_downloaded(hub_id, "model.safetensors", offline=offline)
    loaded = (
        None if random_weights or weights is None else read_weights(weights, allow_pickle=allow_pickle, key=weights_key)
    )
    if fixed and image_size is not None:
        arguments = {"img_size": image_size, **arguments}
    module = _build(timm, name, loaded, arguments)
    notes = () if loaded is None else _load(module, loaded, str(weights))
    return module.eval(), timm_preprocessing(module), notes


def _local_weights(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no timm model folder: config.json is missing.")
    known = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    found = [folder / name for name in known if (folder / name).is_file()]
    if not found:
        raise InputError(f"{folder} holds no model.safetensors.")
    return found[0]


def _check_name(timm: Any, name: str) -> None:
    stem = name.split(".")[0]
    if not timm.is_model(stem):
        raise UsageError(f"timm has no model {stem!r}. {did_you_mean(stem, timm.list_models())}")


def _build(timm: Any, name: str, weights: dict[str, Tensor] | None, arguments: dict[str, Any]) -> nn.Module:
    if "checkpoint_path" in arguments:
        raise UsageError("Name a weights file with `weights=FILE`, which is read safely, not with checkpoint_path.")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = timm.create_model(name, pretrained=False, **arguments)
            classes = _classes_in(module, weights)
            if classes is not None and classes != module.num_classes and "num_classes" not in arguments:
                torch.manual_seed(0)
                module = timm.create_model(name, pretrained=False, **{**arguments, "num_classes": classes})
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UsageError(f"timm cannot build {name} with {arguments}: {error}") from error
    return module


def _classes_in(module: nn.Module, weights: dict[str, Tensor] | None) -> int | None:
    """The outputs of the classifier that the file holds (0 where it holds none), None where it cannot be told."""
    classifier = module.pretrained_cfg.get("classifier")  # type: ignore[union-attr]
    if weights is None or not isinstance(classifier, str):
        return None
    weight = renamed(weights, module.state_dict())[0].get(f"{classifier}.weight")
    return 0 if weight is None else weight.shape[0]


def _load(module: nn.Module, weights: dict[str, Tensor], where: str) -> tuple[str, ...]:
    found, notes = matched(module, weights)
    if misfit(module, found):
        # timm knows older names of an architecture and resamples position embeddings to another input size.
        home = sys.modules[type(module).__module__]
        convert = getattr(home, "checkpoint_filter_fn", None)
        if convert is not None:
            return tuple(dict.fromkeys((*notes, *load_strictly(module, convert(found, module), where))))
    return load_strictly(module, weights, where)


def timm_preprocessing(module: nn.Module) -> Preprocessing:
    """The evaluation transform that timm resolves for a network, as a `Preprocessing`."""
    from timm.data.config import resolve_model_data_config

    config = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    return Preprocessing(
        image_size=(height, width),
        crop=float(config["crop_pct"]),
        crop_mode=config["crop_mode"] if config["crop_mode"] in ("squash", "border") else "center",
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=channels,
    )
