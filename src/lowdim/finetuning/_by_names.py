"""Where deltas of earlier versions have their head: they found it by the names of a network's modules, and do not say where."""

from torch import nn

from lowdim.features import INPUT
from lowdim.models import Feature, block_names

_NAMES = ("head", "fc", "classifier", "linear", "logits", "output", "out_proj", "score")


def feature_by_names(module: nn.Module) -> Feature:
    """What goes into the classifier that timm declares, or into the last linear layer outside all blocks; else the output."""
    name = _declared(module) or _last_linear(module)
    pool = "cls" if getattr(module, "global_pool", None) == "token" else "avg"
    layer, heads = ("", ()) if name is None else (f"{name}{INPUT}", (name,))
    return Feature(layer, pool, 0, "found by the names of modules", heads, blocks=pool)


def _declared(module: nn.Module) -> str | None:
    configuration = getattr(module, "pretrained_cfg", None) or {}
    name = configuration.get("classifier") if hasattr(configuration, "get") else None
    return name if isinstance(name, str) and name and name in dict(module.named_modules()) else None


def _last_linear(module: nn.Module) -> str | None:
    """A layer that keeps its width is not taken for a classifier unless its name says so."""
    inside = tuple(f"{name}." for name in block_names(module))
    found: str | None = None
    for name, child in module.named_modules():
        if not isinstance(child, nn.Linear) or not name or name.startswith(inside) or _attends(module, name):
            continue
        named_so = any(part in _NAMES or part.endswith("head") for part in name.split("."))
        if named_so or child.in_features != child.out_features:
            found = name
    return found


def _attends(module: nn.Module, name: str) -> bool:
    parents = name.split(".")[:-1]
    above = (module.get_submodule(".".join(parents[:depth])) for depth in range(1, len(parents) + 1))
    return any(isinstance(parent, nn.MultiheadAttention | nn.TransformerEncoderLayer) for parent in above)
