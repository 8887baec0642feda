"""Section 1: collapse against transfer accuracy, and fine-tuning methods compared."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.errors import UsageError, did_you_mean
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.experiments._kept import kept, kept_folder
from lowdim.experiments._real_networks import CIFAR, HOW, real_data, real_folder
from lowdim.figures import Lines, Panels, Series, Table

if TYPE_CHECKING:
    from lowdim.data import Dataset
    from lowdim.finetuning import Tuned
    from lowdim.models import LoadedModel
    from lowdim.ranking import Candidate

_LI = "Li et al. 2022/2024, arXiv 2212.12206 (TMLR)."
METHODS = ("linear-probe", "layer", "scl", "ensemble", "lp-ft", "full", "full-batch-statistics")
"""The last is `full` with BatchNorm in training mode: its statistics follow the batches, as most scripts have it."""
MIXED = "layer, labels mixed"
"""The negative control of `run_layerwise`."""


@dataclass(frozen=True)
class RankingSettings:
    """NC1 of downstream data against the accuracy of the linear probe, over a family of pre-trained models."""

    seed: int = 0
    data: str = field(default_factory=real_data)
    limit: int = 500


def run_ranking(settings: RankingSettings, progress: Progress) -> Outcome:
    """Scores every candidate with one pass and compares with the cross-validated probe; then NC1 again with mixed labels."""
    from lowdim.ranking import rank

    candidates, data, judged = _family(settings)
    with kept_folder("ranking") as folder:  # the second time the features are there
        # In larger batches the maps no longer fit a processor's cache.
        common: Any = {"seed": settings.seed, "cache": folder / "features", "batch_size": 32}
        found = rank(candidates, data, progress=progress, folder=folder / "scores", **common)
        blind = rank(candidates, mixed(data, settings.seed), probe=False, **common)
    places = [place.as_dict() for place in found.places]
    without = {place["model"]: place["nc1"] for place in (one.as_dict() for one in blind.places)}
    x = np.array([place["nc1"] for place in places], dtype=float)
    y = np.array([100 * place["probe_accuracy"] for place in places], dtype=float)
    control = np.array([without[place["model"]] for place in places], dtype=float)
    verdicts = ranking_verdicts(x, control, y, judged=judged)
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


def ranking_verdicts(nc1: np.ndarray, control: np.ndarray, accuracy: np.ndarray, *, judged: bool) -> list[Verdict]:
    """Whether NC1 orders networks as their probes do, and that it does not once the labels mean nothing."""
    from lowdim.ranking import agreement

    note = "" if judged else "few small networks of equal origin: shown, not judged (see the note)"

    def order(values: np.ndarray) -> float:
        found = agreement(-values, accuracy)  # lower NC1 goes with higher accuracy
        return float("nan") if found is None else found.spearman

    return [
        Verdict.of("Spearman of NC1 with the probe accuracy, signs aligned", order(nc1), ">=", 0.9, judged=judged, note=note),
        Verdict.of("control: the same of NC1 with mixed labels", order(control), "<", 0.9, judged=judged, note=note),
    ]  # fmt: skip


def mixed(data: "Dataset", seed: int) -> "Dataset":
    """The same samples, the training labels of each class spread evenly over all classes: what follows from them says nothing of classes."""
    train, random = data["train"], np.random.default_rng(child_seed(seed, "mixed labels"))
    labels, classes = np.empty_like(train.labels), len(data.classes)
    for label in range(classes):
        own = random.permutation(np.flatnonzero(train.labels == label))
        labels[own] = (np.arange(len(own)) + label) % classes
    return replace(data, splits={**data.splits, "train": replace(train, labels=labels)})


def _family(settings: RankingSettings) -> "tuple[list[Candidate], Dataset, bool]":
    from lowdim.data import load_data
    from lowdim.ranking import Candidate

    described = "models/cifar100_resnet14/meta.json"
    root = real_folder(settings.data, "models/architectures.py", described, CIFAR)
    if root is None:
        names = ["digits-0-4", "digits-split"]
        candidates = [Candidate(name=name, model=name) for name in names]
        candidates.append(Candidate(name="random weights", model="digits", options={"random_weights": True}))
        return candidates, load_data("digits-target"), False
    entries: dict[str, dict[str, Any]] = json.loads((root / described).read_text())
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
    return candidates, load_data(str(root / CIFAR), limit=settings.limit, seed=settings.seed), True


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
    texture_size: int = 64


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
    unknown = [method for method in settings.methods if method not in METHODS]
    if unknown:
        raise UsageError(f"there is no method {unknown[0]!r}. {did_you_mean(unknown[0], METHODS)}")
    if not settings.model and (settings.images or settings.weights):
        raise UsageError(
            "`images` and `weights` belong to `model`: say which network they are for, as in `model=timm:resnet18`."
        )
    textures, mobilenet = "images/dtd10", "models/mobilenetv2_035_imagenet"
    if settings.model:
        images = settings.images or str(Path(settings.data) / textures)
        network = load_model(settings.model, weights=settings.weights or None, image_size=size)
        return _Case(settings.model, network, images, settings.block, real=True)
    root = real_folder(settings.data, mobilenet, textures)
    if root is not None:
        pixels = size or settings.texture_size
        network = load_model(f"timm:local-dir:{root / mobilenet}", image_size=pixels)
        name = f"MobileNetV2 0.35 on ten textures of {pixels} px"
        block = "blocks.4.0" if settings.block == "auto" else settings.block
        return _Case(name, network, str(root / textures), block, real=True)
    if size:
        raise UsageError("`image_size` has no meaning for the embedded digits: give a `model`, or a folder as `data`.")
    block = "blocks.1" if settings.block == "auto" else settings.block
    return _Case("digits 0 to 4 on 5 to 9", load_model("digits-0-4"), "digits-5-9", block, real=False)


@dataclass(frozen=True)
class Run:
    """What one fine-tuning gave: accuracy and NC1 by split, NC1 by layer and split where it was measured."""

    method: str
    layer: str | None
    accuracy: dict[str, float]
    nc1: dict[str, float | None]
    share: float
    seconds: float
    layers: dict[str, list[float]]

    @classmethod
    def of(cls, tuned: "Tuned", layers: dict[str, list[float]] | None = None) -> "Run":
        """From a network that is then let go."""
        seconds = sum(sum(part["seconds"]) for part in tuned.history.values())
        return cls(
            tuned.method,
            tuned.layer,
            {split: float(tuned.accuracy[split]) for split in ("train", "test")},
            dict(tuned.nc1),
            tuned.trained_parameters / tuned.total_parameters,
            seconds,
            layers or {},
        )


def _runs(
    case: _Case, settings: TransferSettings, grid: Sequence[tuple[str, int, int]], layers: Sequence[str] = ()
) -> Iterator[Run]:
    """Fine-tunings by method, labels per class and seed; pictures are decoded, and what two methods train alike is trained, once."""
    from lowdim.data._kept import keeping_pictures

    with keeping_pictures(), TemporaryDirectory() as folder:
        for method, shots, seed in grid:
            yield _run(case, settings, method, shots, settings.seed + seed, layers, Path(folder))


def _run(
    case: _Case,
    settings: TransferSettings,
    method: str,
    shots: int,
    seed: int,
    layers: Sequence[str],
    folder: Path,
) -> Run:
    """One fine-tuning, with NC1 after the layers of the base where they are named; or what this run has of it already."""
    decides = {**asdict(settings), "block": case.block, "seed": seed, "shots": shots}
    for name in ("seeds", "methods", "sizes"):
        decides.pop(name, None)

    def compute() -> dict[str, Any]:
        from lowdim.data import load_data
        from lowdim.profiling import profile

        data = load_data(case.images, shots=shots, seed=seed)
        tuned = _tuned(case, method, seed, data, folder)
        found: dict[str, list[float]] = {}
        if layers:
            network = replace(case.network, module=tuned.model, classes=None)
            measured = profile(network, data, layers=list(_inside(tuned.model, layers)), seed=settings.seed).layers
            found = {split: [float(one.nc1 or np.nan) for one in measured if one.split == split] for split in ("train", "test")}  # fmt: skip
        return asdict(Run.of(tuned, found))

    return Run(
        **kept(f"{method}-{shots}-{seed}", compute, of=decides, suits=lambda run: bool(run["layers"]) or not layers)
    )


def _tuned(case: _Case, method: str, seed: int, data: "Dataset", folder: Path) -> "Tuned":
    from lowdim.finetuning import finetune

    if method == MIXED:
        method, data = "layer", mixed(data, seed)
    name = method.removesuffix("-batch-statistics")
    return finetune(
        case.network,
        data,
        method=name,
        layer=case.block,
        batch_norm="batch" if name != method else "frozen",
        seed=seed,
        folder=folder if name in ("scl", "ensemble") else None,  # the one is a part of the other
    )


def _notes(case: _Case, runs: Sequence[Run] = ()) -> list[str]:
    """What was run: the network, the data, and the block that was really trained."""
    trained = {run.layer for run in runs if run.method in ("layer", "scl") and run.layer} or {case.block}
    if case.real:
        return [f"{case.name}; trained block {', '.join(sorted(trained))}."]
    return [
        f"{case.name}, trained block {', '.join(sorted(trained))}: a small embedded task, which shows less than real networks do. {HOW}"
    ]


def run_table(settings: TransferSettings, progress: Progress) -> Outcome:
    """Accuracy, NC1 of test images, share of parameters and seconds, for each method."""
    case = _case(settings)
    runs: dict[str, list[Run]] = {}
    grid = _grid(settings.methods, (settings.shots,), settings.seeds)
    for count, run in enumerate(_runs(case, settings, grid)):
        runs.setdefault(grid[count][0], []).append(run)
        progress(count + 1, len(grid))
    rows: list[list[object]] = []
    times: list[list[object]] = []
    for method, found in runs.items():
        accuracy = np.array([100 * run.accuracy["test"] for run in found])
        spent = [run.seconds for run in found]
        share = 100 * found[0].share
        nc1 = [run.nc1["test"] for run in found if run.nc1["test"] is not None]
        spread = float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None
        rows.append([method, float(accuracy.mean()), spread, float(np.mean(nc1)) if nc1 else None, share])
        times.append([method, float(np.mean(spent))])
    columns = ["method", "test accuracy %", "std over seeds", "NC1 (test)", "trained parameters %"]
    tables = [
        Table("methods", f"{settings.shots} labels per class, {settings.seeds} seeds", columns, rows),
        Table("seconds", "Time of training", ["method", "seconds"], times, "Mean over seeds; differs from run to run."),
    ]
    notes = [
        *_notes(case, [run for found in runs.values() for run in found]),
        *_collapse_note(runs),
        *_missing_note(case),
    ]
    return Outcome(_table_verdicts(case, runs), [], tables, notes)


def _grid(methods: Sequence[str], sizes: Sequence[int], seeds: int) -> list[tuple[str, int, int]]:
    return [(method, shots, seed) for shots in sizes for method in methods for seed in range(seeds)]


def _mean(runs: Sequence[Run]) -> float:
    return float(np.mean([run.accuracy["test"] for run in runs]))


def _table_verdicts(case: _Case, runs: dict[str, list[Run]]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for full, judged, note in (
        ("full-batch-statistics", case.real and case.normalised, "a finding about real networks with BatchNorm"),
        ("full", False, "reported either way: with frozen statistics full fine-tuning need not overfit"),
    ):
        if {"layer", full} <= runs.keys():
            difference = _mean(runs["layer"]) - _mean(runs[full])
            note = "" if judged else note
            verdicts.append(
                Verdict.of(f"one block less {full}, test accuracy", difference, ">", 0, judged=judged, note=note)
            )
    pairs = _collapse_pairs(runs)
    if pairs:
        less = float(np.mean([np.log(scl / layer) for scl, layer in pairs]))
        note = "the lecture's mechanism, reported either way: whether it shows depends on the block and the data"
        verdicts.append(
            Verdict.of(
                "log of NC1 on test images, scl over layer, mean over seeds", less, "<", 0, judged=False, note=note
            )
        )
    if not case.real and {"layer", "linear-probe"} <= runs.keys():
        difference = _mean(runs["layer"]) - _mean(runs["linear-probe"])
        verdicts.append(Verdict.of("one early block less the probe, test accuracy", difference, ">=", 0.05))
    return verdicts


def _collapse_pairs(runs: dict[str, list[Run]]) -> list[tuple[float, float]]:
    """NC1 on test images of scl and of layer, seed by seed."""
    pairs = zip(runs.get("scl", ()), runs.get("layer", ()), strict=False)
    found = [(one.nc1["test"], other.nc1["test"]) for one, other in pairs]
    return [(one, other) for one, other in found if one is not None and other is not None]


def _collapse_note(runs: dict[str, list[Run]]) -> list[str]:
    """Whether scl collapses more than layer, the lecture's mechanism: reported either way."""
    pairs = _collapse_pairs(runs)
    if not pairs:
        return []
    return [f"scl has the lower NC1 on test images than layer in {sum(a < b for a, b in pairs)} of {len(pairs)} seeds."]


