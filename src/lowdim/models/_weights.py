"""Weights from files that nobody has vouched for: safetensors, or pickles restricted to tensors."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lowdim._files import verify_tensors
from lowdim.errors import InputError, UsageError

_PICKLES = frozenset({".pt", ".pth", ".bin", ".th", ".ckpt", ".tar"})
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_weights(path: Path, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Args:
        path: A ``.safetensors`` file; with ``allow_pickle`` also a pickle, from which only tensors are rebuilt.
        allow_pickle: Permit pickles (``weights_only=True``, no fallback).

    Raises:
        UsageError: If the file is a pickle and pickles were not permitted.
        InputError: If the file is missing, damaged, or not what its name says.
    """
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    if path.suffix.lower() in _PICKLES:
        if not allow_pickle:
            raise UsageError(
                f"{path.name} is a pickle, which can run code. Convert it to safetensors, or permit it with "
                "`allow_pickle=True` (tensors only)."
            )
        return _read_pickle(path)
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{path.name} is no weights file lowdim reads: give a .safetensors file.")
    try:
        loaded = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {_why(path, error)}.") from error
    verify_tensors(path)
    return loaded


def _why(path: Path, error: Exception) -> str:
    start = path.read_bytes()[:4]
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "it is a pickle under another name; rename it to .pt and permit it with `allow_pickle=True`"
    return f"it is damaged or cut short ({error})"


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} holds more than tensors, or is damaged, and is not loaded: {why}") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no table of tensors by name (a state dict).")
    return dict(content)


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads weights that must fit exactly: every name, every shape.

    Args:
        module: Receives them.
        weights: Tensors by name; a ``module.`` in front of all names is removed.
        where: The file, for the error.

    Raises:
        InputError: If a tensor is missing, left over or of another shape.
    """
    weights = without_prefix(weights, "module.")
    problem = misfit(module, weights)
    if problem:
        raise InputError(f"{where} does not fit {type(module).__name__}: {problem}. Is it for another architecture?")
    module.load_state_dict(dict(weights))


def without_prefix(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors without a prefix that all names share."""
    if weights and all(name.startswith(prefix) for name in weights):
        return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return dict(weights)


def misfit(module: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What keeps these weights from fitting the module; empty where they fit.

    Args:
        module: The architecture.
        weights: Tensors by name.
    """
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    parts = [
        _listed("missing", [name for name in own if name not in weights]),
        _listed("not in the model", [name for name in weights if name not in own]),
        _listed("other shape", shapes),
    ]
    return "; ".join(part for part in parts if part)


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}: {', '.join(names[:3])}{more}"
