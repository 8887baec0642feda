"""Section 1: collapse against transfer accuracy, and fine-tuning methods compared."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._real_networks import HOW, real_data
from lowdim.figures import Lines, Panels, Series, Table

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.finetuning import Tuned
    from lowdim.models import LoadedModel
    from lowdim.ranking import Candidate

_LI = "Li et al. 2022/2024, arXiv 2212.12206 (TMLR)."
METHODS = ("linear-probe", "layer", "scl", "ensemble", "lp-ft", "full", "full, batch statistics")
"""The last is `full` with BatchNorm in training mode, as most scripts have it."""


@dataclass(frozen=True)
class RankingSettings:
    """NC1 of downstream data against the accuracy of the linear probe, over a family of pre-trained models."""

    seed: int = 0
    data: str = field(default_factory=real_data)
    limit: int = 500


def run_ranking(settings: RankingSettings, progress: Progress) -> Outcome:
    """Scores every candidate with one pass and compares with the cross-validated probe."""
    from lowdim.ranking import rank

    candidates, data, judged = _family(settings)
    found = rank(candidates, data, seed=settings.seed, progress=progress)
    places = [place.as_dict() for place in found.places]
    agreement = found.agreement["nc1"]
    note = "" if judged else "few small networks of equal origin: shown, not judged (see the note)"
    verdicts = [
        # Signs are aligned, so that agreement is positive: lower NC1 goes with higher accuracy.
        Verdict.of(
            "Spearman of NC1 with the probe accuracy, signs aligned",
            agreement.spearman,
            ">=",
            0.9,
            judged=judged,
            note=note,
        )
    ]
    x = np.array([place["nc1"] for place in places], dtype=float)
    y = np.array([100 * place["probe_accuracy"] for place in places], dtype=float)
    figure = Lines(
        "ranking",
        "NC1 on downstream training data against probe accuracy",
        "NC1 (lower is more collapsed)",
        "probe accuracy %",
        [Series("models", x, y, style="points", labels=[place["model"] for place in places])],
        log_x=True,
    )
    columns = ["model", "NC1", "H-score", "LogME", "NCC accuracy", "probe accuracy", "width"]
    keys = ["model", "nc1", "h_score", "logme", "ncc_accuracy", "probe_accuracy", "width"]
    table = Table("scores", "Scores", columns, [[place[key] for key in keys] for place in places])
    scores = [
        [name, one.spearman, one.kendall, *(one.interval or (None, None))] for name, one in found.agreement.items()
    ]
    agreements = Table(
        "agreement",
        "Agreement with the probe (signs aligned)",
        ["score", "Spearman", "Kendall", "low", "high"],
        scores,
        "The interval is a bootstrap over models in which checkpoints of one run count as one.",
    )
    notes = (
        [] if judged else [f"Only the embedded networks were at hand; they do not show that NC1 ranks models. {HOW}"]
    )
    return Outcome(verdicts, [figure], [table, agreements], [*notes, *found.warnings])


def _family(settings: RankingSettings) -> "tuple[list[Candidate], Dataset, bool]":
    from lowdim.data import load_data
    from lowdim.ranking import Candidate

    root = Path(settings.data)
    meta = root / "models" / "cifar100_resnet14" / "meta.json"
    images = root / "images" / "cifar10_lossless_5000.npz"
    if not settings.data or not meta.is_file() or not images.is_file():
        names = ["digits-0-4", "digits-split"]
        candidates = [Candidate(name=name, model=name) for name in names]
        candidates.append(Candidate(name="random weights", model="digits", options={"random_weights": True}))
        return candidates, load_data("digits-target"), False
    entries: dict[str, dict[str, Any]] = json.loads(meta.read_text())
    candidates = [
        Candidate(
            name=name.removeprefix("resnet_cifar_"),
            model=f"{root / 'models' / 'architectures.py'}:cifar100_resnet14",
            options={"arguments": {"checkpoint": name}, "mean": entry["mean"], "std": entry["std"], "image_size": 32},
            group=name.removeprefix("resnet_cifar_").split("_", 1)[1],
            source_accuracy=entry["cifar100_test_acc"] / 100,
        )
        for name, entry in entries.items()
    ]
    return candidates, load_data(str(images), limit=settings.limit, seed=settings.seed), True


@dataclass(frozen=True)
class TransferSettings:
    """A network and labelled images; without them MobileNetV2 0.35 on textures of `texture_size` pixels, or digits 0 to 4 on 5 to 9."""

    seed: int = 0
    data: str = field(default_factory=real_data)
    model: str = ""
    weights: str = ""
    images: str = ""
    image_size: int = 0
    block: str = "auto"
    shots: int = 10
    seeds: int = 2
    methods: tuple[str, ...] = METHODS
    texture_size: int = 128


@dataclass(frozen=True)
class _Case:
    """A network with a data set, and whether the findings of the lecture are to be expected of it."""

    name: str
    network: "LoadedModel"
    images: str
    block: str
    real: bool

    @property
    def normalised(self) -> bool:
        """Whether the network has BatchNorm, whose statistics few images estimate badly."""
        return any("BatchNorm" in type(module).__name__ for module in self.network.module.modules())


def _case(settings: TransferSettings) -> _Case:
    from lowdim.models import load_model

    size = settings.image_size or None
    root = Path(settings.data)
    mobilenet, textures = root / "models" / "mobilenetv2_035_imagenet", root / "images" / "dtd10"
    if settings.model:
        network = load_model(settings.model, weights=settings.weights or None, image_size=size)
        return _Case(settings.model, network, settings.images or str(textures), settings.block, real=True)
    if settings.data and mobilenet.is_dir() and textures.is_dir():
        pixels = size or settings.texture_size
        network = load_model(f"timm:local-dir:{mobilenet}", image_size=pixels)
        name = f"MobileNetV2 0.35 on ten textures of {pixels} px"
        return _Case(name, network, str(textures), "blocks.4.0", real=True)
    block = "blocks.1" if settings.block == "auto" else settings.block
    return _Case("digits 0 to 4 on 5 to 9", load_model("digits-0-4"), "digits-5-9", block, real=False)


def _tuned(case: _Case, settings: TransferSettings, method: str, shots: int, seed: int) -> "Tuned":
    from lowdim.data import load_data
    from lowdim.finetuning import finetune

    data = load_data(case.images, shots=shots, seed=seed)
    name, _, statistics = method.partition(", ")
    return finetune(
        case.network,
        data,
        method=name,
        layer=case.block,
        batch_norm="batch" if statistics else "frozen",
        seed=seed,
    )


def _notes(case: _Case) -> list[str]:
    if case.real:
        return [f"{case.name}; trained block {case.block}."]
    return [
        f"{case.name}, trained block {case.block}: a small embedded task, which shows less than real networks do. {HOW}"
    ]


def run_table(settings: TransferSettings, progress: Progress) -> Outcome:
    """Accuracy, NC1 of test images, share of parameters and seconds, for each method."""
    case = _case(settings)
    runs: dict[str, list[Tuned]] = {}
    total = len(settings.methods) * settings.seeds
    for count, (method, seed) in enumerate(_grid(settings.methods, settings.seeds)):
        runs.setdefault(method, []).append(_tuned(case, settings, method, settings.shots, settings.seed + seed))
        progress(count + 1, total)
    rows: list[list[object]] = []
    times: list[list[object]] = []
    for method, found in runs.items():
        accuracy = np.array([100 * run.accuracy["test"] for run in found])
        spent = [sum(sum(part["seconds"]) for part in run.history.values()) for run in found]
        share = 100 * found[0].trained_parameters / found[0].total_parameters
        nc1 = [run.nc1["test"] for run in found if run.nc1["test"] is not None]
        spread = float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None
        rows.append([method, float(accuracy.mean()), spread, float(np.mean(nc1)) if nc1 else None, share])
        times.append([method, float(np.mean(spent))])
    columns = ["method", "test accuracy %", "std over seeds", "NC1 (test)", "trained parameters %"]
    tables = [
        Table("methods", f"{settings.shots} labels per class, {settings.seeds} seeds", columns, rows),
        Table("seconds", "Time of training", ["method", "seconds"], times, "Mean over seeds; differs from run to run."),
    ]
    return Outcome(_table_verdicts(case, runs), [], tables, [*_notes(case), *_collapse_note(runs)])


def _grid(methods: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    return ((method, seed) for method in methods for seed in range(seeds))


def _mean(runs: "Sequence[Tuned]") -> float:
    return float(np.mean([run.accuracy["test"] for run in runs]))


def _table_verdicts(case: _Case, runs: "dict[str, list[Tuned]]") -> list[Verdict]:
    verdicts: list[Verdict] = []
    for full, judged, note in (
        ("full, batch statistics", case.real and case.normalised, "a finding about real networks with BatchNorm"),
        ("full", False, "reported either way: with frozen statistics full fine-tuning need not overfit"),
    ):
        if {"layer", full} <= runs.keys():
            difference = _mean(runs["layer"]) - _mean(runs[full])
            note = "" if judged else note
            verdicts.append(
                Verdict.of(f"one block less {full}, test accuracy", difference, ">", 0, judged=judged, note=note)
            )
    if "layer" in runs:
        share = runs["layer"][0].trained_parameters / runs["layer"][0].total_parameters
        verdicts.append(Verdict.of("share of the parameters that one block trains", share, "<=", 0.2))
    if not case.real and {"layer", "linear-probe"} <= runs.keys():
        difference = _mean(runs["layer"]) - _mean(runs["linear-probe"])
        verdicts.append(Verdict.of("one early block less the probe, test accuracy", difference, ">=", 0.05))
    return verdicts


def _collapse_note(runs: "dict[str, list[Tuned]]") -> list[str]:
    """Whether scl collapses more than layer, the lecture's mechanism: reported either way."""
    if not {"layer", "scl"} <= runs.keys():
        return []
    pairs = [
        (one.nc1["test"], other.nc1["test"])
        for one, other in zip(runs["scl"], runs["layer"], strict=True)
        if one.nc1["test"] is not None and other.nc1["test"] is not None
    ]
    less = sum(scl < layer for scl, layer in pairs)
    return [f"scl has the lower NC1 on test images than layer in {less} of {len(pairs)} seeds."]


