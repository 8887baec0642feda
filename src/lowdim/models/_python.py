"""A user's own network: a function in a Python file or an importable module. This runs the user's code."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from lowdim._files import existing_file
from lowdim._preprocessing import Preprocessing
from lowdim.errors import InputError, LowdimError, UsageError, did_you_mean, is_out_of_memory

_HALF_A_GIGABYTE = 2**29


def load_factory(spec: str, arguments: dict[str, Any], seed: int = 0) -> tuple[nn.Module, Preprocessing]:
    """Calls ``FILE.py:FACTORY`` or ``PACKAGE.MODULE:FACTORY``, or takes the network that stands there under this name.

    What it draws from PyTorch's generator is drawn from the seed, so that two calls give one network.

    A ``pretrained_cfg`` dictionary on the network or on the Python module gives the preprocessing
    (``mean``, ``std``, ``input_size``, ``crop_pct``, ``crop_mode``, ``interpolation``); without one, images are only
    scaled to 0..1.

    Raises:
        UsageError: If there is no such function, or it does not take these arguments.
        InputError: If the file is missing or fails, or what it makes is no network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _made(spec, arguments)


def _made(spec: str, arguments: dict[str, Any]) -> tuple[nn.Module, Preprocessing]:
    where, _, name = spec.rpartition(":")
    home = _import(where)
    factory = getattr(home, name, None)
    if not callable(factory):
        options = [key for key, value in vars(home).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{where} has no function {name!r}. {did_you_mean(name, options)}")
    if isinstance(factory, nn.Module) and arguments:
        raise UsageError(f"{spec} is a network, not a function that makes one, so it takes no arguments.")
    module = factory if isinstance(factory, nn.Module) else _call(factory, spec, arguments)
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec} returned {type(module).__name__}; expected a torch.nn.Module.")
    settings = getattr(module, "pretrained_cfg", None) or getattr(home, "pretrained_cfg", None) or {}
    return module, _preprocessing(settings, spec)


def drawn_anew(spec: str, arguments: dict[str, Any], module: nn.Module) -> list[str] | None:
    """Weights that are random: matrices that differ when the network is made once more. None if all of them do.

    A network of more than half a gigabyte is not made twice, nor one that cannot be.
    """
    matrices = {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}
    if not matrices or sum(weight.nbytes for weight in matrices.values()) > _HALF_A_GIGABYTE:
        return []
    try:
        again = dict(load_factory(spec, arguments, seed=1)[0].named_parameters())
    except LowdimError:
        return []
    drawn = [name for name, weight in matrices.items() if name not in again or not torch.equal(weight, again[name])]
    return None if len(drawn) == len(matrices) else drawn


def _import(where: str) -> ModuleType:
    if not where.endswith(".py"):
        if not all(part.isidentifier() for part in where.split(".")):
            raise UsageError(f"{where!r} names no Python module. Write FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION.")
        with _guarded(where, "fails when it is imported"):
            try:
                return importlib.import_module(where)
            except ModuleNotFoundError as error:
                raise InputError(f"There is no Python module {where!r} ({error}).") from error
    path = Path(where).expanduser().resolve()
    existing_file(path, "The file")
    name = f"lowdim_user_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path, loader=_AsWritten(name, str(path)))
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with _importable(name, module, path.parent), _guarded(where, "fails when it is imported"):
        specification.loader.exec_module(module)
    return module


class _AsWritten(importlib.machinery.SourceFileLoader):
    """Never from stored bytecode: that is known by the second and the size of its file, and an edit may change neither."""

    def get_code(self, fullname: str) -> CodeType:
        """Of the file as it is now."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextmanager
def _guarded(what: str, fails: str) -> Generator[None]:
    """Around code of the user's: whatever it raises is said with its name."""
    try:
        yield
    except SystemExit as error:
        raise InputError(f"{what} {fails}: it ends Python ({type(error).__name__}: {error}).") from error
    except Exception as error:
        if isinstance(error, LowdimError) or is_out_of_memory(error):
            raise
        raise InputError(f"{what} {fails}: {type(error).__name__}: {error}") from error


@contextmanager
def _importable(name: str, module: ModuleType, folder: Path) -> Generator[None]:
    # Dataclasses and sibling imports in the user's file need both while it runs.
    sys.modules[name] = module
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _call(factory: Callable[..., Any], spec: str, arguments: dict[str, Any]) -> Any:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # functions written in C need not say what they take
        signature = None
    try:
        if signature is not None:
            signature.bind(**arguments)
    except TypeError as error:
        raise UsageError(f"{spec}{signature} does not take {arguments}: {error}.") from error
    with _guarded(spec, "fails"):
        return factory(**arguments)


def _preprocessing(settings: Any, spec: str) -> Preprocessing:
    if not isinstance(settings, Mapping):
        if not hasattr(settings, "to_dict"):
            raise InputError(f"pretrained_cfg of {spec} must be a dictionary, got {type(settings).__name__}.")
        settings = settings.to_dict()
    if not settings:
        return Preprocessing()
    size = settings.get("input_size")
    channels = size[0] if size else len(settings.get("mean", (0, 0, 0)))
    return Preprocessing(
        image_size=(size[1], size[2]) if size else None,
        crop=float(settings.get("crop_pct", 1.0)),
        crop_mode=settings.get("crop_mode", "center"),
        interpolation=settings.get("interpolation", "bilinear"),
        mean=tuple(float(value) for value in settings.get("mean", (0.0,) * channels)),
        std=tuple(float(value) for value in settings.get("std", (1.0,) * channels)),
        channels=channels,
    )
