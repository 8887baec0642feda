"""The training loop: resumable at any step, stopped by a NaN, the same bits after a kill."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lowdim._files import load_tensors, save_tensors
from lowdim._job import Job
from lowdim._random import child_seed
from lowdim.errors import NonFiniteError, ResourceError, is_out_of_memory
from lowdim.finetuning._recipe import Recipe
from lowdim.finetuning._store import Store
from lowdim.finetuning._tuned import TunedModel, not_finite_because

SAVE_EVERY = 20.0
"""Seconds between saves inside an epoch."""
SHORT = 1.0
"""Epochs shorter than this many seconds are saved once in that time; every longer one is saved when it ends."""

Test = Callable[[], tuple[float, float | None]]


@dataclass
class History:
    """How training went.

    Attributes:
        loss: Mean training loss of each epoch.
        accuracy: Of the training samples as they were seen, per epoch.
        test_accuracy: After every epoch, where that was asked for.
        test_nc1: Of what the head reads, the same; None where it has no value.
        seconds: Of each epoch run by this process.
        stopped: Why training ended early; empty if it did not.
    """

    loss: list[float] = field(default_factory=list[float])
    accuracy: list[float] = field(default_factory=list[float])
    test_accuracy: list[float] = field(default_factory=list[float])
    test_nc1: list[float | None] = field(default_factory=list[float | None])
    seconds: list[float] = field(default_factory=list[float])
    stopped: str = ""


def train(
    model: TunedModel,
    store: Store,
    recipe: Recipe,
    job: Job,
    *,
    indices: np.ndarray | None = None,
    class_weights: Tensor | None = None,
    state: Path | None = None,
    test: Test | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """Trains a plan's parameters in place, on the samples at `indices` (all by default).

    Every random choice depends on the seed and the step only, so a run that continues from its `state` gives the same bits as
    one that was never interrupted. Each process works on its share of every batch, and the gradients are added up.
    After every epoch `test` is called with the model in evaluation mode, and then `on_epoch` with its number and the history.

    Raises:
        NonFiniteError: If the loss is NaN or infinite before an epoch left a network with a finite loss. Later, the state after
            the last such epoch is kept, and the history says why training stopped.
        ResourceError: If a batch does not fit into memory; says what does.
    """
    indices = np.arange(len(store)) if indices is None else indices
    loop = _Loop(model, store, recipe, job, indices, class_weights)
    _lay_out(model, torch.channels_last)
    if state is not None and state.exists():
        loop.load(state)
    report = job.reporter(f"training {model.plan.describe()}")
    saved = time.monotonic()
    model.train()
    try:
        while loop.step < loop.steps and not loop.history.stopped:
            loop.advance()
            ended = loop.step % loop.per_epoch == 0
            if ended and not loop.history.stopped:
                if test is not None:
                    model.eval()
                    accuracy, variability = test()
                    model.train()
                    loop.history.test_accuracy.append(accuracy)
                    loop.history.test_nc1.append(variability)
                if on_epoch is not None:
                    on_epoch(loop.step // loop.per_epoch, loop.history)
            since = time.monotonic() - saved
            over = loop.step == loop.steps or bool(loop.history.stopped)
            due = over or (job.lasting and since > (SHORT if ended else SAVE_EVERY))
            if state is not None and job.processes.index == 0 and due:
                loop.save(state)
                saved = time.monotonic()
            if report is not None:
                report(loop.step, loop.steps)
    finally:
        model.eval()
        _lay_out(model, torch.contiguous_format)
    return loop.history


def _lay_out(model: TunedModel, layout: torch.memory_format) -> None:
    """Convolutions are trained faster with the channels last. (`Module.to` fails where a parameter has five dimensions.)"""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)


class _Loop:
    """All that a step needs and changes."""

    def __init__(
        self,
        model: TunedModel,
        store: Store,
        recipe: Recipe,
        job: Job,
        indices: np.ndarray,
        class_weights: Tensor | None,
    ) -> None:
        self.model, self.store, self.recipe = model, store, recipe
        self.indices, self.class_weights = indices, class_weights
        self.seed, self.processes = job.seed, job.processes
        self.device = model.head.weight.device
        self.per_epoch = max(1, len(indices) // recipe.batch_size) if len(indices) >= recipe.batch_size else 1
        self.steps = recipe.epochs * self.per_epoch
        self.step = 0
        self.history = History()
        self.sums = [0.0, 0.0, 0.0]
        self.parameters, self.changing = model.trained(), model.changing()
        self.optimizer = torch.optim.AdamW(_groups(self.parameters, recipe), lr=1.0, fused=True)
        self.good, self.good_epochs = self._copy(), 0

    def advance(self) -> None:
        """One step."""
        epoch, place = divmod(self.step, self.per_epoch)
        started = time.monotonic()
        positions = self._order(epoch)[place]
        before = self._copy() if place == 0 else None
        try:
            loss, right = self._step(positions, epoch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_large(positions, epoch) from error
        if not np.isfinite(loss):
            self._stop(loss, epoch)
            return
        if before is not None:
            # What an epoch left is good once a loss was finite there.
            self.good, self.good_epochs = before, epoch
        self.step += 1
        self.sums = [self.sums[0] + loss * len(positions), self.sums[1] + right, self.sums[2] + len(positions)]
        if place == 0:
            self.history.seconds.append(0.0)
        if self.history.seconds:
            self.history.seconds[-1] += time.monotonic() - started
        if self.step % self.per_epoch == 0:
            self.history.loss.append(self.sums[0] / self.sums[2])
            self.history.accuracy.append(self.sums[1] / self.sums[2])
            self.sums = [0.0, 0.0, 0.0]
        if self.step == self.steps and not np.isfinite(loss := self._loss(positions, epoch)):
            self._stop(loss, epoch)

    def _order(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng(child_seed(self.seed, "epoch", epoch))
        return np.array_split(generator.permutation(self.indices), self.per_epoch)

    def _step(self, positions: np.ndarray, epoch: int) -> tuple[float, float]:
        """Mean loss and number of right answers of a batch, of which this process works on its share."""
        factor = self.recipe.factor(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["largest"]
        loss, right = self._forward(positions, epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        sums = torch.stack([loss.detach(), right])
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        self.processes.reduce([sums, *gradients])
        value, count = sums.tolist()
        if np.isfinite(value):
            self.optimizer.step()
        return value, count

    def _loss(self, positions: np.ndarray, epoch: int) -> float:
        with torch.no_grad():
            loss, _ = self._forward(positions, epoch)
        self.processes.reduce([loss := loss.reshape(1)])
        return float(loss)

    def _forward(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """This process's part of a batch's mean loss, and how many of its answers are right."""
        whole = torch.from_numpy(self.store.labels[positions]).to(self.device)
        total = float(len(whole) if self.class_weights is None else self.class_weights[whole].sum())
        mine = positions[self.processes.share(len(positions))]
        # A process without a share works on the first sample with weight zero, so that all send the same tensors.
        weight = 1.0 if len(mine) else 0.0
        mine = mine if len(mine) else positions[:1]
        batch = self.store.batch(mine, epoch % self.store.views)
        labels = torch.from_numpy(self.store.labels[mine]).to(self.device)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            # `torch.manual_seed` notes where it was called for every kind of accelerator, which takes milliseconds.
            seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
            seed(child_seed(self.seed, "step", self.step, self.processes.index))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                logits = self.model.head(batch.features(self.model))
            loss = F.cross_entropy(logits.float(), labels, self.class_weights, reduction="sum") * (weight / total)
        return loss, weight * (logits.argmax(dim=1) == labels).sum()

    def _stop(self, loss: float, epoch: int) -> None:
        if self.good_epochs == 0:
            raise NonFiniteError(
                f"The training loss is {loss} at step {self.step + 1}, before an epoch left a usable network. "
                f"{not_finite_because(self.model.base)}"
            )
        with torch.no_grad():
            for name, tensor in self.changing.items():
                tensor.copy_(self.good[name])
        self.history.stopped = (
            f"the training loss became {loss} in epoch {epoch + 1}; the network after epoch {self.good_epochs} was kept. "
            "Try a lower `rate`."
        )

    def _too_large(self, positions: np.ndarray, epoch: int) -> ResourceError:
        size = len(positions) // 2
        while size >= 1:
            try:
                self._step(positions[:size], epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size //= 2
            else:
                # The parts of an epoch are equal, and up to twice as large as asked for.
                return ResourceError(
                    f"A batch of {len(positions)} does not fit into memory; {size} does: `batch_size={max(1, size // 2)}`."
                )
        return ResourceError(
            "Not even one sample fits into memory. Use smaller images (`image_size`) or a smaller network."
        )

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.changing.items()}

    def save(self, path: Path) -> None:
        """Parameters, optimiser and history, atomically."""
        arrays = {f"parameter/{name}": tensor for name, tensor in self.changing.items()}
        arrays |= {f"good/{name}": tensor for name, tensor in self.good.items()}
        for name, parameter in self.parameters.items():
            moments: dict[str, Any] = self.optimizer.state.get(parameter, {})
            arrays |= {f"{key}/{name}": tensor for key, tensor in moments.items()}
        numbers = {
            "step": self.step,
            "sums": self.sums,
            "history": vars(self.history),
            "good_epochs": self.good_epochs,
        }
        save_tensors(
            path,
            {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()},
            {"loop": json.dumps(numbers)},
        )

    def load(self, path: Path) -> None:
        """Continues from what `save` wrote."""
        arrays, metadata = load_tensors(path)
        numbers = json.loads(metadata["loop"])
        self.step, self.sums, self.history = numbers["step"], numbers["sums"], History(**numbers["history"])
        self.good_epochs = numbers["good_epochs"]
        with torch.no_grad():
            for key, array in arrays.items():
                kind, _, name = key.partition("/")
                tensor = torch.from_numpy(array)
                if kind == "parameter":
                    self.changing[name].copy_(tensor)
                elif kind == "good":
                    self.good[name] = tensor.to(self.device)
                else:
                    moments = self.optimizer.state[parameter := self.parameters[name]]
                    # Fused steps go through memory in the order of the parameter.
                    moments[kind] = (
                        tensor.to(self.device) if kind == "step" else torch.empty_like(parameter).copy_(tensor)
                    )


def _groups(parameters: dict[str, Any], recipe: Recipe) -> list[dict[str, Any]]:
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in parameters.items():
        rate = recipe.head_rate if name.startswith(("head.", "project.")) else recipe.rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": one, "largest": rate, "weight_decay": decay} for (rate, decay), one in groups.items()]
