"""Where do the weights of a network go while it trains? Spectra, effective rank, and the share of the change that
the law of parsimony allows."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from lowdim.watch import WeightWatcher

torch.manual_seed(0)
pixels, digits = load_digits(n_class=3, return_X_y=True)
inputs, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)

network = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False), nn.Linear(64, 3, bias=False))
for layer in network:
    nn.init.orthogonal_(layer.weight, gain=0.3)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

watcher = WeightWatcher(network, ["0.weight", "1.weight"], classes=3, every=20, reference=1)
for step in range(101):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(inputs), labels).backward()
    watcher(step)  # after backward, before the step: the first call sees the first gradient
    optimizer.step()

for name, seen in watcher.history.items():
    for one in seen[1:]:
        print(
            f"{name} step {one.step:3}: largest singular value {one.values[0]:.3f}, effective rank {one.effective_rank:.1f}, "
            f"change {one.relative_change:.2f}, share of it that the law of parsimony allows {one.share:.3f} (by chance {one.chance:.3f})"
        )
# watcher.figures() describes surfaces of all singular values and angles.