def _missing_note(case: _Case) -> list[str]:
    """What of the lecture's table this is not."""
    return [
        "The lecture's table is of ImageNet-trained networks (ResNet-50 among them) on CIFAR-10 and other data. Its rows are not reproduced "
        "here: its files are not at hand. With them: `model=timm:resnet50`, `images=` a folder of CIFAR-10 in its official layout, "
        "`block=layer3.0`; this block is 6.52 % of the parameters for layer and 7.24 % for scl, as in the lecture."
    ] * (case.name != "timm:resnet50")


@dataclass(frozen=True)
class ScarcitySettings(TransferSettings):
    """The same, over several numbers of labels per class."""

    sizes: tuple[int, ...] = (5, 10, 20, 40)
    methods: tuple[str, ...] = ("linear-probe", "layer", "scl", "full", "full-batch-statistics")


def run_scarcity(settings: ScarcitySettings, progress: Progress) -> Outcome:
    """Test accuracy against labels per class, mean and range over seeds."""
    case = _case(settings)
    accuracy: dict[tuple[str, int], list[float]] = {}
    others = {
        TransferSettings().shots,
        LayerwiseSettings().shots,
    }  # last: by then they may have been run for the other figures
    sizes = sorted(settings.sizes, key=lambda shots: shots in others)
    grid = _grid(settings.methods, sizes, settings.seeds)
    for count, run in enumerate(_runs(case, settings, grid)):
        accuracy.setdefault(grid[count][:2], []).append(100 * run.accuracy["test"])
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
    verdicts = scarcity_verdicts(accuracy, case.real and case.normalised)
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


