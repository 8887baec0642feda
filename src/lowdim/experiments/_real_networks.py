"""Networks and data for the experiments of section 1: the embedded ones, and a folder of real ones where the user has it."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lowdim.errors import UsageError

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.models import LoadedModel

VARIABLE = "LOWDIM_DATA"
"""Environment variable that names the folder of real networks and data (``models/`` and ``images/`` inside)."""

CIFAR = "images/cifar10_lossless_5000.npz"


def real_data() -> str:
    """The folder named by the environment, or an empty string."""
    return os.environ.get(VARIABLE, "")


def real_folder(folder: str, *needed: str) -> Path | None:
    """The folder with real networks and data, where one is named.

    Raises:
        UsageError: If it lacks something that a figure needs of it: the embedded networks in its place would be another figure.
    """
    if not folder:
        return None
    missing = [name for name in needed if not (Path(folder) / name).exists()]
    if missing:
        raise UsageError(
            f"data={folder} has no {' and no '.join(missing)}. Name the folder with models/ and images/ in it, or nothing "
            "(`data=`) for the embedded networks."
        )
    return Path(folder)


HOW = f"Set {VARIABLE} (or `data=FOLDER`) to a folder with models/ and images/ to add real networks."


@dataclass(frozen=True)
class Subject:
    """A network together with data of the kind it was trained on."""

    name: str
    model: "LoadedModel"
    data: "Dataset"


_CIFAR_NORMALISATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VIT_NORMALISATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def trained_networks(folder: str, *, limit: int, seed: int) -> Iterator[Subject]:
    """The embedded digits network, and every CIFAR-10 network in the folder on CIFAR-10."""
    from lowdim.data import load_data
    from lowdim.models import load_model

    root = real_folder(folder, "models/architectures.py", CIFAR)
    yield Subject("digits", load_model("digits"), load_data("digits"))
    if root is None or importlib.util.find_spec("torchvision") is None:
        return
    architectures, data = root / "models" / "architectures.py", load_data(str(root / CIFAR), limit=limit, seed=seed)
    networks = {f"cifar10_resnet{depth}": _CIFAR_NORMALISATION for depth in (20, 32, 44, 56)}
    for name, (mean, std) in (networks | {"cifar10_vit": _VIT_NORMALISATION}).items():
        yield Subject(name, load_model(f"{architectures}:{name}", mean=mean, std=std), data)
