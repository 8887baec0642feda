"""The collapse profile followed over a user's own training loop."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from lowdim._arguments import checked_arguments
from lowdim.errors import InputError, UsageError, require
from lowdim.profiling._profile import profile
from lowdim.profiling._result import Profile

_LABELS = ("labels", "label", "targets", "target")


class CollapseMonitor:
    """Measures a network now and then while it trains; the network, its mode and its gradients are left as they are.

    In a loop of one's own it is called in each step. The Trainer of Hugging Face takes `for_trainer`; that of Lightning,
    `for_lightning`.

    Args:
        data: As in `profile`; or batches, such as a ``DataLoader`` gives: pairs of inputs and labels, or mappings, of which all tensors
            beside the labels are inputs (token ids and their mask). They are gone through once, at the first measurement.
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

    @checked_arguments
    def __init__(self, data: Any, *, every: int = 1, **settings: Any) -> None:
        if every < 1:
            raise UsageError(f"`every` must be at least 1, not {every}.", argument="every")
        self.data, self.every, self.settings = data, every, settings
        self.history: list[tuple[int, Profile]] = []
        self._ready: Any = None

    def __call__(self, module: nn.Module, step: int) -> Profile | None:
        """Measures if the step is due, keeps the result in `history` and returns it."""
        if step % self.every:
            return None
        if self._ready is None:
            self._ready = _named_tensors(self.data)
        result = profile(module, self._ready, **self.settings)
        self.history.append((step, result))
        return result

    def for_trainer(self) -> Any:
        """A callback for the Trainer of Hugging Face's transformers: measures before the first step and after those that are due.

        Raises:
            MissingDependencyError: If transformers is not installed.

        Example:
            >>> CollapseMonitor((torch.eye(4), torch.tensor([0, 1, 0, 1]))).for_trainer().__class__.__name__
            'CollapseCallback'
        """
        base = require("transformers.trainer_callback", "A callback for the Trainer").TrainerCallback

        def begin(callback: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
            self(given["model"], state.global_step)

        return type("CollapseCallback", (base,), {"on_train_begin": begin, "on_step_end": begin})()

    def for_lightning(self, callback: type) -> Any:
        """A callback for Lightning's Trainer, which measures like `for_trainer`.

        Args:
            callback: The class that the Trainer knows as its callback: ``lightning.Callback`` or ``pytorch_lightning.Callback``.

        Example:
            >>> class Callback: ...
            >>> CollapseMonitor((torch.eye(4), torch.tensor([0, 1, 0, 1]))).for_lightning(Callback).__class__.__name__
            'CollapseCallback'
        """

        def now(_: Any, trainer: Any, module: nn.Module, *batch: Any) -> None:
            self(module, trainer.global_step)

        return type("CollapseCallback", (callback,), {"on_train_start": now, "on_train_batch_end": now})()


def _named_tensors(data: Any) -> Any:
    """Batches of several inputs by name as one pair, filled up with zeros to the longest; any other data as it is."""
    if isinstance(data, str | Mapping | tuple) or not isinstance(data, Iterable):
        return data
    batches = list(cast("Iterable[Any]", data))
    named = [cast("Mapping[str, Any]", batch) for batch in batches if isinstance(batch, Mapping)]
    if not named or len(named) < len(batches):
        return batches
    label = next((name for name in _LABELS if name in named[0]), None)
    if label is None:
        raise InputError(f"A batch holds its labels under {', '.join(_LABELS)}, but there are {', '.join(named[0])}.")
    inputs = [name for name, rows in named[0].items() if name != label and isinstance(rows, Tensor)]
    if len(inputs) < 2:
        return batches
    labels = torch.cat([torch.as_tensor(batch[label]) for batch in named])
    return {name: _stacked([batch[name] for batch in named]) for name in inputs}, labels


def _stacked(parts: list[Tensor]) -> Tensor:
    """Rows of all batches, each filled up with zeros behind."""
    if parts[0].ndim != 2:
        return torch.cat(parts)
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts])
