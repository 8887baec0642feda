"""What the scores of `lowdim rank` cost beside the forward pass that they need.

    python benchmarks/ranking.py [--model timm:resnet18 --random-weights] [--samples 1000] [--size 128] [--classes 10]

Prints seconds, and ratios to the bare forward pass, measured in one run on random images.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lowdim.data import batches, dataset_from_arrays
from lowdim.models import load_model
from lowdim.ranking import Candidate, evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm:resnet18")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--trained", action="store_true", help="use trained weights; random ones by default")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = np.arange(given.samples) % given.classes
    # Each class has its own colour, so that there is something to separate.
    tints = rng.integers(0, 128, (given.classes, 1, 1, 3), dtype=np.uint8)
    images = rng.integers(0, 128, (given.samples, given.size, given.size, 3), dtype=np.uint8) + tints[labels]
    data = dataset_from_arrays(images, labels, images[:50], labels[:50])
    options = {"random_weights": not given.trained, "image_size": given.size}
    model = load_model(given.model, **options)

    start = time.perf_counter()
    with torch.inference_mode():
        for inputs, _, _ in batches(data["train"], model.preprocessing, batch_size=64):
            model.module(inputs)
    forward = time.perf_counter() - start

    candidate = Candidate(name="model", model=given.model, options=options)
    seconds = {"forward": forward}
    for name, probe in (("scores", False), ("scores and probe", True)):
        with tempfile.TemporaryDirectory() as folder:
            seconds[name] = evaluate(candidate, data, folder=Path(folder), probe=probe, probe_on="cv").seconds
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{given.model}, {given.samples} images of {given.size} px, {given.classes} classes, seed 0")
    for name, value in seconds.items():
        print(f"{name:>17}: {value:7.2f} s, {value / forward:5.2f} of the forward pass")


if __name__ == "__main__":
    main()