@dataclass(frozen=True)
class ScarcitySettings(TransferSettings):
    """The same, over several numbers of labels per class."""

    sizes: tuple[int, ...] = (5, 20)
    methods: tuple[str, ...] = ("linear-probe", "layer", "full, batch statistics")
    texture_size: int = 96


def run_scarcity(settings: ScarcitySettings, progress: Progress) -> Outcome:
    """Test accuracy against labels per class, mean and range over seeds."""
    case = _case(settings)
    accuracy: dict[tuple[str, int], list[float]] = {}
    grid = [
        (method, shots, seed) for shots in settings.sizes for method, seed in _grid(settings.methods, settings.seeds)
    ]
    for count, (method, shots, seed) in enumerate(grid):
        run = _tuned(case, settings, method, shots, settings.seed + seed)
        accuracy.setdefault((method, shots), []).append(100 * float(run.accuracy["test"]))
        progress(count + 1, len(grid))
    sizes = np.array(settings.sizes)
    series = [
        Series(
            method,
            sizes,
            np.array([np.mean(accuracy[method, shots]) for shots in settings.sizes]),
            np.array([np.min(accuracy[method, shots]) for shots in settings.sizes]),
            np.array([np.max(accuracy[method, shots]) for shots in settings.sizes]),
            style="line+points",
        )
        for method in settings.methods
    ]
    verdicts = [
        Verdict.of(
            f"{one.name}: accuracy with {sizes[-1]} labels per class less with {sizes[0]}, points",
            float(one.y[-1] - one.y[0]),
            ">",
            0,
        )
        for one in series
    ]
    figure = Lines(
        "scarcity",
        "Accuracy against labels per class",
        "labels per class",
        "test accuracy %",
        series,
        log_x=True,
        caption=f"Mean and range over {settings.seeds} seeds.",
    )
    return Outcome(verdicts, [figure], [], _notes(case))