def scarcity_verdicts(accuracy: dict[tuple[str, int], list[float]], judged: bool) -> list[Verdict]:
    """One block less full fine-tuning with the fewest labels, and how much of that difference more labels take away."""
    methods, sizes = {method for method, _ in accuracy}, {size for _, size in accuracy}
    few, many = min(sizes), max(sizes)

    def less(method: str, other: str, size: int) -> float:
        return float(np.mean(np.subtract(accuracy[method, size], accuracy[other, size])))

    verdicts: list[Verdict] = []
    for full in ("full-batch-statistics", "full"):
        for method in ("layer", "scl"):
            if not {method, full} <= methods:
                continue
            real = judged and full != "full"
            note = (
                "" if real else "a finding about real networks whose BatchNorm follows the batches: reported either way"
            )
            verdicts.append(
                Verdict.of(f"{method} less {full} with {few} labels per class, points", less(method, full, few), ">", 0, judged=real, note=note)
            )  # fmt: skip
            if many > few:
                closing = less(method, full, few) - less(method, full, many)
                verdicts.append(
                    Verdict.of(f"{method} less {full}: by how much the difference is smaller with {many} labels, points", closing, ">", 0, judged=real, note=note)
                )  # fmt: skip
    return verdicts


@dataclass(frozen=True)
class LayerwiseSettings(TransferSettings):
    """NC1 and NCC accuracy after every block of the networks that each method gives."""

    shots: int = 20
    methods: tuple[str, ...] = ("linear-probe", "layer", "scl", "full")


