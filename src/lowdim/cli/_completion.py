"""What the shell offers when the tab key is pressed: forms of models and data, names of layers, experiments."""

from pathlib import Path

import typer

_MODEL_FORMS = ("timm:", "timm:local-dir:", "hf:", "features")
_MODEL_FILES = (".py", ".npz")
_DATA_FILES = (".npz", ".csv", ".tsv", ".jsonl", ".parquet", ".xlsx")


def models(incomplete: str) -> list[str]:
    """Networks that come with the package, forms of names, and files and folders."""
    weights = Path(__file__).parents[1] / "models" / "weights"
    names = [*sorted(file.stem for file in weights.glob("*.safetensors")), *_MODEL_FORMS]
    for form in ("timm:local-dir:", "hf:"):
        if incomplete.startswith(form):
            return [form + path for path in _paths(incomplete.removeprefix(form), ())]
    return [name for name in names if name.startswith(incomplete)] + _paths(incomplete, _MODEL_FILES)


def data_sets(incomplete: str) -> list[str]:
    """Data that comes with the package, and files and folders."""
    from lowdim.data._digits import DIGITS_TASKS

    names = [*DIGITS_TASKS, "torchvision:"]
    return [name for name in names if name.startswith(incomplete)] + _paths(incomplete, _DATA_FILES)


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Layers of the network that was named before, where it comes with the package: others would take long to load."""
    from lowdim.models import as_model

    name = ctx.params.get("model")
    if not isinstance(name, str) or name not in models(name) or ":" in name or Path(name).exists():
        return []
    done, _, last = incomplete.rpartition(",")
    names = (layer for layer, _ in as_model(name).module.named_modules() if layer.startswith(last) and layer)
    return [f"{done}{',' * bool(done)}{layer}" for layer in names]


def experiments(incomplete: str) -> list[str]:
    """Figures of the lecture."""
    from lowdim.experiments import MODULES

    return [id for id in (*MODULES, "all") if id.startswith(incomplete)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders, and files with one of these endings, that begin so."""
    folder = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    try:
        entries = sorted(folder.expanduser().iterdir())
    except OSError:
        return []
    found = [f"{entry}/" if entry.is_dir() else str(entry) for entry in entries if _shown(entry, suffixes)]
    return [name for name in found if name.startswith(incomplete) and (incomplete or not name.startswith("."))]


def _shown(entry: Path, suffixes: tuple[str, ...]) -> bool:
    return entry.is_dir() or entry.suffix in suffixes
