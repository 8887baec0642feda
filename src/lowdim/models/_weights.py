"""Weights from files that nobody has vouched for (safetensors, or pickles restricted to tensors), under the names of a network."""

import argparse
import pickle
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lowdim._files import read_json, verify_tensors
from lowdim.errors import InputError, UsageError

PICKLES = frozenset({".pt", ".pth", ".bin", ".th", ".ckpt", ".tar"})
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_INDEX = ".index.json"
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that compilation, sharding and recomputation put in anywhere."""
_AVERAGED = "n_averaged"
_COUNTERS = ("num_batches_tracked", _AVERAGED)
"""Of batches: they decide nothing in evaluation, and files of other programs leave them out."""
_DEEPEST = 3
"""Levels of tables in tables that are looked through."""


def read_weights(path: Path, *, allow_pickle: bool = False, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    A pickle needs ``allow_pickle`` (``weights_only=True``, no fallback). `key` chooses among several tables: of a pickle, the entry that
    holds it; of other files, what stands before the dot in its names.

    Raises:
        UsageError: If the file is a pickle and pickles were not permitted, or has no table of this key.
        InputError: If the file is missing, damaged, not what its name says, or holds several tables and none was chosen.
    """
    if path.is_dir():
        index = next(iter(sorted(path.glob(f"*{_INDEX}")) or sorted(path.glob("*.safetensors"))), path / "FILE")
        raise InputError(f"{path} is a folder: give {index}.")
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    if path.suffix.lower() in PICKLES:
        if not allow_pickle:
            raise UsageError(
                f"{path.name} is a pickle, which can run code. Convert it to safetensors, or permit it with "
                "`allow_pickle=True` (tensors only)."
            )
        return _read_pickle(path, key)
    if path.name.lower().endswith(_INDEX):
        weights = _read_shards(path, allow_pickle=allow_pickle)
    elif path.suffix.lower() == ".safetensors":
        weights = _read_safetensors(path)
    else:
        raise InputError(f"{path.name} is no weights file lowdim reads: give a .safetensors file.")
    if key is None:
        return weights
    chosen = _under(f"{key}.", weights)
    if not chosen:
        raise _no_table(path, key, sorted({name.split(".")[0] for name in weights}))
    return chosen


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        loaded = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {_why(path, error)}.") from error
    verify_tensors(path)
    return loaded


def _read_shards(path: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    """The tensors of all files that an index names; they lie beside it."""
    content = read_json(path)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in places.values()
    ):
        raise InputError(f"{path} is no index of weights files: its weight_map does not name files beside it.")
    found: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        if not (path.parent / file).is_file():
            raise InputError(f"{path.name} names {file}, which is not beside it. Fetch all files of the checkpoint.")
        found |= read_weights(path.parent / file, allow_pickle=allow_pickle)
    lacking = [name for name in places if name not in found]
    if lacking:
        raise InputError(f"The files of {path.name} lack {', '.join(lacking[:3])}. Fetch them again.")
    return found


def _why(path: Path, error: Exception) -> str:
    start = path.read_bytes()[:4]
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "it is a pickle under another name; rename it to .pt and permit it with `allow_pickle=True`"
    return f"it is damaged or cut short ({error})"


def _read_tables(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        # Settings of the run, which hold values and run nothing.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        beside = re.search(r"GLOBAL (\S+)", str(error))
        if beside is not None:
            raise InputError(
                f"{path} holds {beside[1]} beside tensors and is not loaded: it could run code. Save its state dict alone "
                "(`torch.save(network.state_dict(), ...)`) where you trust it."
            ) from error
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} is a TorchScript program, which is not run. Give the Python network that it was made from, and its state dict."
            ) from error
        if "WeightsUnpickler error" in str(error):
            raise InputError(
                f"{path} is damaged, or no file of tensors alone: it is not loaded, for it could run code. Save its state dict alone "
                "(`torch.save(network.state_dict(), ...)`) where you trust it."
            ) from error
        why = " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
        raise InputError(f"{path} is damaged, or no file of tensors: {why[:160]}") from error
    tables = _tables(content)
    if not tables:
        raise InputError(f"{path} holds no table of tensors by name (a state dict).")
    return tables


def _read_pickle(path: Path, key: str | None) -> dict[str, Tensor]:
    tables = _read_tables(path)
    if key is None and len(tables) > 1:
        listed = ", ".join(f"{name} ({len(table)} tensors)" for name, table in tables.items())
        raise InputError(f"{path} holds several tables of weights: {listed}. Choose one with `weights_key`.")
    if key is None or key in tables:
        return tables[next(iter(tables)) if key is None else key]
    # Names of one table, chosen by what they begin with: alone, or behind the name of their table.
    parts = [_under(f"{key.removeprefix(f'{name}.')}.", tables[name]) for name in tables if key.startswith(f"{name}.")]
    parts += [_under(f"{key}.", table) for table in tables.values() if len(tables) == 1]
    chosen = next((part for part in parts if part), None)
    if chosen is None:
        raise _no_table(path, key, [name for name in tables if name])
    return chosen


