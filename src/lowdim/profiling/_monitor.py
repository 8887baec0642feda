"""The collapse profile followed over a user's own training loop."""

from typing import Any

from torch import nn

from lowdim.profiling._profile import profile
from lowdim.profiling._result import Profile


class CollapseMonitor:
    """Measures a network now and then while it trains; the network, its mode and its gradients are left as they are.

    Args:
        data: As in `profile`.
        every: Measure at steps that are multiples of this; 1 measures at each call.
        settings: Passed on to `profile`.

    Example:
        >>> import torch
        >>> inputs, labels = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 4)
        >>> network, monitor = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), CollapseMonitor((inputs, labels), every=2)
        >>> for step in range(3):
        ...     _ = monitor(network, step)
        >>> [step for step, _ in monitor.history]
        [0, 2]
    """

    def __init__(self, data: Any, *, every: int = 1, **settings: Any) -> None:
        self.data, self.every, self.settings = data, every, settings
        self.history: list[tuple[int, Profile]] = []

    def __call__(self, module: nn.Module, step: int) -> Profile | None:
        """Measures if the step is due, keeps the result in `history` and returns it."""
        if step % self.every:
            return None
        result = profile(module, self.data, **self.settings)
        self.history.append((step, result))
        return result