def run_layerwise(settings: LayerwiseSettings, progress: Progress) -> Outcome:
    """Profiles of the tuned networks on training and test images."""
    from lowdim.data import load_data
    from lowdim.finetuning._store import example_inputs
    from lowdim.models import default_layers

    case = _case(settings)
    probe = load_data(case.images, shots=settings.shots, seed=settings.seed)["train"]
    feature = case.network.feature(example_inputs(probe, case.network.preprocessing))
    base = default_layers(case.network.module, feature)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    runs: list[Run] = []
    grid = _grid([*settings.methods, MIXED], (settings.shots,), settings.seeds)
    for count, run in enumerate(_runs(case, settings, grid, base)):
        runs.append(run)
        for split in ("train", "test"):
            found.setdefault((grid[count][0], split), []).append(np.array(run.layers[split], dtype=float))
        progress(count + 1, len(grid))
    names = [name.replace(":", " ") for name in base]  # "classifier:input" is the input of the classifier
    methods = [*settings.methods, MIXED]
    panels = [_nc1_lines(found, methods, split, names) for split in ("train", "test")]
    figure = Panels(
        "layers", "NC1 by layer and method", panels, columns=2, caption=f"Mean and range over {settings.seeds} seeds."
    )
    last = {key: np.array([values[-1] for values in runs_]) for key, runs_ in found.items()}
    rows = [[method, *(float(last[method, split].mean()) for split in ("train", "test"))] for method in methods]
    table = Table(
        "last",
        "NC1 at the last layer, mean over seeds",
        ["method", "train", "test"],
        rows,
        "Train and test have different numbers of images per class: compare methods within a column, not the columns.",
    )
    return Outcome(layerwise_verdicts(last), [figure], [table], _notes(case, runs))


