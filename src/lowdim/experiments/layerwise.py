"""Section 1: how collapse and separation proceed through the layers of trained networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._kept import kept
from lowdim.experiments._real_networks import HOW, Subject, real_data, trained_networks
from lowdim.figures import Lines, Panels, Series, Table

if TYPE_CHECKING:
    from lowdim.models import LoadedModel
    from lowdim.profiling import LayerMeasure, Profile

_BATCH = 32
"""Samples per pass: in larger ones the maps of pictures of 32 pixels no longer fit into a processor's cache."""
_SOURCE = "Papyan 2020 (JMLR 21); He and Su 2022, arXiv 2210.17020 (law of data separation)."


@dataclass(frozen=True)
class CollapseSettings:
    """The embedded network on scikit-learn's digits (1,000 train, 797 test images)."""

    seed: int = 0
    model: str = "digits"


def run_collapse(settings: CollapseSettings, progress: Progress) -> Outcome:
    """Measures NC1 and D after every block, flattened beside pooled, on train and test, with the chance level."""
    from lowdim.data import load_data
    from lowdim.models import load_model
    from lowdim.profiling import profile

    found = profile(
        load_model(settings.model), load_data("digits"), pools=("flatten", "avg"), seed=settings.seed, progress=progress
    )
    verdicts: list[Verdict] = []
    panels: list[Lines] = []
    for pool in ("flatten", "avg"):
        for quantity, label in (("nc1", "NC1"), ("separation", "D")):
            for split in ("train", "test"):
                values = _values(_blocks(found, split, pool), quantity)
                largest = float(np.max(values[1:] / values[:-1]))
                verdicts.append(
                    Verdict.of(f"{label} over its value one block before, largest ({pool}, {split})", largest, "<", 1)
                )
            panels.append(_panel(found, pool, quantity, label))
    for split in ("train", "test"):
        rows = _blocks(found, split, "flatten")
        r2 = _line(_values(rows, "separation"))[1]
        verdicts.append(Verdict.of(f"R² of log D against the block (flatten, {split})", r2, ">=", 0.97))
        below = float(np.max(_values(rows, "nc1") / _values(rows, "nc1_chance")))
        verdicts.append(
            Verdict.of(f"NC1 over its chance level, largest over blocks (flatten, {split})", below, "<", 0.1)
        )
    figure = Panels(
        "layers", "Collapse block by block", panels, columns=2, caption="Dotted: chance level (labels permuted)."
    )
    return Outcome(verdicts, [figure])


def _blocks(found: "Profile", split: str, pool: str) -> list["LayerMeasure"]:
    rows = [layer for layer in found.layers if layer.split == split and layer.pool == pool]
    # The penultimate feature is the pooled output of the last block, not another step.
    return [layer for layer in rows if not layer.name.endswith(":input")] or rows


def _values(rows: Sequence["LayerMeasure"], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], dtype=float)


def _line(values: np.ndarray) -> tuple[float, float]:
    """Slope and R² of log values against the layer index."""
    from lowdim.profiling import separation_law

    law = separation_law(values.tolist())
    return (float("nan"), float("nan")) if law is None else (law.slope, law.r2)


def _panel(found: "Profile", pool: str, quantity: str, label: str) -> Lines:
    series: list[Series] = []
    for colour, split in enumerate(("train", "test")):
        rows = _blocks(found, split, pool)
        x = np.arange(len(rows))
        series.append(Series(split, x, _values(rows, quantity), style="line+points", colour=colour))
        if quantity == "nc1":
            series.append(Series(f"{split}, chance", x, _values(rows, "nc1_chance"), style="dotted", colour=colour))
    names = [row.name for row in _blocks(found, "train", pool)]
    return Lines(f"{quantity}-{pool}", f"{label} ({pool})", "block", label, series, log_y=True, x_ticks=names)


@dataclass(frozen=True)
class PrevalenceSettings:
    """Every trained network at hand, and a multilayer perceptron trained on the spot."""

    seed: int = 0
    data: str = field(default_factory=real_data)
    limit: int = 300
    mlp_epochs: int = 40
    draws: int = 3


