"""Which layers of a network to look at: its blocks, its penultimate feature, and names or globs that a user types."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import nn

from lowdim.errors import UsageError, did_you_mean
from lowdim.features import INPUT

_HEAD_NAMES = ("head", "fc", "classifier", "linear", "logits", "output", "out_proj", "score")


def find_head(module: nn.Module) -> str | None:
    """The name of the classifier: the linear layer whose output is the network's.

    timm networks say which it is. Otherwise it is the last linear layer outside all blocks; a layer that keeps its width
    (such as the pooler of an encoder) is not taken for one unless its name says so.

    Args:
        module: Any network.

    Returns:
        The module name, or None for a network without a classifier.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        '2'
    """
    declared = _declared_head(module)
    if declared is not None:
        return declared if isinstance(module.get_submodule(declared), nn.Linear | nn.Conv2d) else None
    inside = tuple(f"{name}." for name in block_names(module))
    found: str | None = None
    for name, child in module.named_modules():
        if (
            isinstance(child, nn.Linear)
            and name
            and not name.startswith(inside)
            and not _within_attention(module, name)
        ):
            named_so = any(part in _HEAD_NAMES or part.endswith("head") for part in name.split("."))
            if named_so or child.in_features != child.out_features:
                found = name
    return found


def _declared_head(module: nn.Module) -> str | None:
    configuration = getattr(module, "pretrained_cfg", None) or {}
    name = configuration.get("classifier") if hasattr(configuration, "get") else None
    if not isinstance(name, str) or not name:
        return None
    return name if name in dict(module.named_modules()) else None


def _within_attention(module: nn.Module, name: str) -> bool:
    parents = name.split(".")[:-1]
    return any(
        isinstance(module.get_submodule(".".join(parents[:depth])), nn.MultiheadAttention | nn.TransformerEncoderLayer)
        for depth in range(1, len(parents) + 1)
    )


def penultimate(module: nn.Module) -> str | None:
    """The layer name of the penultimate feature: what goes into the classifier.

    Args:
        module: Any network.

    Returns:
        ``HEAD:input``; for a timm network whose classifier was removed, the input of the identity in its place; None for
        other networks without a classifier, whose last block is their feature.

    Example:
        >>> penultimate(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        '2:input'
    """
    name = find_head(module) or _declared_head(module)
    return None if name is None else f"{name}{INPUT}"


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


def default_layers(module: nn.Module) -> list[str]:
    """The layers of a profile: the outputs of the blocks, then the penultimate feature.

    A network without blocks gives the outputs of its activation modules, or failing those of its weight layers.

    Args:
        module: Any network.

    Returns:
        Layer names in order of registration; the last one is usually ``HEAD:input``.

    Example:
        >>> default_layers(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        ['1', '2:input']
    """
    last = penultimate(module)
    head = find_head(module)
    names = block_names(module) or [name for name, child in _leaves(module) if _is_activation(child)]
    if not names:
        names = [name for name, child in _leaves(module) if _matrices(child) and name != head]
    if not names and last is None:
        names = [name for name, _ in _leaves(module)][-1:]
    return [*names, *([last] if last else [])]


def _leaves(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, child) for name, child in module.named_modules() if name and not any(True for _ in child.children()))


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention)


def later_blocks(module: nn.Module) -> list[str]:
    """The second half of the blocks, without one whose output is the network's feature already.

    Args:
        module: Any network.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
        >>> later_blocks(nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False))
        ['layers.2']
    """
    names = block_names(module)
    return names[len(names) // 2 : None if penultimate(module) else -1]


def match_layers(module: nn.Module, patterns: str | Sequence[str]) -> list[str]:
    """Layer names that match names or globs, in the network's order.

    Args:
        module: Any network.
        patterns: Names or globs (``layer3.*``), in one string separated by commas or as a list; ``NAME:input`` means
            what goes into NAME, and ``default`` the layers of `default_layers`.

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
        chosen.update(default_layers(module) if pattern == "default" else _matching(names, pattern))
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
    return lambda name: (place[name.removesuffix(INPUT)], not name.endswith(INPUT))