def layerwise_verdicts(last: "dict[tuple[str, str], np.ndarray]") -> list[Verdict]:
    """NC1 of the last layer on the same test images in each seed, over two controls.

    The probe leaves the network as it was. Training a block lowers NC1 a little whatever the labels: what goes beyond it comes from them.
    """
    verdicts: list[Verdict] = []

    def compare(method: str, other: str, said: str, *, judged: bool = True, note: str = "") -> None:
        if {(method, "test"), (other, "test")} <= last.keys():
            ratios = last[method, "test"] / last[other, "test"]
            name = f"{method} over {said}, NC1 of the last layer on test images, largest over seeds"
            verdicts.append(Verdict.of(name, ratios.max(), "<", 1, judged=judged, note=note))

    untouched = "the untouched network"
    compare("layer", "linear-probe", untouched)
    compare("layer", MIXED, "the same trained on mixed labels")
    compare(
        "scl",
        "linear-probe",
        untouched,
        judged=False,
        note="scl adds its block to the last feature: reported either way",
    )
    compare(
        MIXED,
        "linear-probe",
        untouched,
        judged=False,
        note="the control, reported: what training a block does without classes",
    )
    return verdicts


def _nc1_lines(
    found: dict[tuple[str, str], list[np.ndarray]], methods: Sequence[str], split: str, names: list[str]
) -> Lines:
    series: list[Series] = []
    for method in methods:
        values = np.stack(found[method, split])
        places = np.arange(values.shape[1])
        series.append(Series(method, places, values.mean(0), values.min(0), values.max(0), style="line+points"))
    return Lines(f"nc1-{split}", split, "layer", "NC1", series, log_y=True, x_ticks=names[: len(series[0].y)])


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
        cost=49,
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
        full={"shots": 80, "seeds": 5, "texture_size": 128},
        needs=_TRANSFER_NEEDS,
        cost=105,
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
        cost=265,
    ),
    Experiment(
        id="layerwise-finetuning",
        section=1,
        title="What fine-tuning does to each layer",
        lecture="1. Transfer: layer-wise NC1 by method",
        why=(
            "NC1 is measured after every block of the networks that each method gives, on training and on test images. On test images training "
            "one block lowers it at the last layer, and by more than the same training on mixed labels; on training images alone it says nothing."
        ),
        source=_LI,
        settings=LayerwiseSettings,
        run=run_layerwise,
        full={"shots": 80, "texture_size": 128},
        needs=_TRANSFER_NEEDS,
        cost=105,
    ),
)
