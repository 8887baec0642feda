"""A training run that can be asked for any quantity at any recorded time, and forms nothing else."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from lowdim._files import write_atomic
from lowdim._reading import read_arrays
from lowdim.dynamics._bases import Bases, Block
from lowdim.dynamics._network import Factors, end_to_end
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._reduction import Reduction
from lowdim.errors import InputError, UsageError

Mode = Literal["full", "reduced", "flow"]


@dataclass(frozen=True)
class RecordedStates:
    """States kept at some iterations: each array has the times as leading axis."""

    times: Float[np.ndarray, " T"]
    arrays: list[Float[np.ndarray, "T *batch m n"]]

    def at(self, time: float | None) -> Factors:
        """The state at a recorded time; all of them for None."""
        if time is None:
            return self.arrays
        index = int(np.searchsorted(self.times, time))
        if index == len(self.times) or self.times[index] != time:
            nearest = self.times[np.argsort(np.abs(self.times - time))[:2]]
            raise UsageError(
                f"time {time:g} was not recorded (of {len(self.times)} times up to {self.times[-1]:g}, the nearest are "
                f"{' and '.join(f'{t:g}' for t in sorted(nearest))}). Pass record=1 to keep every iteration."
            )
        return [array[index] for array in self.arrays]


@dataclass(frozen=True)
class ContinuousStates:
    """States of a flow: any real time up to the end; `times` are the solver's own steps."""

    times: Float[np.ndarray, " T"]
    evaluate: Callable[[Float[np.ndarray, "..."]], list[Float[np.ndarray, "... m n"]]]

    def at(self, time: float | None) -> Factors:
        """The state at a time; at all solver steps for None."""
        if time is not None and not 0 <= time <= self.times[-1]:
            raise UsageError(f"time {time:g} lies outside the flow, which covers 0 to {self.times[-1]:g}.")
        return self.evaluate(self.times if time is None else np.asarray(float(time)))


class Svd(NamedTuple):
    """``left * values @ right``, values in descending order."""

    left: Float[np.ndarray, "*batch m k"]
    values: Float[np.ndarray, "*batch k"]
    right: Float[np.ndarray, "*batch k n"]


