"""What decides a network's features beside its weights: structure, settings, and the code that its forward passes run."""

import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_POOLING = "no mean holds a class token"
"""Features that an earlier lowdim kept by another rule are not found."""
_OWN = frozenset(vars(nn.Module()))
_PLACES = frozenset({"name_or_path", "pretrained_cfg", "default_cfg"})
"""Attributes in which libraries keep where the weights came from, and what they read out at loading."""
_KNOWN = frozenset({"torch", "numpy", "scipy", "lowdim", "builtins"})
"""Whose code is known by a version."""


def network_content(module: nn.Module, fingerprint: str) -> list[str]:
    """What decides a network's features: its weights, its structure, the attributes and hooks of its modules, the code of their classes and
    of what that calls in the same file, and PyTorch.

    Example:
        >>> one, other = nn.Dropout(0.5), nn.Dropout(0.5)
        >>> other.scale = 3
        >>> network_content(one, "")[1] == network_content(other, "")[1]
        False
    """
    digest, seen = hashlib.sha256(str(module).encode()), set[Any]()
    for name, child in module.named_modules():
        held = {key: value for key, value in vars(child).items() if key not in _OWN and key not in _PLACES}
        held |= {key: child._buffers[key] for key in child._non_persistent_buffers_set}
        hooks = [*child._forward_pre_hooks.values(), *child._forward_hooks.values()]
        digest.update(f"{name} {_told(held, seen)} {_told(hooks, seen)}\n".encode())
        for line in _code_of_class(type(child), seen):
            digest.update(line.encode())
    return [fingerprint, digest.hexdigest(), torch.__version__, _POOLING]


def _is_known(value: Any) -> bool:
    return str(value.__module__).partition(".")[0] in _KNOWN


def _told(value: Any, seen: set[Any], *, inside: bool = False) -> str:
    """A value as text, the same in every process; of an object its type and its plain attributes."""
    if isinstance(value, Tensor):
        there = value.layout == torch.strided and not value.is_meta
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() if there else None
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        items = sorted(cast("Mapping[Any, Any]", value).items(), key=lambda item: str(item[0]))
        return str([(str(key), _told(item, seen, inside=inside)) for key, item in items])
    if isinstance(value, list | tuple | set | frozenset):
        told = [_told(item, seen, inside=inside) for item in cast("Iterable[Any]", value)]
        return str(sorted(told) if isinstance(value, set | frozenset) else told)
    if isinstance(value, partial):
        return _told([value.func, value.args, value.keywords], seen, inside=inside)
    function = getattr(value, "__func__", value)
    if isinstance(function, FunctionType) and not _is_known(function):
        return "".join([*_code(function.__code__), *_code_of_function(function, seen)])
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    named: dict[str, Any] = getattr(value, "__dict__", {})
    if not named or inside or isinstance(value, nn.Module):
        return repr(value) if type(value).__module__ in ("builtins", "torch") else type(value).__qualname__
    held = {key: item for key, item in named.items() if not key.startswith("_") and key not in _PLACES}
    return f"{type(value).__qualname__}{_told(held, seen, inside=True)}"


def _code_of_class(kind: type, seen: set[Any]) -> Iterator[str]:
    for one in kind.__mro__:
        if one in seen or _is_known(one):
            continue
        seen.add(one)
        for name, value in sorted(vars(one).items()):
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(function, FunctionType):
                yield f"{one.__qualname__}.{name}"
                yield from _code_of_function(function, seen)
            elif not name.startswith("__"):
                yield f"{one.__qualname__}.{name}={_told(value, seen)}"


def _code_of_function(function: FunctionType, seen: set[Any]) -> Iterator[str]:
    """Of a function, and of the functions and values of the same file that it names, and those that it closes over."""
    if function in seen:
        return
    seen.add(function)
    yield from _code(function.__code__)
    cells = inspect.getclosurevars(function).nonlocals
    yield _told([function.__defaults__, function.__kwdefaults__, cells], seen, inside=True)
    for name in dict.fromkeys(_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) and value.__module__ == function.__module__:
            yield from _code_of_function(value, seen)
        elif isinstance(value, bool | int | float | str | tuple | Tensor):
            yield f"{name}={_told(value, seen)}"


def _code(code: CodeType) -> Iterator[str]:
    own = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    yield repr((code.co_code.hex(), code.co_names, code.co_varnames, _told(own, set())))
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _code(inner)


def _names(code: CodeType) -> list[str]:
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _names(one)]
    return [*code.co_names, *inner]
