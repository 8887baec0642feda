"""Is the law of parsimony true of a network that you trained yourself, in PyTorch?"""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from lowdim.dynamics import WeightHistory, check_parsimony

WIDTH, RANK, DEPTH = 30, 3, 3
WORDS = {True: "holds", False: "does not hold", None: "cannot be decided"}


def train(optimizer_class, folder: Path, **options) -> None:
    """A deep linear network from orthogonal weights; one STEP.safetensors per recorded time."""
    torch.manual_seed(0)
    target = torch.randn(WIDTH, RANK, dtype=torch.float64) @ torch.randn(RANK, WIDTH, dtype=torch.float64) / WIDTH
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64) for _ in range(DEPTH)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    network = nn.Sequential(*layers)
    optimizer = optimizer_class(network.parameters(), **options)
    inputs = torch.eye(WIDTH, dtype=torch.float64)  # whitened
    for step in range(51):
        if step % 10 == 0:
            weights = {str(number): layer.weight.detach().clone() for number, layer in enumerate(layers, start=1)}
            save_file(weights, folder / f"{step}.safetensors")
        optimizer.zero_grad()
        (0.5 * (network(inputs).T - target).square().sum()).backward()
        optimizer.step()


for optimizer_class, options in (
    (torch.optim.SGD, {"lr": 1 / 900, "weight_decay": 1.0}),
    (torch.optim.Adam, {"lr": 1e-2}),
):
    with tempfile.TemporaryDirectory() as folder:
        train(optimizer_class, Path(folder), **options)
        print(optimizer_class.__name__)
        # The same on the command line: lowdim check FOLDER --theorem parsimony
        for check in check_parsimony(WeightHistory.from_folder(folder)):
            print(f"  {check.name}: {WORDS[check.holds]} (residual {check.residual:.1e})")
