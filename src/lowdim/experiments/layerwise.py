"""Section 1: how collapse and separation proceed through the layers of trained networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._real_networks import HOW, Subject, real_data, trained_networks
from lowdim.figures import Lines, Panels, Series, Table

if TYPE_CHECKING:
    from lowdim.profiling import LayerMeasure, Profile

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


def run_prevalence(settings: PrevalenceSettings, progress: Progress) -> Outcome:
    """log D against depth for each network: slope and R²."""
    from lowdim.profiling import profile

    subjects = [_fresh_mlp(settings), *trained_networks(settings.data, limit=settings.limit, seed=settings.seed)]
    verdicts: list[Verdict] = []
    series: list[Series] = []
    rows: list[list[object]] = []
    for index, subject in enumerate(subjects):
        found = profile(subject.model, subject.data, pools=("flatten",), splits=("train",), seed=settings.seed)
        layers = _blocks(found, "train", "flatten")
        values = _values(layers, "separation")
        slope, r2 = _line(values)
        depth = np.linspace(0, 1, len(values))
        series.append(Series(subject.name, depth, values, style="line+points"))
        rows.append(
            [subject.name, len(values), float(values[0]), float(values[-1]), slope, r2, found.accuracy.get("train")]
        )
        verdicts.append(
            Verdict.of(f"{subject.name}: D at the last block over D at the first", values[-1] / values[0], "<", 0.5)
        )
        verdicts.append(Verdict.of(f"{subject.name}: slope of log D", slope, "<", 0))
        progress(index + 1, len(subjects))
    table = Table(
        "networks",
        "Networks",
        ["network", "blocks", "D first", "D last", "slope of log D", "R²", "accuracy (train)"],
        rows,
        "R² is reported, not judged: the deeper residual networks fall slowly first and steeply in their last stage.",
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
    return Outcome(verdicts, [figure], [table], notes)


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
    ),
    Experiment(
        id="prevalence-of-separation",
        section=1,
        title="Progressive separation in every network at hand",
        lecture="1. Progressive separation on trained networks (MLP, CNN, ResNet, ViT)",
        why=(
            "The separation D of training images is measured through every trained network at hand. In each it falls from the "
            "first block to the last; how straight the line of log D is differs between architectures."
        ),
        source=_SOURCE,
        settings=PrevalenceSettings,
        run=run_prevalence,
        full={"limit": 4000},
        needs=("torch",),
    ),
)
