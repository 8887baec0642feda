"""The models to be ranked: typed one by one, or in a TOML file with one table each."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lowdim._files import sha256
from lowdim.errors import InputError, UsageError, did_you_mean

_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "model": (str,),
    "features": (str,),
    "weights": (str,),
    "arguments": (dict,),
    "mean": (list,),
    "std": (list,),
    "image_size": (int, list),
    "group": (str,),
    "layer": (str,),
    "pool": (str,),
    "source_accuracy": (int, float),
    "random_weights": (bool,),
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model to be ranked.

    Attributes:
        name: Shown in the ranking; unique.
        model: As for `lowdim.models.load_model`; None for saved features.
        features: A ``.npz`` file of features (``x_train, y_train``) instead of a model.
        options: Further arguments of `load_model`, such as ``feature`` and ``pool``.
        group: Candidates of one group (checkpoints of one run) are resampled together.
        source_accuracy: Accuracy on the data it was trained on, where known.

    Example:
        >>> Candidate(name="mine", model="digits", options={"random_weights": True}).identity()["sha256"]  # no file is read
        {}
    """

    name: str
    model: str | None = None
    features: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    group: str | None = None
    source_accuracy: float | None = None

    def identity(self) -> dict[str, Any]:
        """What tells this candidate from another in a run's configuration, with digests of the files it names."""
        files = [self.features, self.options.get("weights"), (self.model or "").rpartition(":")[0]]
        digests = {str(name): sha256(Path(name))[:16] for name in files if name and Path(name).is_file()}
        return {**asdict(self), "sha256": digests}


def candidates_of(specs: Sequence[str], **options: Any) -> list[Candidate]:
    """Candidates from what was typed: model specs, or ``.npz`` files of features.

    Args:
        specs: One per candidate.
        options: Arguments of `load_model` for all of them.

    Raises:
        UsageError: If one is named twice.

    Example:
        >>> [(one.name, one.model, one.features) for one in candidates_of(["timm:resnet18", "saved.npz"])]
        [('timm:resnet18', 'timm:resnet18', None), ('saved.npz', None, 'saved.npz')]
    """
    candidates = [
        Candidate(name=spec, features=spec)
        if spec.endswith(".npz")
        else Candidate(name=spec, model=spec, options=options)
        for spec in specs
    ]
    _require_unique([candidate.name for candidate in candidates], "the command")
    return candidates


def read_candidates(path: Path, **options: Any) -> list[Candidate]:
    """Candidates from a TOML file: ``[[models]]`` tables, paths relative to the file.

    Args:
        path: The file.
        options: Arguments of `load_model` for all of them; an entry's own come first.

    Raises:
        InputError: If the file is missing or no TOML.
        UsageError: If a table has an unknown key, a value of the wrong type, neither or both of ``model`` and ``features``,
            or a name that is taken.

    Example:
        >>> import tempfile
        >>> lines = ["[[models]]", 'name = "small"', 'model = "digits"', "source_accuracy = 0.98"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "zoo.toml"
        ...     _ = path.write_text(chr(10).join(lines))
        ...     [(one.name, one.model, one.source_accuracy) for one in read_candidates(path)]
        [('small', 'digits', 0.98)]
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error
    tables = content.get("models")
    if not isinstance(tables, list) or not tables or set(content) != {"models"}:
        raise UsageError(
            f"{path} must hold [[models]] tables and nothing else; it holds {', '.join(content) or 'nothing'}."
        )
    candidates = [_candidate(table, index, path, options) for index, table in enumerate(tables, start=1)]
    _require_unique([candidate.name for candidate in candidates], str(path))
    return candidates


def _candidate(table: dict[str, Any], index: int, path: Path, common: Mapping[str, Any]) -> Candidate:
    where = f"{path}, model {index}"
    for key, value in table.items():
        if key not in _KEYS:
            raise UsageError(f"{where}: unknown key {key!r}. {did_you_mean(key, _KEYS)}")
        if not isinstance(value, _KEYS[key]) or (isinstance(value, bool) and bool not in _KEYS[key]):
            raise UsageError(f"{where}: {key} = {value!r} has the wrong type.")
    if ("model" in table) == ("features" in table):
        raise UsageError(f"{where}: give either model or features.")
    base = path.resolve().parent
    named = ("arguments", "mean", "std", "image_size", "random_weights", "pool")
    options = {key: table[key] for key in named if key in table}
    if "layer" in table:
        options["feature"] = table["layer"]
    if "weights" in table:
        options["weights"] = str(base / Path(table["weights"]).expanduser())
    if isinstance(options.get("image_size"), list):
        options["image_size"] = tuple(options["image_size"])
    features = table.get("features")
    return Candidate(
        name=table.get("name") or table.get("model") or str(features),
        model=_relative(table["model"], base) if "model" in table else None,
        features=None if features is None else str(base / Path(features).expanduser()),
        options={} if features else {**common, **options},
        group=table.get("group"),
        source_accuracy=table.get("source_accuracy"),
    )


def _relative(spec: str, base: Path) -> str:
    """A spec with the file or folder in it taken relative to the TOML file."""
    for prefix in ("timm:local-dir:", "hf:"):
        if spec.startswith(prefix):
            folder = base / Path(spec.removeprefix(prefix)).expanduser()
            return f"{prefix}{folder}" if folder.is_dir() or prefix == "timm:local-dir:" else spec
    where, colon, factory = spec.rpartition(":")
    return f"{base / Path(where).expanduser()}{colon}{factory}" if where.endswith(".py") else spec


def _require_unique(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{where} names {', '.join(twice)} more than once. Give each candidate its own name.")
