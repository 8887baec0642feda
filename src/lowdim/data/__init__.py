"""Labelled data: folders, arrays, tables and the embedded digits, read lazily and safely."""

from typing import TYPE_CHECKING

from lowdim.data._arrays import dataset_from_arrays
from lowdim.data._dataset import Dataset, Split
from lowdim.data._digits import DIGITS_TASKS, load_digits
from lowdim.data._given import as_dataset
from lowdim.data._images import thumbnail
from lowdim.data._load import choose, load_data

if TYPE_CHECKING:
    from lowdim.data._batches import batches

__all__ = [
    "DIGITS_TASKS",
    "Dataset",
    "Split",
    "as_dataset",
    "batches",
    "choose",
    "dataset_from_arrays",
    "load_data",
    "load_digits",
    "thumbnail",
]


def __getattr__(name: str) -> object:
    # Only the batches need torch.
    if name == "batches":
        from lowdim.data._batches import batches

        return batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