def run_prevalence(settings: PrevalenceSettings, progress: Progress) -> Outcome:
    """log D against depth for each network: slope and R²."""
    trained = list(trained_networks(settings.data, limit=settings.limit, seed=settings.seed))
    subjects = [_fresh_mlp(settings), *trained]
    verdicts: list[Verdict] = []
    series: list[Series] = []
    pooled: list[Series] = []
    rows: list[list[object]] = []

    for index, subject in enumerate(subjects):
        parts = kept(subject.name, lambda subject=subject: _measured(subject, settings))
        found, values = np.array(parts["pooled"], float), np.array(parts["separation"], float)
        controls = [np.array(one, float) for one in parts["random"]]
        slope, r2 = _line(values)
        fall, lowest = _fall(found), min(_fall(control) for control in controls)
        own, other = (np.linspace(0, 1, len(curve)) for curve in (found, controls[0]))
        pooled.append(Series(subject.name, own, found, style="line+points", colour=index))
        pooled.append(Series(f"{subject.name}, random weights", other, controls[0], style="dotted", colour=index))
        depth = np.linspace(0, 1, len(values))
        series.append(Series(subject.name, depth, values, style="line+points"))
        rows.append(
            [
                subject.name, len(values), float(values[0]), float(values[-1]), slope, r2, fall, lowest,
                parts["accuracy"],
            ]
        )  # fmt: skip
        verdicts.append(fall_verdict(subject.name, fall, lowest, settings.draws))
        progress(index + 1, len(subjects))
    table = Table(
        "networks",
        "Networks",
        [
            "network",
            "blocks",
            "D first",
            "D last",
            "slope of log D",
            "R²",
            "pooled NC1, last over first",
            "with random weights, lowest",
            "accuracy (train)",
        ],
        rows,
        "D is of flattened maps, NC1 of pooled features, as the lecture has it. R² is reported, not judged: the deeper residual networks fall "
        "slowly first and steeply in their last stage.",
    )
    figure = Lines(
        "separation",
        "Separation D against relative depth",
        "depth (first block 0, last block 1)",
        "D",
        series,
        log_y=True,
        caption="Training images, flattened maps.",
    )
    notes = () if settings.data else (f"Only embedded networks were at hand. {HOW}",)
    collapse = Lines(
        "pooled",
        "NC1 of pooled features against relative depth",
        "depth (first block 0, last block 1)",
        "NC1",
        pooled,
        log_y=True,
        caption="Training images. Dotted: the same networks with random weights.",
    )
    return Outcome(verdicts, [collapse, figure], [table], notes)


def fall_verdict(name: str, fall: float, lowest: float, draws: int) -> Verdict:
    """Against the same network with random weights: their fall alone was below a half in three networks of seven, and one draw of it over
    the lowest of three others between .66 and 1.9 in five networks, so that .25 is what training does."""
    said = f"{name}: NC1 of pooled features, last block over first, over the lowest of the same network with random weights ({draws} draws)"
    return Verdict.of(said, fall / lowest, "<", 0.25)


def _control_seeds(settings: PrevalenceSettings, name: str) -> list[int]:
    return [child_seed(settings.seed, "control", name, *([draw] if draw else [])) for draw in range(settings.draws)]


def _measured(subject: Subject, settings: PrevalenceSettings) -> dict[str, Any]:
    """NC1 of pooled features after each block, with trained weights and with random ones, D of flattened maps, and the accuracy."""
    from lowdim.profiling import profile

    def profiled(model: "LoadedModel", layers: Sequence[str] | None = None) -> "Profile":
        return profile(
            model, subject.data, layers=layers, pools=("avg",), splits=("train",), seed=settings.seed, batch_size=_BATCH
        )

    found = profiled(subject.model)
    names = [row.name for row in _pooled_blocks(found)]
    ends = [None, *[(names[0], names[-1])] * (settings.draws - 1)]  # the first draw is drawn, too
    controls = [
        profiled(untrained(subject.model, seed), layers)
        for seed, layers in zip(_control_seeds(settings, subject.name), ends, strict=True)
    ]
    return {
        "pooled": _pooled(found).tolist(),
        "random": [_pooled(control).tolist() for control in controls],
        "separation": _flattened(subject, names).tolist(),
        "accuracy": found.accuracy.get("train"),
    }