@dataclass(frozen=True)
class LayerwiseSettings(TransferSettings):
    """NC1 and NCC accuracy after every block of the networks that each method gives."""

    methods: tuple[str, ...] = ("linear-probe", "layer", "full")


def run_layerwise(settings: LayerwiseSettings, progress: Progress) -> Outcome:
    """Profiles of the tuned networks on training and test images."""
    from lowdim.data import load_data
    from lowdim.finetuning._store import example_inputs
    from lowdim.models import default_layers
    from lowdim.profiling import profile

    case = _case(settings)
    data = load_data(case.images, shots=settings.shots, seed=settings.seed)
    feature = case.network.feature(example_inputs(data["train"], case.network.preprocessing))
    base = default_layers(case.network.module, feature)
    series: dict[str, list[Series]] = {"train": [], "test": []}
    last: dict[str, dict[str, float]] = {}
    for count, method in enumerate(settings.methods):
        tuned = _tuned(case, settings, method, settings.shots, settings.seed)
        inner = _inside(tuned.model, base)
        network = _wrapped(case.network, tuned.model)
        found = profile(network, data, layers=list(inner), seed=settings.seed)
        for split, curves in series.items():
            values = np.array([layer.nc1 for layer in found.layers if layer.split == split], dtype=float)
            curves.append(Series(method, np.arange(len(values)), values, style="line+points"))
            last.setdefault(method, {})[split] = float(values[-1])
        progress(count + 1, len(settings.methods))
    names = [name.split(":")[0] for name in base]
    panels = [
        Lines(f"nc1-{split}", split, "layer", "NC1", curves, log_y=True, x_ticks=names[: len(curves[0].y)])
        for split, curves in series.items()
    ]
    # The probe leaves the network as it was; both values are of the same test images, so they can be compared.
    verdicts = [
        Verdict.of(
            "one block over the untouched network, NC1 of the last layer on test images",
            last["layer"]["test"] / last["linear-probe"]["test"],
            "<",
            1,
        )
    ]
    figure = Panels("layers", "NC1 by layer and method", panels, columns=2)
    rows = [[method, values["train"], values["test"]] for method, values in last.items()]
    table = Table(
        "last",
        "NC1 at the last layer",
        ["method", "train", "test"],
        rows,
        "Train and test have different numbers of images per class: compare methods within a column, not the columns.",
    )
    return Outcome(verdicts, [figure], [table], _notes(case))


