"""The models to be ranked: typed one by one, or in a TOML file with one table each."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from torch import nn

from lowdim._arguments import check_fields
from lowdim._files import path_digest
from lowdim._reading import reading, typed
from lowdim.errors import UsageError
from lowdim.features import network_content
from lowdim.models import LoadedModel, as_model, load_model
from lowdim.models._load import with_form

_LARGEST = 4_000
"""Pixels of a side; more than that is refused of any network."""
_Side = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]


class _Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a table of a TOML file may hold."""

    name: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    model: str | None = None
    features: str | None = None
    weights: str | None = None
    weights_key: str | None = None
    arguments: dict[str, Any] | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, msgspec.Meta(gt=0)]] | None = None
    image_size: int | tuple[_Side, _Side] | None = None  # with bounds on the first, msgspec 0.22 reads foreign memory
    group: str | None = None
    layer: str | None = None
    pool: Literal["avg", "flatten", "cls", "mean", "last", "map"] | None = None
    source_accuracy: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    random_weights: bool | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.features is None):
            raise ValueError("give either model or features")
        if isinstance(self.image_size, int) and not 1 <= self.image_size <= _LARGEST:
            raise ValueError(f"image_size must be from 1 to {_LARGEST:,}")


_DEEPEST = 100
"""Dots in a line: a key of thousands of parts is nested so deeply that freeing it ends Python."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: Annotated[list[_Table], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model to be ranked.

    Attributes:
        name: Shown in the ranking; unique.
        model: As for `lowdim.models.as_model`: a name, a `LoadedModel` or a torch module; None for saved features.
        features: A ``.npz`` file of features (``x_train, y_train``) instead of a model.
        options: Further arguments of `load_model`, such as ``feature`` and ``pool``.
        group: Candidates of one group (checkpoints of one run) are resampled together.
        source_accuracy: Accuracy on the data it was trained on, where known.

    Example:
        >>> Candidate(name="mine", model="digits", options={"random_weights": True}).identity()["sha256"]  # no file is read
        {}
    """

    name: str
    model: str | LoadedModel | nn.Module | None = None
    features: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    group: str | None = None
    source_accuracy: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def identity(self) -> dict[str, Any]:
        """What tells this candidate from another in a run's configuration: of the files and folders it names the contents, not the
        paths."""
        if self.model is not None and not isinstance(self.model, str):
            return self._of_object(self.model)
        prefix, path, factory = _parts(self.model or "")
        named = {"features": self.features, "weights": self.options.get("weights"), "model": path}
        found = {key: Path(name).expanduser() for key, name in named.items() if name}
        digests = {key: path_digest(where)[:16] for key, where in found.items() if where.is_file() or where.is_dir()}
        own = self.name not in (self.model, self.features)
        return {
            **asdict(self),
            "shown_as": self.name if own else None,
            "model": f"{prefix}{found['model'].resolve().name}{factory}" if "model" in digests else self.model,
            "features": None if "features" in digests else self.features,
            "options": {key: value for key, value in self.options.items() if key not in digests},
            "sha256": digests,
        }

    def load(self, kind: str) -> LoadedModel:
        """Its network; of saved features one that gives them as they are.

        Args:
            kind: Of the data, see `as_model`.
        """
        if self.model is None or isinstance(self.model, str):
            return load_model(self.model or "features", name=self.name, **self.options)
        return replace(as_model(self.model, kind=kind, **self.options), name=self.name)

    def _of_object(self, model: LoadedModel | nn.Module) -> dict[str, Any]:
        """`identity` of a network that is there."""
        there = as_model(model)
        how = {"preprocessing": there.preprocessing.as_dict()} if isinstance(model, LoadedModel) else {}
        return {
            **{key: value for key, value in vars(self).items() if key not in ("model", "options")},
            "shown_as": self.name,
            "model": there.name,
            "options": {**self.options, **how, "feature": there.layer, "pool": there.pool},
            "sha256": {"model": there.fingerprint, "code": network_content(there.module, "")[1][:16]},
        }


def _parts(spec: str) -> tuple[str, str, str]:
    """What stands before the file or folder in a spec, it itself (empty where there is none), and what stands after it."""
    spec = with_form(spec)
    for prefix in ("timm:local-dir:", "hf:"):
        folder = spec.removeprefix(prefix)
        if spec.startswith(prefix) and Path(folder).expanduser().is_dir():
            return prefix, folder, ""
    where, colon, factory = spec.rpartition(":")
    return ("", where, f"{colon}{factory}") if where.endswith(".py") else ("", "", spec)


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
        InputError: If the file is missing or no TOML, or a table has an unknown key, a value of the wrong type, or neither or both
            of ``model`` and ``features``.
        UsageError: If a name is taken.

    Example:
        >>> import tempfile
        >>> lines = ["[[models]]", 'name = "small"', 'model = "digits"', "source_accuracy = 0.98"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "zoo.toml"
        ...     _ = path.write_text(chr(10).join(lines))
        ...     [(one.name, one.model, one.source_accuracy) for one in read_candidates(path)]
        [('small', 'digits', 0.98)]
    """
    with reading(path, "TOML"):
        text = path.read_text(encoding="utf-8")
        if max(line.count(".") for line in ["", *text.splitlines()]) > _DEEPEST:
            raise RecursionError
        content = tomllib.loads(text)
    tables = typed(content, _File, str(path)).models
    candidates = [_candidate(table, path, options) for table in tables]
    _require_unique([candidate.name for candidate in candidates], str(path))
    return candidates


def _candidate(table: _Table, path: Path, common: Mapping[str, Any]) -> Candidate:
    base = path.resolve().parent
    names = ("arguments", "mean", "std", "image_size", "random_weights", "weights_key", "pool")
    options: dict[str, Any] = {name: value for name in names if (value := getattr(table, name)) is not None}
    if table.layer is not None:
        options["feature"] = table.layer
    if table.weights is not None:
        options["weights"] = str(base / Path(table.weights).expanduser())
    features = None if table.features is None else str(base / Path(table.features).expanduser())
    return Candidate(
        name=table.name or table.model or str(table.features),
        model=None if table.model is None else _relative(table.model, base),
        features=features,
        options={} if features else {**common, **options},
        group=table.group,
        source_accuracy=table.source_accuracy,
    )


def _relative(spec: str, base: Path) -> str:
    """A spec with the file or folder in it taken relative to the TOML file."""
    if with_form(str(base / spec)) != str(base / spec):
        return str(base / spec)
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
