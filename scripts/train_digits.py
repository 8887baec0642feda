"""Trains the three networks that ship with lowdim, on one core in about a minute.

    python scripts/train_digits.py [FOLDER]

writes ``digits.safetensors`` (ten classes), ``digits-0-4.safetensors`` (five classes) and ``digits-split.safetensors`` (ten
classes, one half of the train images) into src/lowdim/models/weights, and prints each one's accuracy on its test images.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim.data import Split, batches, load_data
from lowdim.models import DigitsNet
from lowdim.models._digits import DIGITS_CLASSES, DIGITS_PREPROCESSING, EMBEDDED, WEIGHTS

EPOCHS, BATCH, RATE, DECAY, WARM_UP = 25, 64, 3e-3, 0.05, 0.1


def tensors(split: Split) -> tuple[Tensor, Tensor]:
    images, labels, _ = next(batches(split, DIGITS_PREPROCESSING, batch_size=len(split)))
    assert isinstance(images, Tensor)
    return images, labels


def train(images: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = DigitsNet(classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * (len(labels) // BATCH)
    warm = int(WARM_UP * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
        ),
    )
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))
        for batch in order.split(BATCH)[: len(labels) // BATCH]:
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return float((network(images).argmax(1) == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, classes in DIGITS_CLASSES.items():
        data = load_data(EMBEDDED[name])
        network = train(*tensors(data["train"]), len(classes), arguments.seed)
        save_file(network.state_dict(), arguments.folder / f"{name}.safetensors")
        scores = [accuracy(network, *tensors(data[part])) for part in ("train", "test")]
        print(f"{name}: {scores[0]:.4f} train, {scores[1]:.4f} test ({len(data['test'])} images)")


if __name__ == "__main__":
    main()
