"""Where a network's inputs come from, whatever form the data has."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lowdim._files import json_digest
from lowdim._preprocessing import Preprocessing
from lowdim._random import child_seed
from lowdim.data import Split
from lowdim.data._batches import Inputs, batches, cut_texts
from lowdim.data._contents import Contents, first_copies, hashed
from lowdim.errors import InputError


@runtime_checkable
class Source(Protocol):
    """The labels of all samples, and the inputs of any of them."""

    labels: np.ndarray

    @property
    def copies(self) -> np.ndarray:
        """For every sample the position of the first one that is identical."""
        ...

    def inputs(self, positions: np.ndarray) -> Any:
        """A tensor, or a dictionary of tensors, for these samples."""
        ...

    def digest(self) -> str:
        """Of everything that decides the inputs."""
        ...

    def warnings(self) -> list[str]:
        """What a reader of results must know about the inputs."""
        ...


class SplitSource:
    """Samples of a split as a network with this preprocessing takes them; images perhaps `mirrored`, left to right."""

    def __init__(self, split: Split, preprocessing: Preprocessing, *, mirrored: bool = False) -> None:
        self.labels, self.split, self.preprocessing, self._mirrored = split.labels, split, preprocessing, mirrored

    @property
    def copies(self) -> np.ndarray:
        """For every sample the position of the first one that is identical."""
        return self.split.copies

    def inputs(self, positions: np.ndarray) -> Inputs:
        """A tensor, or a dictionary of tensors, for these samples."""
        inputs = next(batches(self.split, self.preprocessing, batch_size=len(positions), indices=positions))[0]
        return mirror(inputs) if self._mirrored else inputs

    def digest(self) -> str:
        """Of samples and preprocessing, and of the first sample's inputs: they depend on code and vocabularies, too. Names and labels
        of the samples have no part in it."""
        first = self.inputs(np.arange(min(1, len(self.labels)))) if len(self.labels) else {}
        tensors = first if isinstance(first, dict) else {"": first}
        seen = {name: [str(tensor.dtype), _bytes_digest(tensor)] for name, tensor in tensors.items()}
        contents = hashlib.sha256(self.split.contents.tobytes()).hexdigest()
        return json_digest([contents, self.preprocessing.as_dict(), seen, *(["mirrored"] * self._mirrored)])

    def warnings(self) -> list[str]:
        """Texts that are longer than what the network reads."""
        return cut_texts(self.split, self.preprocessing)


class TensorSource:
    """Inputs at hand: a tensor, or several by name."""

    def __init__(self, inputs: Inputs, labels: Tensor) -> None:
        self.labels, self.held = labels.cpu().numpy().astype(np.int64), inputs

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return self.held if isinstance(self.held, dict) else {"": self.held}

    @property
    def copies(self) -> np.ndarray:
        """For every sample the position of the first one that is identical."""
        return self._copies

    @cached_property
    def _copies(self) -> np.ndarray:
        tensors = list(self._tensors.values())
        return first_copies(hashed(b"".join(map(_bytes, rows)) for rows in zip(*tensors, strict=True)))

    def inputs(self, positions: np.ndarray) -> Inputs:
        """The rows of these samples."""
        chosen = torch.from_numpy(positions)
        return (
            {name: rows[chosen] for name, rows in self.held.items()}
            if isinstance(self.held, dict)
            else self.held[chosen]
        )

    def digest(self) -> str:
        """Of names, types, shapes and contents."""
        return json_digest(
            [
                [name, str(rows.dtype), list(rows.shape), _bytes_digest(rows)]
                for name, rows in sorted(self._tensors.items())
            ]
        )

    def warnings(self) -> list[str]:
        """None: nothing happens to them."""
        return []


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _bytes_digest(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def has_mirror(inputs: Inputs) -> bool:
    """Whether the inputs are images, ``n x c x h x w``."""
    return isinstance(inputs, Tensor) and inputs.ndim == 4


def mirror(images: Any) -> Tensor:
    """Images ``n x c x h x w`` turned left to right."""
    return images.flip(3)


def with_views(split: Split, views: int, seed: int) -> Split:
    """The images of a split, then ``views - 1`` times the same images cropped and flipped at random; each view after the other.

    Raises:
        InputError: If the samples are no images.
    """
    if views == 1:
        return split
    if split.kind != "image":
        raise InputError(f"Views are random crops of images, but the data is {split.kind}.")
    return replace(split.take(np.tile(np.arange(len(split)), views)), read=_Views(split, seed))


@dataclass(frozen=True)
class _Views:
    """Each image cropped (60 to 100 % of its area) and flipped at random, always in the same way for one seed and view."""

    split: Split
    seed: int

    def __call__(self, index: int) -> Image.Image:
        view, index = divmod(index, len(self.split))
        image: Image.Image = self.split.load(index)
        if view == 0:
            return image
        generator = np.random.default_rng(child_seed(child_seed(self.seed, "view", view), index))
        side = np.sqrt(generator.uniform(0.6, 1.0))
        width, height = (max(1, round(length * side)) for length in image.size)
        left, top = int(generator.integers(image.width - width + 1)), int(generator.integers(image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else image

    def contents(self, indices: np.ndarray) -> Contents:
        """Of the images behind them, and of what each view is drawn from."""
        views, places = np.divmod(indices, len(self.split))
        images = self.split.contents[places].tolist()
        return hashed(
            f"{self.seed} {view} {place} ".encode() + image
            for view, place, image in zip(views, places, images, strict=True)
        )
