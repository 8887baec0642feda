"""Classification without labels: CLIP-type networks compare an image with a sentence about each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F

from lowdim._reading import reading
from lowdim.errors import InputError, UsageError
from lowdim.finetuning._tuned import TunedModel
from lowdim.models import LoadedModel, text_encoder

PROMPT = "a photo of a {}"
SCALE = 100.0
"""Of the logits for text features from a file; CLIP's own scale after training. It changes probabilities, never the answer."""


def encode_classes(
    network: LoadedModel, classes: Sequence[str], prompts: Sequence[str] = (PROMPT,)
) -> Float[np.ndarray, "K d"]:
    """One text feature per class, times the network's own logit scale.

    Each prompt's feature is scaled to length one; a class's feature is their mean, scaled to length one again
    (Radford et al. 2021, arXiv 2103.00020). In the names of the classes ``_`` is read as a space.
    """
    for prompt in prompts:
        if "{}" not in prompt:
            raise UsageError(
                f"The prompt {prompt!r} has no {{}} where the class goes, as in {PROMPT!r}.", argument="prompts"
            )
    encode, scale = text_encoder(network)
    rows: list[torch.Tensor] = []
    for name in classes:
        features = encode([prompt.replace("{}", name.replace("_", " ")) for prompt in prompts])
        rows.append(F.normalize(F.normalize(features, dim=1).mean(dim=0), dim=0))
    return (scale * torch.stack(rows)).numpy()


def read_text_features(rows: Float[np.ndarray, "K d"], classes: int) -> Float[np.ndarray, "K d"]:
    """Text features from elsewhere, one row per class, as weights of a head: length one, times `SCALE`.

    Example:
        >>> read_text_features(np.array([[3.0, 4.0], [0.0, 2.0]]), 2).tolist()
        [[60.0, 80.0], [0.0, 100.0]]
    """
    if rows.ndim != 2 or len(rows) != classes or not np.issubdtype(rows.dtype, np.floating):
        raise InputError(
            f"Text features must be {classes} rows of floating-point numbers, one per class in the order of the class names; "
            f"given is {rows.dtype} of shape {rows.shape}."
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise InputError("A row of the text features is zero or not finite.")
    return SCALE * rows / lengths


def read_npy(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file, not read yet; pickled objects are refused.

    Raises:
        InputError: If it is not one.
    """
    with reading(path, "an .npy file of numbers", remedy="Write it with numpy.save."):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an .npz file; an .npy file with one array is needed. Write it with numpy.save.")
    return array


def set_text_head(model: TunedModel, weights: Float[np.ndarray, "K d"]) -> None:
    """Makes text features, one row per class, the head."""
    if weights.shape[1] != model.width:
        raise InputError(
            f"The text features have {weights.shape[1]} numbers per class, the network's output has {model.width}: they come from "
            "different models."
        )
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weights))
        model.head.bias.zero_()