def _inside(module: Any, layers: Sequence[str]) -> Iterator[str]:
    """The names that the base's layers have inside the tuned network."""
    from lowdim.features import INPUT

    names = [name for name, _ in module.named_modules()]
    for layer in layers:
        stem = layer.removesuffix(INPUT)
        for name in names:
            if name == stem or name.endswith(f".{stem}"):
                yield name + layer[len(stem) :]
                break


def _wrapped(base: "LoadedModel", module: Any) -> "LoadedModel":
    from dataclasses import replace

    return replace(base, module=module, classes=None)


_TRANSFER_NEEDS = ("torch",)

EXPERIMENTS = (
    Experiment(
        id="collapse-and-transfer",
        section=1,
        title="More collapse on downstream data, better transfer",
        lecture="1. Transfer: NC1 on downstream data against linear-probe accuracy",
        why=(
            "Pre-trained models are scored on downstream training data with one pass each, and a linear probe is fitted to every one. "
            "Between models, a lower NC1 goes with a higher accuracy."
        ),
        source=_LI,
        settings=RankingSettings,
        run=run_ranking,
        full={"limit": 1500},
        needs=_TRANSFER_NEEDS,
    ),
    Experiment(
        id="transfer-table",
        section=1,
        title="Fine-tuning methods compared",
        lecture="1. Transfer: table of methods",
        why=(
            "Each method adapts the same network with the same few labels: the probe, one block, one block with a skip connection, "
            "probe and block averaged, the probe followed by everything, and everything at once, with the statistics of BatchNorm "
            "kept or following the batches."
        ),
        source=_LI,
        settings=TransferSettings,
        run=run_table,
        full={"shots": 80, "seeds": 5},
        needs=_TRANSFER_NEEDS,
    ),
    Experiment(
        id="data-scarcity",
        section=1,
        title="Accuracy with few labels",
        lecture="1. Transfer: data scarcity",
        why=(
            "The same comparison for several numbers of labels per class. Training everything as most scripts do, with BatchNorm "
            "statistics that follow a few images, loses where labels are few; one block keeps them."
        ),
        source=_LI,
        settings=ScarcitySettings,
        run=run_scarcity,
        full={"sizes": (5, 10, 20, 80), "seeds": 5, "methods": METHODS, "texture_size": 128},
        needs=_TRANSFER_NEEDS,
    ),
    Experiment(
        id="layerwise-finetuning",
        section=1,
        title="What fine-tuning does to each layer",
        lecture="1. Transfer: layer-wise NC1 by method",
        why=(
            "NC1 is measured after every block of the networks that each method gives, on training and on test images. A low value on "
            "the training images alone says nothing about quality."
        ),
        source=_LI,
        settings=LayerwiseSettings,
        run=run_layerwise,
        full={"shots": 80},
        needs=_TRANSFER_NEEDS,
    ),
)
