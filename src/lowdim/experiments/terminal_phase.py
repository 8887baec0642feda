"""Section 1: training on after the last error is gone, the features collapse."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Lines, Panels, Series

if TYPE_CHECKING:
    from lowdim.profiling import Profile


@dataclass(frozen=True)
class Settings:
    """An MLP and a small CNN on scikit-learn's digits, trained far past zero training error.

    The recipe was chosen at seed 7.
    """

    seed: int = 0
    mlp_epochs: int = 250
    cnn_epochs: int = 400
    rate: float = 0.02
    decay: float = 5e-3
    batch_size: int = 125
    measurements: int = 30


@dataclass(frozen=True)
class Subject:
    """A network to train, and how."""

    name: str
    make: Callable[[], Any]
    epochs: int


def _cnn() -> Any:
    """Two convolutions and a hidden layer of 64."""
    from torch import nn

    convolutions = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    convolutions += [nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()]
    hidden = [nn.Linear(32 * 4 * 4, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(OrderedDict(body=nn.Sequential(*convolutions, *hidden), head=nn.Linear(64, 10)))


@dataclass(frozen=True)
class Point:
    """What was measured after an epoch, on one split."""

    error: float
    nc1: float
    nc2: float
    nc3: float
    nc4: float


def run(settings: Settings, progress: Progress) -> Outcome:
    """Trains both networks and follows NC1 to NC4 on train and test."""
    from lowdim.models import DigitsMLP

    verdicts: list[Verdict] = []
    panels: list[Lines] = []
    subjects = [Subject("MLP", DigitsMLP, settings.mlp_epochs), Subject("CNN", _cnn, settings.cnn_epochs)]
    total = sum(subject.epochs for subject in subjects)
    done = 0
    for subject in subjects:
        history = _history(subject, settings, lambda epoch, before=done: progress(before + epoch, total))
        done += subject.epochs
        name = subject.name
        verdicts += _verdicts(name, history)
        panels += [_panel(name, history, split) for split in ("train", "test")]
    figure = Panels(
        "phases",
        "NC1 to NC4 while training goes on",
        panels,
        columns=2,
        caption="Values at zero are not shown on the logarithmic axis. NC2 is the distance of the Gram matrix from a simplex frame.",
    )
    return Outcome(verdicts, [figure])


def _history(subject: Subject, settings: Settings, progress: Callable[[int], None]) -> dict[int, dict[str, Point]]:
    import torch

    from lowdim.data import load_digits
    from lowdim.experiments._training import tensors, train
    from lowdim.models import Preprocessing
    from lowdim.profiling import profile

    data = load_digits()
    grey = Preprocessing(image_size=(8, 8), mean=(0.0,), std=(1.0,), channels=1)
    parts = {key: tensors(split, grey) for key, split in data.splits.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(settings.seed, subject.name))
        module = subject.make()
    inputs, labels = parts["train"]
    marks = set(np.unique(np.geomspace(1, subject.epochs, settings.measurements).round().astype(int)).tolist())
    history: dict[int, dict[str, Point]] = {}
    training = train(
        module,
        inputs,
        labels,
        epochs=subject.epochs,
        rate=settings.rate,
        decay=settings.decay,
        batch_size=settings.batch_size,
        seed=child_seed(settings.seed, subject.name, "order"),
        warm_up=0.02,
    )
    for epoch in training:
        if epoch in marks:
            found = profile(module, parts, layers="head:input", batch_size=500)
            history[epoch] = {split: _point(found, split) for split in parts}
        progress(epoch)
    return history


def _point(found: "Profile", split: str) -> Point:
    layer = next(layer for layer in found.layers if layer.split == split)
    head = found.head_by_split[split]
    nc2 = layer.nc2["etf_distance"] if layer.nc2 else float("nan")
    missing = float("nan")
    return Point(
        error=1 - found.accuracy[split],
        nc1=missing if layer.nc1 is None else layer.nc1,
        nc2=nc2,
        nc3=missing if head["nc3"] is None else head["nc3"],
        nc4=missing if head["nc4"] is None else head["nc4"],
    )


def _verdicts(name: str, history: dict[int, dict[str, Point]]) -> list[Verdict]:
    train = {epoch: points["train"] for epoch, points in history.items()}
    last = train[max(train)]
    perfect = [epoch for epoch, point in train.items() if point.error == 0]
    if not perfect:
        return [Verdict.of(f"{name}: training error at the end", last.error, "==", 0)]
    at = train[min(perfect)]
    return [
        Verdict.of(f"{name}: training error at the end", last.error, "==", 0),
        Verdict.of(
            f"{name}: NC1 at zero error (epoch {min(perfect)}) over NC1 at the end, train", at.nc1 / last.nc1, ">=", 10
        ),
        Verdict.of(f"{name}: NC2 at the end over NC2 at zero error, train", last.nc2 / at.nc2, "<", 1),
        Verdict.of(f"{name}: NC3 at the end over NC3 at zero error, train", last.nc3 / at.nc3, "<", 1),
        Verdict.of(f"{name}: NC4 at the end, train", last.nc4, "==", 0),
    ]


def _panel(name: str, history: dict[int, dict[str, Point]], split: str) -> Lines:
    epochs = np.array(sorted(history))
    labels = {"error": "error", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3", "nc4": "NC4"}
    series = [
        Series(label, epochs, np.array([_shown(getattr(history[int(epoch)][split], key)) for epoch in epochs]))
        for key, label in labels.items()
    ]
    return Lines(f"{name}-{split}", f"{name}, {split}", "epoch", "value", series, log_x=True, log_y=True)


def _shown(value: float) -> float:
    return value if value > 0 else float("nan")


EXPERIMENTS = (
    Experiment(
        id="terminal-phase",
        section=1,
        title="The terminal phase: collapse goes on after the last error",
        lecture="1. Neural collapse: NC1 to NC4 during training",
        why=(
            "An MLP and a CNN are trained on digits long after every training sample is classified correctly. The variability "
            "within classes (NC1) falls by another factor of ten and more, the class means approach a simplex frame (NC2), the "
            "classifier aligns with them (NC3) and decides like the nearest class mean (NC4)."
        ),
        source="Papyan, Han and Donoho 2020, doi:10.1073/pnas.2015509117.",
        settings=Settings,
        run=run,
        full={"mlp_epochs": 1000, "cnn_epochs": 1000},
        needs=("torch",),
        cost=26,
    ),
)