def _fall(pooled: np.ndarray) -> float:
    return float(pooled[-1] / pooled[0])


def _pooled(found: "Profile") -> np.ndarray:
    return _values(_pooled_blocks(found), "nc1")


def _pooled_blocks(found: "Profile") -> list["LayerMeasure"]:
    """Where features have no places, they are as they are."""
    return _blocks(found, "train", "avg") or _blocks(found, "train", "flatten")


def _flattened(subject: Subject, names: Sequence[str]) -> np.ndarray:
    """D of the flattened outputs of these layers, on training samples: it needs moments alone, of what is far wider than pooled features."""
    import torch

    from lowdim.features import Forward, Key, SplitSource
    from lowdim.metrics import separation
    from lowdim.statistics import ClassStatistics

    keys: list[Key] = [(name, "flatten") for name in names]
    forward, train = Forward(subject.model.module, keys, torch.device("cpu")), subject.data["train"]
    source, labels = SplitSource(train, subject.model.preprocessing), torch.from_numpy(train.labels)
    moments: dict[str, ClassStatistics] = {}
    for start in range(0, len(train), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(train)))
        found = forward(source.inputs(rows))
        for name in forward.names:
            here = moments.setdefault(name, ClassStatistics.empty(len(subject.data.classes), found[name].shape[1]))
            here.add(found[name], labels[rows])
    return np.array([separation(moments[name]).value for name in forward.names])


def untrained(model: "LoadedModel", seed: int) -> "LoadedModel":
    """The same architecture with the weights of a fresh start: the negative control."""
    import copy
    from dataclasses import replace

    import torch

    module = copy.deepcopy(model.module)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        drawn: set[int] = set()
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(parameter) for parameter in part.parameters(recurse=False)}
        for parameter in module.parameters():
            if id(parameter) not in drawn:  # tokens and positions, which no layer owns
                parameter.normal_(0, 0.02)
    return replace(model, module=module, random_weights=True, fingerprint="")


def _fresh_mlp(settings: PrevalenceSettings) -> Subject:
    import torch

    from lowdim.data import load_data
    from lowdim.experiments._training import tensors, train
    from lowdim.models import DigitsMLP, LoadedModel, load_model

    data, known = load_data("digits"), load_model("digits")
    inputs, labels = tensors(data["train"], known.preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(settings.seed, "mlp"))
        module = DigitsMLP()
    for _ in train(
        module,
        inputs,
        labels,
        epochs=settings.mlp_epochs,
        rate=0.05,
        decay=1e-3,
        batch_size=50,
        seed=child_seed(settings.seed, "order"),
        warm_up=0.1,
    ):
        pass
    model = LoadedModel(
        name="MLP trained now",
        module=module,
        preprocessing=known.preprocessing,
        classes=data.classes,
        random_weights=False,
        fingerprint="",
        source={},
    )
    return Subject("MLP trained now", model, data)


EXPERIMENTS = (
    Experiment(
        id="layerwise-collapse",
        section=1,
        title="Layer-wise collapse of the embedded network",
        lecture="1. Neural collapse: layer by layer",
        why=(
            "NC1 and the separation D are measured after every block of a trained residual network. Both fall at every block, on "
            "train and on test images, and log D is nearly a straight line."
        ),
        source=_SOURCE,
        settings=CollapseSettings,
        run=run_collapse,
        needs=("torch",),
        cost=5,
    ),
    Experiment(
        id="prevalence-of-separation",
        section=1,
        title="Progressive separation in every network at hand",
        lecture="1. Progressive separation on trained networks (MLP, CNN, ResNet, ViT)",
        why=(
            "NC1 of pooled features, and the separation D of flattened maps, are measured through every trained network at hand. NC1 falls from the "
            "first block to the last, far more than with random weights; how D gets there, and how straight its line is, differs between architectures."
        ),
        source=_SOURCE,
        settings=PrevalenceSettings,
        run=run_prevalence,
        full={"limit": 4000},
        needs=("torch",),
        cost=46,
    ),
)