def read_pickled_arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a pickle as arrays (bfloat16 as float32), in its order; nothing in it is executed.

    Where it holds several tables, the name of each stands before the names of its tensors.
    """
    tables = _read_tables(path)
    return {
        f"{key}.{name}" if len(tables) > 1 else name: (
            tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        ).numpy()
        for key, table in tables.items()
        for name, tensor in table.items()
    }


def _tables(content: Any, depth: int = _DEEPEST) -> dict[str, dict[str, Tensor]]:
    """Tables of tensors in a pickle by the path of their entries; ``""`` where the whole is one."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        return {}
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) == len(content):
        return {"": tensors}
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in content.items() if depth else ():
        found |= {f"{name}.{inner}".rstrip("."): table for inner, table in _tables(value, depth - 1).items()}
    # Numbers beside tensors say how far the run was.
    return found or ({"": tensors} if tensors else {})


def _no_table(path: Path, key: str, known: Sequence[str]) -> UsageError:
    return UsageError(
        f"{path.name} has no weights under {key!r}. There are: {', '.join(known[:8]) or 'none, it is one table'}.",
        argument="weights_key",
    )


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    """Loads weights that must fit exactly: every name, every shape.

    Returns:
        What was done to make them fit, of `matched`.

    Raises:
        InputError: If a tensor is missing, left over or of another shape.
    """
    weights, notes = matched(module, weights)
    problem = misfit(module, weights)
    if problem:
        adapter = "It is an adapter: merge it into its base first." if any(".lora_" in name for name in weights) else ""
        hint = adapter or _place_of(weights, module) or "Is it for another architecture?"
        raise InputError(f"{where} does not fit {type(module).__name__}: {problem}. {hint}")
    module.load_state_dict(weights)
    broken = [name for name, tensor in module.named_parameters() if not bool(torch.isfinite(tensor).all())]
    return (*notes, f"NaN or infinite numbers in the weights of {where}: {_some(broken)}") if broken else notes


def _place_of(weights: Mapping[str, Tensor], module: nn.Module) -> str:
    """Where in a file with more in it all names of a network are."""
    own = {name for name in module.state_dict() if not name.endswith(_COUNTERS)}
    starts = {name.removesuffix(one) for one in sorted(own)[:1] for name in weights if name.endswith(f".{one}")}
    whole = sorted(start.rstrip(".") for start in starts if all(f"{start}{name}" in weights for name in own))
    return (
        f"It holds the network under {' and '.join(whole)}, beside others: choose with `weights_key`." if whole else ""
    )


def matched(module: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights under the names of a network, with what follows from the others; nothing else is added or left out.

    What wraps a network puts a prefix before its names (`renamed`). Of tensors that the network itself holds under several names a
    file may keep one, and it may lack, or have, counters of batches.

    Returns:
        The weights, and a note for each of these that was used.
    """
    own = module.state_dict(keep_vars=True)
    found, notes = renamed(weights, own)
    names: dict[int, list[str]] = {}
    for name, tensor in own.items():
        names.setdefault(id(tensor), []).append(name)
    tied: list[str] = []
    for group in names.values():
        there = next((name for name in group if name in found), None)
        for name in group:
            if there is not None and name not in found:
                found[name] = found[there]
                tied.append(f"{name} from {there}")
    counters = [name for name in own if name not in found and name.endswith(_COUNTERS)]
    found |= {name: own[name].detach() for name in counters}
    beside = [name for name in found if name not in own and name.endswith(_COUNTERS)]
    for name in beside:
        del found[name]
    said = (
        ("tied weights that the file holds once", tied),
        ("counters that the file lacks", counters),
        ("counters left out", beside),
    )
    return found, (*notes, *(f"{what}: {_some(which)}" for what, which in said if which))


def renamed(weights: Mapping[str, Tensor], own: Collection[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights without the prefixes of what wrapped their network, as far as that brings their names closer to its own.

    ``_orig_mod.`` and its like go wherever they stand; any other (``module.``, ``model.``, ``encoder.``) where all names begin with it.

    Returns:
        The weights, and a note that names the prefixes.
    """
    found, gone = dict(weights), []
    best, kept = found, ()
    wrapped = sorted({part for name in found for part in _WRAPPERS.findall(name)})
    if wrapped and not any(_WRAPPERS.search(name) for name in own):
        found, gone = {_WRAPPERS.sub("", name): tensor for name, tensor in found.items()}, wrapped
        best, kept = found, tuple(gone)
    while True:
        starts = {f"{name.split('.')[0]}." if "." in name else "" for name in found if name != _AVERAGED}
        prefix = starts.pop() if len(starts) == 1 else ""
        if not prefix:
            break
        found, gone = {name.removeprefix(prefix): tensor for name, tensor in found.items()}, [*gone, prefix]
        if len(found.keys() & set(own)) > len(best.keys() & set(own)):
            best, kept = found, tuple(gone)
    return best, (f"names in the file without {', '.join(kept)}",) if kept else ()


def misfit(module: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What keeps these weights from fitting the module; empty where they fit."""
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(weights[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    kinds = [
        f"{name} is {weights[name].dtype} in the file and {tensor.dtype} in the model"
        for name, tensor in own.items()
        if name in weights and weights[name].is_floating_point() != tensor.is_floating_point()
    ]
    lists = (
        ("missing", [name for name in own if name not in weights]),
        ("not in the model", [name for name in weights if name not in own]),
        ("other shape", shapes),
        ("other kind of numbers", [name.replace("torch.", "") for name in kinds]),
    )
    return "; ".join(f"{what}: {_some(names)}" for what, names in lists if names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
