"""What only the tour shows: few labels, and a damaged picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Images, Lines, Series, Table

if TYPE_CHECKING:
    from lowdim.finetuning import Tuned


@dataclass(frozen=True)
class FewLabelsSettings:
    """A network trained on the digits 0 to 4 meets five labelled images of each of 5 to 9."""

    seed: int = 0
    shots: int = 5
    block: str = "blocks.1"


def run_few_labels(settings: FewLabelsSettings, progress: Progress) -> Outcome:
    """Cross-validated evidence for `auto`, then each method once on the test images."""
    from lowdim.data import load_data
    from lowdim.finetuning import finetune
    from lowdim.models import load_model

    network = load_model("digits-0-4")
    data = load_data("digits-5-9", shots=settings.shots, seed=settings.seed)
    # The chosen method, and what people compare it with.
    asked = [
        ("auto", "auto"),
        ("linear-probe", "auto"),
        ("layer", settings.block),
        ("scl", settings.block),
        ("full", "auto"),
    ]
    tuned: dict[str, Tuned] = {}
    for count, (method, layer) in enumerate(asked):
        tuned[method] = finetune(network, data, method=method, layer=layer, seed=settings.seed)  # pyright: ignore[reportArgumentType]
        progress(count + 1, len(asked))
    pixels = _baseline_accuracy(settings)
    accuracy = {name: float(result.accuracy["test"]) for name, result in tuned.items()}
    rows: list[list[object]] = [["none: raw pixels", "-", 100 * pixels, None, None]]
    for name, result in tuned.items():
        label = f"{name} ({result.method})" if name == "auto" else name
        share = 100 * result.trained_parameters / result.total_parameters
        rows.append([label, result.layer or "-", 100 * accuracy[name], share, result.nc1["test"]])
    columns = ["method", "layer", "test accuracy %", "trained parameters %", "NC1 (test)"]
    evidence = tuned["auto"].evidence
    table = Table("methods", f"{settings.shots} labels per class, test images of 5 to 9", columns, rows)
    verdicts = [
        Verdict.of(
            "one early block less the probe, test accuracy", accuracy["layer"] - accuracy["linear-probe"], ">=", 0.05
        ),
        Verdict.of("raw pixels less the probe, test accuracy", pixels - accuracy["linear-probe"], ">", 0),
    ]
    notes = [
        "Features that collapsed on five classes are poor for five others: raw pixels beat the probe, and an early block repairs much "
        "of it. So small a network cannot show what full fine-tuning does to a real one.",
        *tuned["auto"].reasons,
    ]
    return Outcome(verdicts, [_evidence_figure([entry.as_dict() for entry in evidence])], [table], notes)


def _baseline_accuracy(settings: FewLabelsSettings) -> float:
    from lowdim.data import load_data
    from lowdim.finetuning._baseline import baseline_predictions

    data = load_data("digits-5-9", shots=settings.shots, seed=settings.seed)
    found = baseline_predictions(data["train"], data["test"], classes=len(data.classes), seed=settings.seed)
    return float((found.argmax(axis=1) == data["test"].labels).mean())


def _evidence_figure(evidence: Sequence[Mapping[str, object]]) -> Lines:
    names = [" ".join(str(part) for part in (entry["method"], entry["layer"]) if part) for entry in evidence]
    percent = np.array([100 * float(str(entry["accuracy"])) for entry in evidence])
    bounds = np.array([[100 * float(bound) for bound in entry["interval"]] for entry in evidence])  # pyright: ignore
    series = Series("cross-validated", np.arange(len(names)), percent, bounds[:, 0], bounds[:, 1], style="points")
    return Lines(
        "evidence",
        "What cross-validation on the labelled images says",
        "",
        "accuracy %",
        [series],
        x_ticks=names,
        caption="With 90 % intervals; the test images played no part in it.",
    )


@dataclass(frozen=True)
class PictureSettings:
    """A grey picture from scikit-learn with most pixels missing."""

    seed: int = 0
    missing: float = 0.5
    height: int = 213
    width: int = 320


def run_picture(settings: PictureSettings, progress: Progress) -> Outcome:
    """Completes the picture from the pixels left and compares with those taken away."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from lowdim.completion import DeepMatrixCompletion

    full = Image.fromarray(load_sample_image("china.jpg")).convert("L").resize((settings.width, settings.height))
    picture = np.asarray(full, dtype=np.float64)
    rng = np.random.default_rng(child_seed(settings.seed, "missing pixels"))
    lost = rng.random(picture.shape) < settings.missing
    damaged = np.where(lost, np.nan, picture)
    model = DeepMatrixCompletion(clip=(0, 255), random_state=settings.seed)
    completed = model.fit_transform(damaged)
    progress(1, 1)
    error = _rmse(completed[lost], picture[lost])
    biases = _rmse(_row_and_column_means(damaged)[lost], picture[lost])
    images = [
        ("with missing pixels", np.where(lost, 255, picture).astype(np.uint8)),
        (f"completed ({model.solver_}, rank {model.rank_})", completed.round().astype(np.uint8)),
        ("original", picture.astype(np.uint8)),
    ]
    spectrum = np.asarray(model.singular_values_)
    figures = [
        Images("picture", "A damaged picture, completed", images),
        Lines(
            "spectrum",
            "Singular values of the completed picture",
            "index",
            "singular value",
            [Series("singular values", np.arange(1, len(spectrum) + 1), spectrum, style="line+points")],
            log_y=True,
        ),
    ]
    verdicts = [Verdict.of("error on the missing pixels over that of row and column means", error / biases, "<", 0.7)]
    notes = [
        f"Root mean square error {error:.1f} grey levels of 255 on the missing pixels; row and column means {biases:.1f}."
    ]
    return Outcome(verdicts, figures, [], notes)


def _rmse(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((values - truth) ** 2)))


def _row_and_column_means(damaged: np.ndarray) -> np.ndarray:
    rows, columns = np.nanmean(damaged, axis=1, keepdims=True), np.nanmean(damaged, axis=0, keepdims=True)
    return rows + columns - np.nanmean(damaged)


EXPERIMENTS = (
    Experiment(
        id="few-labels",
        section=1,
        title="Few labels: the probe, one block, or everything?",
        lecture="1. Transfer: fine-tuning one layer",
        why=(
            "A network trained on five digits gets five labelled images of each of five others. Cross-validation on these images says "
            "what to do; then every method is tried once on the test images."
        ),
        source="Li et al. 2022, arXiv 2212.12206.",
        settings=FewLabelsSettings,
        run=run_few_labels,
        needs=("torch",),
    ),
    Experiment(
        id="damaged-picture",
        section=4,
        title="A damaged picture, completed",
        lecture="4. Deep matrix completion: an application",
        why=(
            "Half of the pixels of a picture are taken away. A low-rank model fitted to the others, with its rank chosen on held-out "
            "pixels, fills them in."
        ),
        source="Yaras et al. 2023, arXiv 2306.01154; picture: scikit-learn's china.jpg.",
        settings=PictureSettings,
        run=run_picture,
    ),
)
