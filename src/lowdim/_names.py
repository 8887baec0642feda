"""Short forms of long names."""

import re
from collections.abc import Sequence

_EMPTY = frozenset(
    {"base", "best", "checkpoint", "data", "dataset", "delta", "hub", "images", "model", "output", "train", "weights"}
)
"""Names of folders that are called so whatever lies in them."""
_PATH = re.compile(r"(?:[a-z-]+:)*(?:/|~|\.\.?/)[^\n<>]*")


def short_names(names: Sequence[str]) -> list[str]:
    """The shortest ends of paths that still differ from each other; other names stay as they are. Paths are names that begin like one,
    after prefixes such as ``timm:local-dir:``. An end that says nothing, such as ``model``, stands with what is before it.

    Example:
        >>> short_names(["timm:local-dir:/data/models/mobilenet", "timm:local-dir:/data/models/resnet", "digits"])
        ['mobilenet', 'resnet', 'digits']
        >>> short_names(["/a/x", "/b/x"])
        ['a/x', 'b/x']
        >>> short_names(["hf:/data/MiniLM/model"])
        ['MiniLM/model']
    """
    different = list(dict.fromkeys(names))
    parts = {name: name.rstrip("/").split("/") if _PATH.fullmatch(name) else [name] for name in different}
    taken = {name: 2 if parts[name][-1].casefold() in _EMPTY else 1 for name in different}
    while True:
        ends = {name: "/".join(parts[name][-taken[name] :]) for name in different}
        twice = [name for name in different if list(ends.values()).count(ends[name]) > 1]
        longer = [name for name in twice if taken[name] < len(parts[name])]
        if not longer:
            return [ends[name] or name for name in names]
        for name in longer:
            taken[name] += 1


def step_name(name: str) -> str:
    """A recorded time in a sentence: "step" before a number, other names as they are.

    Example:
        >>> step_name("200"), step_name("step200")
        ('step 200', 'step200')
    """
    return f"step {name}" if name[:1].isdigit() else name
