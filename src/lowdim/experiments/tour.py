"""What only the tour shows: few labels, and a damaged picture."""

from dataclasses import dataclass

import numpy as np

from lowdim._random import child_seed
from lowdim._verdicts import Verdict
from lowdim.experiments._experiment import Experiment, Outcome, Progress
from lowdim.figures import Images, Lines, Series, Table


@dataclass(frozen=True)
class FewLabelsSettings:
    """A network trained on clean digits meets a few labelled noisy ones, in several draws."""

    seed: int = 0
    shots: int = 5
    draws: int = 3
    model: str = "digits-split"
    data: str = "digits-noisy"


def run_few_labels(settings: FewLabelsSettings, progress: Progress) -> Outcome:
    """The linear probe on the network's features against logistic regression on the pixels, with the same labels."""
    from lowdim.data import load_data
    from lowdim.finetuning import finetune
    from lowdim.finetuning._baseline import baseline_predictions
    from lowdim.models import load_model

    probe: list[float] = []
    pixels: list[float] = []
    rows: list[list[object]] = []
    for draw in range(settings.draws):
        seed = child_seed(settings.seed, "draw", draw)
        data = load_data(settings.data, shots=settings.shots, seed=seed)
        tuned = finetune(load_model(settings.model), data, method="linear-probe", seed=seed)
        found = baseline_predictions(data["train"], data["test"], classes=len(data.classes), seed=seed)
        probe.append(float(tuned.accuracy["test"]))
        pixels.append(float((found.argmax(axis=1) == data["test"].labels).mean()))
        rows.append([str(draw + 1), 100 * pixels[-1], 100 * probe[-1], 100 * (probe[-1] - pixels[-1])])
        progress(draw + 1, settings.draws)
    draws = np.arange(settings.draws)
    figure = Lines(
        "accuracy",
        f"{settings.shots} labels per class: accuracy on the test images",
        "draw of the labelled images",
        "accuracy %",
        [
            Series("with the network's features", draws, 100 * np.array(probe), style="line+points"),
            Series("without a network: pixels", draws, 100 * np.array(pixels), style="line+points"),
        ],
        x_ticks=[str(draw + 1) for draw in draws],
        caption="The same images and labels for both.",
    )
    columns = ["draw", "pixels, accuracy %", "network's features, accuracy %", "gain in points"]
    gains = np.array(probe) - np.array(pixels)
    verdicts = [
        Verdict.of("network's features less pixels, test accuracy, mean", float(gains.mean()), ">", 0),
        Verdict.of("the same in the draw where it is smallest", float(gains.min()), ">", 0),
    ]
    return Outcome(verdicts, [figure], [Table("draws", "Each draw of the labelled images", columns, rows)])


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
        title="Few labels: what a pre-trained network is worth",
        lecture="1. Transfer to data of another kind",
        why=(
            "A network trained on clean digits gets a few labelled images of each class of other digits with noise. A linear probe on its "
            "features is compared with the same regression on the pixels."
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