@dataclass(frozen=True)
class Trajectory:
    r"""Weights over time of one run or of a batch.

    Layers count from 1 (nearest the input). A time is an iteration number; in mode ``"flow"`` any real number, one
    unit being one step. ``time=None`` gives all recorded times as leading axis.

    Attributes:
        problem: What was fitted.
        mode: ``"full"``, ``"reduced"`` or ``"flow"``.
        states: Factors (full) or cores (reduced, flow) over time.
        reduction: Bases that lift the cores; None in mode ``"full"``.
        finished: False when `until` was asked for and not reached.

    Example:
        >>> from lowdim.dynamics import GradientDescent, simulate
        >>> run = simulate(Problem(np.array([[4.0]])), [np.array([[1.0]])] * 2, GradientDescent(step=0.05), steps=300, mode="full")
        >>> run.weight(layer=1, time=0).tolist(), np.round(run.weight(layer=1, time=300), 6).tolist()  # 2 x 2 = 4
        ([[1.0]], [[2.0]])
        >>> float(run.loss(0))
        4.5
    """

    problem: Problem
    mode: Mode
    states: RecordedStates | ContinuousStates
    reduction: Reduction | None
    finished: bool = True

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """Recorded times, ascending, from 0 to the end."""
        return self.states.times

    @property
    def depth(self) -> int:
        """L, the number of factors."""
        return len(self.states.at(self.times[0]))

    def weight(self, layer: int, time: float | None = None) -> Float[np.ndarray, "*batch m n"]:
        r"""$W_l(t)$."""
        state = self._state(layer, time)
        return state if self.reduction is None else self.reduction.lift(layer, state)

    def weights(self, time: float) -> list[Float[np.ndarray, "*batch m n"]]:
        r"""$W_1(t), \dots, W_L(t)$."""
        return [self.weight(layer, time) for layer in range(1, self.depth + 1)]

    def end_to_end(self, time: float | None = None) -> Float[np.ndarray, "*batch d_y d_x"]:
        r"""$W_{L:1}(t)$."""
        state = self.states.at(time)
        product = end_to_end(state)
        if self.reduction is None:
            return product
        bases, last = self.reduction.bases, self.depth
        right = bases.right[0].swapaxes(-1, -2)
        result = bases.left[-1] @ (self.reduction.inner(product, last) @ right)
        if not bases.sizes.fading:
            return result
        seen = bases.sizes.outputs
        fading = bases.through[0] - bases.left[-1] @ bases.right[0][..., :seen].swapaxes(-1, -2)
        return result + self.reduction.number(product, last, "fading")[..., None, None] * fading

    def loss(self, time: float | None = None) -> Float[np.ndarray, "*batch"]:
        r"""$\tfrac12\lVert W_{L:1}X - Y\rVert_F^2$; in reduced form from cores alone."""
        product = end_to_end(self.states.at(time))
        if self.reduction is None:
            return self.problem.loss(product)
        fading = self.reduction.bases.sizes.fading
        rest = 0.5 * fading * self.reduction.number(product, self.depth, "fading") ** 2 if fading else 0.0
        return self.reduced_loss(time) + rest + self.problem.constant

    def reduced_loss(self, time: float | None = None) -> Float[np.ndarray, "*batch"]:
        r"""$\tfrac12\lVert \widetilde W_{L:1} - U_L^\top\Phi V_1\rVert_F^2$, the part of the loss that is learned."""
        reduction = self._require_reduction("reduced_loss")
        error = reduction.inner(end_to_end(self.states.at(time)) - reduction.target, self.depth)
        return 0.5 * np.einsum("...ij,...ij->...", error, error)

    def rho(
        self, layer: int = 1, time: float | None = None, *, block: Block | None = None
    ) -> Float[np.ndarray, "*batch"]:
        r"""$\rho_l(t)$: the value of the m unchanging-direction singular values, with its sign.

        Args:
            layer: From 1.
            time: One recorded time, or None for all.
            block: ``"silent"`` or ``"fading"``; may be left out when the factor has only one of them.

        Raises:
            UsageError: If the run has no reduction, the layer has no such values, or the time was not recorded.
        """
        reduction, state = self._require_reduction("rho"), self._state(layer, time)
        blocks = reduction.bases.blocks(layer)
        if not blocks:
            raise UsageError(f"layer {layer} is the last of a network with fewer outputs than inputs: it has no rho.")
        first = next(iter(blocks))
        if block is None and len(blocks) > 1:
            raise UsageError(
                f"layer {layer} has a silent and a fading part. Choose one with block='silent' or 'fading'."
            )
        if block is not None and block not in blocks:
            raise UsageError(f"layer {layer} has no {block} part, only {first}.")
        return reduction.number(state, layer, block or first)

    def singular_values(self, layer: int, time: float | None = None) -> Float[np.ndarray, "*batch k"]:
        """All singular values of a factor, descending; in reduced form from the active block."""
        state = self._state(layer, time)
        if self.reduction is None:
            return np.linalg.svd(state, compute_uv=False)
        parts = [np.linalg.svd(self.reduction.inner(state, layer), compute_uv=False)]
        for block in self.reduction.bases.blocks(layer):
            number = np.abs(self.reduction.number(state, layer, block))[..., None]
            parts.append(np.repeat(number, self.reduction.bases.count(block), -1))
        return -np.sort(-np.concatenate(parts, -1), -1)

    def svd(self, layer: int, time: float) -> Svd:
        """Singular value decomposition of a factor at one time, formed and decomposed in full."""
        return Svd(*np.linalg.svd(self.weight(layer, time), full_matrices=False))

    def save(self, path: Path | str) -> None:
        """Writes problem, recorded times and states as an ``.npz`` file of plain arrays; the file is whole or absent.

        A reduced run is kept as its cores and its start, so that `load` gives the same lifted weights.

        Raises:
            UsageError: If the run is a flow, which has states at every time: take those you want with `weights`.
        """
        if not isinstance(self.states, RecordedStates):
            raise UsageError(
                "a flow has states at every real time and cannot be saved. Keep those you need: run.weights(t)."
            )
        arrays: dict[str, np.ndarray] = {
            "format": np.array(1),
            "mode": np.array(list(self.mode.encode()), np.uint8),
            "finished": np.array(self.finished),
            "times": self.states.times,
            "targets": self.problem.targets,
            "precision": np.array(self.problem.precision),
            **{f"state_{layer}": array for layer, array in enumerate(self.states.arrays, 1)},
        }
        if self.problem.inputs is not None:
            arrays["inputs"] = self.problem.inputs
        if self.reduction is not None:
            arrays["rank"] = np.array(self.reduction.rank)
            arrays |= {f"direction_{layer}": array for layer, array in enumerate(self.reduction.directions, 1)}
        held = io.BytesIO()
        np.savez(held, allow_pickle=False, **arrays)
        write_atomic(Path(path), held.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> "Trajectory":
        """What `save` wrote; nothing in the file is executed.

        Raises:
            InputError: If the file is missing, damaged, or not from `save`.

        Example:
            >>> import tempfile
            >>> from lowdim.dynamics import GradientDescent, simulate
            >>> run = simulate(Problem(np.array([[4.0]])), [np.array([[1.0]])] * 2, GradientDescent(0.05), steps=3, mode="full")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     run.save(f"{folder}/run.npz")
            ...     again = Trajectory.load(f"{folder}/run.npz")
            >>> bool(again.loss(3) == run.loss(3))
            True
        """
        path = Path(path)
        arrays, names = read_arrays(path, None, remedy="Save the run again.")
        states = [arrays[name] for name in _numbered("state", names)]
        if (
            "format" not in names
            or not {"mode", "finished", "times", "targets", "precision"} <= set(names)
            or not states
        ):
            raise InputError(
                f"{path} is not a saved run: it has {', '.join(names[:8]) or 'no arrays'}. Write it with `Trajectory.save`."
            )
        if int(arrays["format"]) != 1:
            raise InputError(
                f"{path} has format {int(arrays['format'])}, which a newer version wrote; this one reads format 1."
            )
        mode = bytes(arrays["mode"].astype(np.uint8)).decode(errors="replace")
        if mode not in ("full", "reduced") or any(
            array.ndim < 3 or len(array) != len(arrays["times"]) for array in states
        ):
            raise InputError(f"{path} is damaged: its states do not fit its times or its mode. Save the run again.")
        problem = Problem(arrays["targets"], arrays.get("inputs")).known_to(float(arrays["precision"]))
        reduction = None
        if mode == "reduced":
            directions = [arrays[name] for name in _numbered("direction", names)]
            if len(directions) != len(states) or "rank" not in names:
                raise InputError(f"{path} is damaged: the start of its reduction is missing. Save the run again.")
            bases = Bases.of_target(problem.phi, directions, int(arrays["rank"]), problem.precision)
            reduction = Reduction.of(bases, problem.phi, [state[0] for state in states])
        return cls(problem, mode, RecordedStates(arrays["times"], states), reduction, bool(arrays["finished"]))  # pyright: ignore[reportArgumentType]

    def _state(self, layer: int, time: float | None) -> Float[np.ndarray, "*batch a b"]:
        if not 1 <= layer <= self.depth:
            raise UsageError(f"there is no layer {layer}; layers are 1 to {self.depth}, first layer first.")
        return self.states.at(time)[layer - 1]

    def _require_reduction(self, name: str) -> Reduction:
        if self.reduction is None:
            raise UsageError(f"{name} belongs to the reduced network; this run has mode='full'.")
        return self.reduction


def _numbered(stem: str, names: list[str]) -> list[str]:
    """``stem_1, stem_2, …`` as far as they are there."""
    count = sum(name.startswith(f"{stem}_") for name in names)
    return [name for n in range(1, count + 1) if (name := f"{stem}_{n}") in names]
