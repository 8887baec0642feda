"""Draws the pictures of the documentation: runs each command as the gallery shows it, and copies one of its figures.

    python scripts/draw_documentation.py

writes docs/images, in about two minutes on two cores. Everything is drawn from what ships with lowdim and scikit-learn.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

IMAGES = Path(__file__).parents[1] / "docs/images"

# Pictures and the figures of the page that they are, by command.
COMMANDS = {
    "measure --model digits --data digits": {"classes": "layers-ncc", "measure": "layers-collapse"},
    "measure --model digits --data digits --pool flatten": {"digits": "layers-collapse"},
    "rank --model digits --model digits-split --model digits-0-4 --data digits-noisy": {"rank": "ranking-candidates"},
    "advise --data digits-5-9 --model digits-0-4": {"advise": "labels-curve"},
    "finetune --model digits-0-4 --data digits-5-9 --shots 10": {"finetune": "result-accuracy"},
    "complete iris.csv": {"complete": "completion-by-column"},
    "reproduce separation-scale": {"reproduce": "separation-scale-scale-profile"},
    "reproduce parsimony-optimizers": {"check": "parsimony-optimizers-optimizers-blocks"},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        iris(folder / "iris.csv")
        for place, (command, pictures) in enumerate(COMMANDS.items()):
            run = [sys.executable, "-m", "lowdim", *command.split(), "--out", f"run-{place}"]
            subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for picture, figure in pictures.items():
                shutil.copy(folder / f"run-{place}/figures/{figure}.svg", IMAGES / f"{picture}.svg")


def iris(path: Path) -> None:
    """Scikit-learn's iris table with 30 % of its cells removed at random."""
    table = load_iris(as_frame=True).data
    table[np.random.default_rng(0).random(table.shape) < 0.3] = np.nan
    table.to_csv(path, index=False)


if __name__ == "__main__":
    main()
