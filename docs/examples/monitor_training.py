"""Watch neural collapse in your own training loop."""

import itertools

import torch
from sklearn.datasets import load_digits
from torch import nn

from lowdim.profiling import CollapseMonitor

torch.manual_seed(0)
pixels, digits = load_digits(return_X_y=True)
inputs, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)
train, test = slice(0, 1000), slice(1000, None)

widths = (64, 64, 64, 64)
hidden = [nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
network = nn.Sequential(*hidden, nn.Linear(64, 10))
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.05)

# Measures every 10th epoch; the network, its mode and its gradients are left as they are.
monitor = CollapseMonitor(
    {"train": (inputs[train], labels[train]), "test": (inputs[test], labels[test])}, every=10, layers="2"
)
for epoch in range(31):
    for batch in torch.randperm(1000).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[train][batch]), labels[train][batch]).backward()
        optimizer.step()
    monitor(network, epoch)

print("epoch  split   NC1      chance   held-out  accuracy")
for epoch, found in monitor.history:
    for layer in found.layers:
        accuracy = found.accuracy[layer.split]
        print(
            f"{epoch:5}  {layer.split:5} {layer.nc1:8.3g} {layer.nc1_chance:8.3g} {layer.nc1_heldout:8.3g} {accuracy:9.3f}"
        )
