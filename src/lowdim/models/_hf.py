"""Text and vision encoders of transformers, from the hub or a folder."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError, UsageError, require
from lowdim.models._hub import announce

_MAX_LENGTH = 512
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def load_hf(
    name: str, *, random_weights: bool, allow_pickle: bool, offline: bool, arguments: dict[str, Any]
) -> tuple[nn.Module, Preprocessing, tuple[str, ...] | None, tuple[str, ...]]:
    """An encoder, with its classifier where the checkpoint has one.

    Args:
        name: ``ORG/NAME`` or a folder.
        random_weights: Draw weights (seed 0) instead of loading any.
        allow_pickle: Permit a checkpoint without safetensors (tensors only).
        offline: Use the cache only.
        arguments: Overrides of the model's configuration.

    Returns:
        The network, its preprocessing, class names where the classifier has them, and notes.

    Raises:
        InputError: If the model cannot be found, or its file lacks weights.
    """
    if "trust_remote_code" in arguments:
        raise UsageError("lowdim never runs code that comes with a model of the hub; leave trust_remote_code out.")
    transformers = require("transformers", "A transformers model")
    folder = Path(name).expanduser()
    location = str(folder.resolve()) if folder.is_dir() else name
    local = folder.is_dir() or offline or not _announce(name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            location, local_files_only=local, trust_remote_code=False, **arguments
        )
        factory = _factory(transformers, config)
        if config.model_type == "clip":
            # The image side alone; its projection has the width that both sides share.
            config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
        if random_weights:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module, missing = _untrained(factory, config), []
        else:
            module, missing = _pretrained(factory, location, config, local=local, allow_pickle=allow_pickle)
        preprocessing = _preprocessing(transformers, location, config, local)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"hf:{name} cannot be loaded: {reason}") from error
    classes = None
    if factory not in (transformers.AutoModel, transformers.CLIPVisionModelWithProjection):
        classes = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        if all(label == f"LABEL_{index}" for index, label in enumerate(classes)):
            classes = None
    notes = (f"not in the checkpoint, left untrained: {', '.join(missing)}",) if missing else ()
    return module.eval(), preprocessing, classes, notes


def _announce(name: str) -> bool:
    """Whether the network is needed; says so on stderr."""
    hub = require("huggingface_hub", "A model of the hub")
    cached = (hub.try_to_load_from_cache(name, file) for file in ("model.safetensors", "model.safetensors.index.json"))
    if any(isinstance(path, str) for path in cached):
        return False
    announce(f"{name} of the hub")
    return True


def _factory(transformers: Any, config: Any) -> Any:
    if config.model_type == "clip":
        return transformers.CLIPVisionModelWithProjection
    architectures = getattr(config, "architectures", None) or [""]
    for ending, factory in (
        ("ForSequenceClassification", transformers.AutoModelForSequenceClassification),
        ("ForImageClassification", transformers.AutoModelForImageClassification),
    ):
        if architectures[0].endswith(ending):
            return factory
    return transformers.AutoModel


def _untrained(factory: Any, config: Any) -> nn.Module:
    return factory.from_config(config, trust_remote_code=False) if hasattr(factory, "from_config") else factory(config)


def _pretrained(
    factory: Any, location: str, config: Any, *, local: bool, allow_pickle: bool
) -> tuple[nn.Module, list[str]]:
    # What a file lacks (an untrained pooler) is drawn at random: it must be the same network at every load.
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, info = factory.from_pretrained(
            location,
            config=config,
            local_files_only=local,
            trust_remote_code=False,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    # An encoder without a trained pooler is common, and no layer that is measured depends on it.
    if any("pooler" not in key for key in missing):
        raise InputError(f"the weights of {location} lack {', '.join(missing[:3])}; is it for another architecture?")
    return module, missing


@contextmanager
def _quiet() -> Generator[None]:
    """Without a progress bar, and without the list of weights that the other half of a checkpoint has left over."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _preprocessing(transformers: Any, location: str, config: Any, local: bool) -> Preprocessing:
    if hasattr(config, "vision_config") or hasattr(config, "patch_size") or hasattr(config, "num_channels"):
        processor = transformers.AutoImageProcessor.from_pretrained(
            location, local_files_only=local, trust_remote_code=False
        )
        return image_preprocessing(processor.to_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(location, local_files_only=local, trust_remote_code=False)
    longest = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", _MAX_LENGTH), _MAX_LENGTH)
    return Preprocessing(kind="text", max_length=int(longest), tokenizer=tokenizer)


def image_preprocessing(settings: dict[str, Any]) -> Preprocessing:
    """What a transformers image processor does, as a `Preprocessing`.

    Args:
        settings: The processor's ``to_dict()``.
    """
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    crops = settings.get("do_center_crop")
    shortest = size.get("shortest_edge")
    resized = (shortest, shortest) if shortest else (size["height"], size["width"])
    final = (crop["height"], crop["width"]) if crops else resized
    normalises = settings.get("do_normalize", True)
    return Preprocessing(
        image_size=final,
        resize=resized,
        crop_mode="center" if shortest else "squash",
        interpolation=_FILTERS[int(settings.get("resample", 2))],  # type: ignore[arg-type]
        mean=tuple(settings["image_mean"]) if normalises else (0.0, 0.0, 0.0),
        std=tuple(settings["image_std"]) if normalises else (1.0, 1.0, 1.0),
    )


def load_text_encoder(name: str, *, allow_pickle: bool, offline: bool) -> tuple[Callable[[list[str]], Tensor], float]:
    """The text side of a CLIP checkpoint.

    Args:
        name: ``ORG/NAME`` or a folder.
        allow_pickle: Permit a checkpoint without safetensors (tensors only).
        offline: Use the cache only.

    Returns:
        A function from sentences to their features (``n x d``, not normalised), and the scale of the logits.

    Raises:
        InputError: If the checkpoint has no text side.
    """
    transformers = require("transformers", "A transformers model")
    folder = Path(name).expanduser()
    location = str(folder.resolve()) if folder.is_dir() else name
    local = folder.is_dir() or offline
    try:
        config = transformers.AutoConfig.from_pretrained(location, local_files_only=local, trust_remote_code=False)
        if config.model_type != "clip":
            raise InputError(f"hf:{name} is a {config.model_type} model; zero-shot needs CLIP, or `text_features`.")
        pretrained, _ = _pretrained(transformers.CLIPModel, location, config, local=local, allow_pickle=allow_pickle)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            location, local_files_only=local, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The text encoder of hf:{name} cannot be loaded: {str(error).strip().splitlines()[0]}"
        ) from error
    model: Any = pretrained.eval()
    longest = config.text_config.max_position_embeddings

    def encode(sentences: list[str]) -> Tensor:
        tokens = tokenizer(sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            return model.text_projection(model.text_model(**tokens).pooler_output).float()

    return encode, float(model.logit_scale.detach().exp())
