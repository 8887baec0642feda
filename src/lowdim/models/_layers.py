"""Names of layers: the blocks of a network, its activations and weights, and names or globs that a user types."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import nn

from lowdim.errors import UsageError, did_you_mean
from lowdim.features import INPUT


def block_names(module: nn.Module) -> list[str]:
    """Names of the residual, transformer or stage blocks, in order.

    A block is a module with at least two weight matrices of its own in a sequence or list of modules; where a block
    contains further lists of blocks (stages), the inner ones count.

    Args:
        module: Any network.

    Returns:
        Module names in order of registration; empty for a network without blocks.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
        >>> block_names(nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False))
        ['layers.0', 'layers.1']
    """
    return list(_blocks(module, ""))


def _blocks(module: nn.Module, prefix: str) -> Iterator[str]:
    in_sequence = isinstance(module, nn.Sequential | nn.ModuleList)
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.TransformerEncoderLayer):
            yield path
            continue
        inner = list(_blocks(child, f"{path}."))
        if inner:
            yield from inner
        elif in_sequence and not isinstance(child, nn.Sequential | nn.ModuleList) and _matrices(child) >= 2:
            yield path


def _matrices(module: nn.Module) -> int:
    return sum(1 for name, parameter in module.named_parameters() if parameter.ndim >= 2 and name.endswith("weight"))


def activation_names(module: nn.Module) -> list[str]:
    """Names of the activation modules, in order of registration."""
    kinds = "torch.nn.modules.activation"
    leaves = _leaves(module)
    return [n for n, leaf in leaves if type(leaf).__module__ == kinds and not isinstance(leaf, nn.MultiheadAttention)]


def weight_names(module: nn.Module) -> list[str]:
    """Names of the innermost modules with weight matrices, in order of registration."""
    return [name for name, leaf in _leaves(module) if _matrices(leaf)]


def _leaves(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, child) for name, child in module.named_modules() if name and not any(True for _ in child.children()))


def match_layers(module: nn.Module, patterns: str | Sequence[str], default: Sequence[str] = ()) -> list[str]:
    """Layer names that match names or globs, in the network's order.

    Args:
        module: Any network.
        patterns: Names or globs (``layer3.*``), in one string separated by commas or as a list; ``NAME:input`` means
            what goes into NAME, and ``default`` the layers of the last argument.
        default: Layers.

    Returns:
        Names as in ``module.named_modules()``, each once.

    Raises:
        UsageError: If a pattern matches nothing; the error names close ones.

    Example:
        >>> match_layers(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), "0,2:input")
        ['0', '2:input']
    """
    wanted = patterns.split(",") if isinstance(patterns, str) else patterns
    names = [name for name, _ in module.named_modules() if name]
    chosen: set[str] = set()
    for pattern in (entry.strip() for entry in wanted):
        chosen.update(default if pattern == "default" and default else _matching(names, pattern))
    return sorted(chosen, key=_position(names))


def _matching(names: list[str], pattern: str) -> Iterable[str]:
    stem = pattern.removesuffix(INPUT)
    suffix = INPUT if pattern.endswith(INPUT) else ""
    found = [name for name in names if name == stem or fnmatch.fnmatchcase(name, stem)]
    if not found:
        raise UsageError(
            f"No layer matches {pattern!r}. {did_you_mean(stem, names)} List them with `module.named_modules()`."
        )
    return (f"{name}{suffix}" for name in found)


def _position(names: list[str]) -> Callable[[str], tuple[int, bool]]:
    place = {name: index for index, name in enumerate(names)}
    last = len(place)
    return lambda name: (place.get(name.removesuffix(INPUT), last), not name.endswith(INPUT))
