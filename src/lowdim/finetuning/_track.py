"""Loss and accuracy of every epoch, sent to TensorBoard or Weights & Biases."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lowdim.errors import require
from lowdim.finetuning._train import History

Tracker = Literal["tensorboard", "wandb"]
OnEpoch = Callable[[str, int, History], None]


def tracker(kind: Tracker, folder: Path) -> OnEpoch:
    """A function for `finetune`'s ``on_epoch`` that logs training loss and accuracy under the name of the part, and what is watched.

    Args:
        kind: ``"tensorboard"`` writes event files; ``"wandb"`` writes to its own service, or to the folder with
            ``WANDB_MODE=offline``.
        folder: For the files.

    Raises:
        MissingDependencyError: If the package is not installed (extra ``track``).

    Example:
        >>> import tempfile
        >>> from lowdim.data import load_data
        >>> from lowdim.finetuning import finetune
        >>> from lowdim.models import load_model
        >>> data = load_data("digits-5-9", shots=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = tracker("tensorboard", Path(folder))
        ...     tuned = finetune(load_model("digits-0-4"), data, method="layer", epochs=2, on_epoch=log)
        ...     [path.name.split(".")[0] for path in Path(folder).iterdir()]
        ['events']
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "wandb":
        wandb = require("wandb", "Tracking with Weights & Biases")
        run = wandb.init(project="lowdim", dir=str(folder), reinit="finish_previous")
        return lambda part, epoch, history: run.log({f"{part}/{key}": value for key, value in _last(history).items()})
    require("tensorboard", "Tracking with TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(part: str, epoch: int, history: History) -> None:
        for key, value in _last(history).items():
            writer.add_scalar(f"{part}/{key}", value, epoch)
        writer.flush()

    return log


def _last(history: History) -> dict[str, float]:
    curves = {name: getattr(history, name) for name in ("loss", "accuracy", "test_accuracy", "test_nc1")}
    return {name: values[-1] for name, values in curves.items() if values and values[-1] is not None}
