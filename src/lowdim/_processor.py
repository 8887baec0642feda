"""Image processors of transformers: settings that say everything about one, and what it makes of a picture."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from lowdim._pictures import MAX_PIXELS, require_drawable
from lowdim.errors import InputError, MissingDependencyError, require

CLASS = "image_processor_type"
_SIZES = ("size", "crop_size", "pad_size")
_SILENT = frozenset({"auto_map", "feature_extractor_type", CLASS, "processor_class", "transformers_version"})
"""Entries of a configuration that do nothing to a picture."""
_ASPECTS = ((80, 60), (48, 96))


def settings_of(processor: Any) -> dict[str, Any]:
    """The settings of a processor as JSON values; with the name of its class they give the same one again.

    Raises:
        InputError: If its configuration says something that its class does not know.
    """
    kind = type(processor)
    settings = json.loads(processor.to_json_string())
    known = kind.valid_kwargs.__annotations__.keys() | _SILENT
    unknown = [
        name
        for name, value in settings.items()
        if name not in known and not name.startswith("_") and not hasattr(kind, name) and value not in (None, False)
    ]
    if unknown:
        raise InputError(
            f"preprocessor_config.json asks for {', '.join(unknown)}, which {kind.__name__} does not know and would leave out. "
            "Remove what has no effect on a picture, or name the right class of processor there."
        )
    return {**settings, CLASS: kind.__name__}


def _check_sizes(settings: Mapping[str, Any]) -> None:
    """Raises an error if pictures would become larger than is drawn."""
    for name in _SIZES:
        size = settings.get(name) or {}
        edges = [size[edge] for edge in ("height", "width") if edge in size] or [size.get("shortest_edge") or 1] * 2
        if min(edges) < 1 or math.prod(edges) > MAX_PIXELS // 4:
            raise InputError(
                f"The {name} {size} of {settings[CLASS]} must be at least 1 and at most {MAX_PIXELS // 4_000_000} million pixels."
            )


def processed(settings: Mapping[str, Any], image: Image.Image) -> np.ndarray:
    """What a network with this processor sees of a picture: float32, channels x height x width.

    Raises:
        InputError: If the processor cannot be built, fails, or gives something else than one picture.
    """
    name = settings[CLASS]
    size = settings.get("size") or {}
    if size.get("shortest_edge") and not size.get("longest_edge"):
        scale = size["shortest_edge"] / min(image.size)
        require_drawable(image.size, (scale * image.width, scale * image.height))
    try:
        outputs = _built(json.dumps(settings, sort_keys=True))(image, return_tensors="pt")
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:
        why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise InputError(f"{name} fails on a picture of {image.width} x {image.height} pixels: {why}") from error
    found: Mapping[str, Any] = outputs if isinstance(outputs, Mapping) else {}
    pixels: Any = found.get("pixel_values")
    mask: Any = found.get("pixel_mask")
    if getattr(pixels, "ndim", 0) != 4 or len(pixels) != 1:
        raise InputError(
            f"{name} makes patches, frames or several pictures of one; lowdim needs a network that takes one picture."
        )
    if mask is not None and not mask.all():
        raise InputError(
            f"{name} fills pictures up and masks what it added; lowdim needs a network without such masks."
        )
    return pixels[0].float().numpy()


def output_size(settings: Mapping[str, Any], channels: int) -> tuple[int, int] | None:
    """Height and width of what the processor gives, tried on two pictures; None where they follow the picture's."""
    mode = "RGB" if channels == 3 else "L"
    shapes = {processed(settings, Image.new(mode, size)).shape for size in _ASPECTS}
    if {shape[0] for shape in shapes} != {channels}:
        raise InputError(f"{settings[CLASS]} gives {min(shapes)[0]} channels, but the network takes {channels}.")
    return min(shapes)[1:] if len(shapes) == 1 else None


def with_size(settings: Mapping[str, Any], size: tuple[int, int], channels: int) -> dict[str, Any]:
    """Settings that give another size: all of the processor's own sizes in proportion, or else its size itself.

    Raises:
        InputError: If the processor cannot give it.
    """
    own = output_size(settings, channels)
    _check_sizes({**settings, "size": {"height": size[0], "width": size[1]}})
    attempts: list[dict[str, Any]] = [{"size": {"height": size[0], "width": size[1]}}]
    if own is not None:
        factors = {"height": size[0] / own[0], "width": size[1] / own[1]}
        largest = max(factors.values())
        scaled = {
            name: {edge: round(length * factors.get(edge, largest)) for edge, length in settings[name].items()}
            for name in _SIZES
            if settings.get(name)
        }
        attempts.insert(0, scaled)
    for changes in attempts:
        changed = {**settings, **changes}
        try:
            if output_size(changed, channels) == size:
                return changed
        except InputError:
            continue
    raise InputError(
        f"{settings[CLASS]} cannot make pictures of {size[0]} x {size[1]} pixels. Resize them to one size beforehand.",
        argument="image_size",
    )


def with_colours(
    settings: Mapping[str, Any], *, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int
) -> dict[str, Any]:
    """Settings with another mean and standard deviation of the channels.

    Raises:
        InputError: If the processor does something else with them than to subtract and divide.
    """
    given = {"image_mean": mean, "image_std": std}
    changes = {name: list(values) for name, values in given.items() if values is not None}
    changed = {
        "image_mean": [0.0] * channels,
        "image_std": [1.0] * channels,
        **settings,
        **changes,
        "do_normalize": True,
    }
    white = Image.new("RGB" if channels == 3 else "L", _ASPECTS[0], "white")
    expected = (1 - np.array(changed["image_mean"])) / np.array(changed["image_std"])
    if np.abs(processed(changed, white)[:, 0, 0] - expected).max() > 1e-3 * (1 + np.abs(expected).max()):
        raise InputError(f"{settings[CLASS]} normalises in a way of its own; mean and std cannot be given for it.")
    return changed


@lru_cache(maxsize=16)
def _built(settings: str) -> Any:
    """The processor of these settings (JSON); settings may come from a file, so only processors are built."""
    transformers = require("transformers", "An image processor of transformers")
    content = json.loads(settings)
    kind = getattr(transformers, str(content.get(CLASS)), None)
    # A class whose own needs are missing is a stand-in that says which.
    if not isinstance(kind, type) or not (
        issubclass(kind, transformers.BaseImageProcessor) or getattr(kind, "is_dummy", False)
    ):
        raise InputError(f"The installed transformers has no image processor {content.get(CLASS)!r}. Update it.")
    _check_sizes(content)
    return kind.from_dict(content)
