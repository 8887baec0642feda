"""What a profile says: frozen numbers, ready for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerMeasure:
    """One layer on one split. What `lowdim.metrics.METRICS` names are attributes, too: ``layer.nc1``.

    Attributes:
        name: Layer name.
        index: Position among the measured layers, from 0.
        split: ``"train"`` or ``"test"``.
        width: Feature dimension after pooling.
        pool: How the layer's output was reduced.
        values: By metric; None where it has no value, and a warning says why.
        weighting, unbiased, min_per_class, max_per_class: How to read NC1; see `lowdim.metrics.Variability`.
        samples: Samples used.
        chance_samples: Samples from which the chance level and the effective rank come.
        dtype: Type of the features before they were accumulated in float64.
    """

    name: str
    index: int
    split: str
    width: int
    pool: str
    values: Mapping[str, Any]
    weighting: str
    unbiased: bool
    min_per_class: int
    max_per_class: int
    samples: int
    chance_samples: int
    dtype: str

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name != "values" and name in self.values:
            return self.values[name]
        raise AttributeError(f"a layer has no {name!r}")

    def as_dict(self) -> dict[str, Any]:
        """Flat, ready for JSON."""
        fields = asdict(self)
        values = fields.pop("values")
        return {name: fields.pop(name) for name in ("name", "index", "split", "width", "pool")} | values | fields


@dataclass(frozen=True)
class ClassMeasure:
    """The trouble by class, at the last layer: its share of NC1, and the class that it is closest to."""

    name: str
    split: str
    samples: int
    nc1_share: float | None
    cdnv: float | None
    nearest_class: str | None
    ncc_accuracy: float | None


@dataclass(frozen=True)
class Outlier:
    """A suspected label: a sample that looks like another class than its own to what has not seen it.

    `excess` is the squared distance to its own class mean minus that to the nearest other, over the mean squared distance
    between class means that it had no part in; the larger, the more suspicious. `probability` is that of its label by a probe that
    has not seen it; the smaller, the more suspicious. Each is None where suspects were told by the other: the probe
    is for data on which it takes seconds. `position` is the sample's place in the split.
    """

    item: str
    split: str
    position: int
    class_: str
    nearest_class: str
    excess: float | None
    probability: float | None = None


@dataclass(frozen=True)
class Law:
    """The law of data separation: log D against the layer index is a straight line of this slope and intercept, as far as `r2` is near 1."""

    slope: float
    intercept: float
    r2: float


@dataclass(frozen=True)
class Profile:
    """How the classes of a data set separate, layer by layer.

    Attributes:
        feature: What the network's feature is: ``layer``, ``pool``, ``width`` and ``why``.
        data: Per split: samples, independent (as how many they count in intervals: copies once), classes, per_class_min, per_class_max.
        accuracy: Of the network's own head, per split, where it has one for these classes.
        layers: One entry per layer, pooling and split, in order of computation.
        head: NC3 and NC4 of the head on the first split measured; empty without a head for these classes.
        head_by_split: The same for every split.
        law: Per split, for the first pooling.
        classes: The trouble by class, hardest first (the fewest nearest to their own mean, then by share of NC1).
        outliers: Suspected labels, most suspicious first.
        warnings: What a reader must know.

    Example:
        >>> from lowdim.data import load_digits
        >>> from lowdim.models import load_model
        >>> from lowdim.profiling import profile
        >>> found = profile(load_model("digits"), load_digits(), layers="head:input", splits=["test"])
        >>> found.data[0]["samples"], found.layers[0].nc1 < found.layers[0].nc1_chance
        (797, True)
    """

    feature: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]
    accuracy: Mapping[str, float]
    layers: Sequence[LayerMeasure]
    head: Mapping[str, float | None]
    head_by_split: Mapping[str, Mapping[str, float | None]]
    law: Mapping[str, Law]
    classes: Sequence[ClassMeasure]
    outliers: Sequence[Outlier]
    warnings: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON (`class_` is written ``class``)."""
        result = asdict(self) | {"layers": [layer.as_dict() for layer in self.layers]}
        for outlier in result["outliers"]:
            outlier["class"] = outlier.pop("class_")
        return result
