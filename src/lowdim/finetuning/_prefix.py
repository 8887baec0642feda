"""A network split at one of its blocks: everything before runs once per sample, the rest is replayed from what went into the block."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lowdim.errors import InputError
from lowdim.features import Inputs, call


class _Reached(BaseException):
    """The block was entered; the rest of the forward pass is not wanted."""


def samples_in(inputs: Inputs) -> int:
    """Number of samples in a batch."""
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


@dataclass(frozen=True)
class _Call:
    """One call of a module that is over before the block is entered: what it returned."""

    module: nn.Module
    number: int
    output: Any


class Prefix:
    """The part of a network that runs before a block.

    Replaying runs the network's own ``forward``, in which the outermost modules that finish before the block return empty
    stand-ins at once, and the block receives the stored input. What happens between modules (masks, additions) still happens,
    so the replayed suffix is the network itself. Where data passes by the block on another way (a long skip connection), the
    replay would be wrong; the constructor compares it with the plain forward pass and refuses.

    Args:
        network: In evaluation mode; its training modes may change later.
        block: Module name of the block.
        example: A batch of at least two samples.
        run: What of the network's work must be the same in a replay; by default its output.

    Raises:
        InputError: If the block is never entered, or the replay differs from the plain forward pass by a single bit.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        >>> prefix = Prefix(network, "2", inputs)
        >>> with torch.no_grad(), prefix.replay(prefix.compute(inputs)):
        ...     again = network(inputs)
        >>> torch.equal(again, network(inputs))
        True
    """

    def __init__(
        self, network: nn.Module, block: str, example: Inputs, run: Callable[[Inputs], Any] | None = None
    ) -> None:
        self.network, self.block = network, network.get_submodule(block)
        self._run = run or partial(call, network)
        self.name = block
        self._samples = samples_in(example)
        self._tokens = example["input_ids"].shape[1] if isinstance(example, dict) and "input_ids" in example else None
        with torch.no_grad():
            self._calls = self._record(example)
            self._check(example)

    def compute(self, inputs: Inputs) -> Tensor:
        """What goes into the block, without gradient.

        Args:
            inputs: A batch for the network.

        Raises:
            InputError: If the block is never reached, or takes no tensor.
        """
        caught: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            caught.append(_first(args, keywords, self.name).detach().clone())
            raise _Reached

        handle = self.block.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            with torch.no_grad(), contextlib.suppress(_Reached):
                call(self.network, inputs)
        finally:
            handle.remove()
        if not caught:
            raise InputError(f"The block {self.name} is never used in the forward pass. Choose another layer.")
        return caught[0]

    @contextlib.contextmanager
    def replay(self, value: Tensor) -> Generator[None]:
        """Inside the block, the network starts at `value`; call it with inputs of the same number of samples.

        Args:
            value: From `compute`, for these samples.
        """
        numbers: dict[int, int] = {}
        outputs: dict[int, dict[int, Any]] = {}
        modules: dict[int, nn.Module] = {}
        for entry in self._calls:
            modules[id(entry.module)] = entry.module
            outputs.setdefault(id(entry.module), {})[entry.number] = entry.output
        entered = False

        def stand_in(key: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **keywords: Any) -> Any:
                numbers[key] = numbers.get(key, 0) + 1
                template = outputs[key].get(numbers[key], forward)
                return forward(*args, **keywords) if template is forward else self._empty(template, value)

            return run

        def enter(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            nonlocal entered
            if entered:
                return None
            entered = True
            return _with_first(args, keywords, value)

        handle = self.block.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        before = {key: module.__dict__.get("forward") for key, module in modules.items()}
        try:
            for key, module in modules.items():
                object.__setattr__(module, "forward", stand_in(key, module.forward))
            yield
        finally:
            handle.remove()
            for key, module in modules.items():
                object.__delattr__(module, "forward")
                if before[key] is not None:
                    object.__setattr__(module, "forward", before[key])

    def _record(self, example: Inputs) -> list[_Call]:
        """The outermost calls that end before the block is entered."""
        done: list[_Call] = []
        starts: list[int] = []
        numbers: dict[int, int] = {}
        handles: list[Any] = []
        order: list[int] = []

        def before(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if module is self.block:
                raise _Reached
            numbers[id(module)] = numbers.get(id(module), 0) + 1
            order.append(numbers[id(module)])
            starts.append(len(done))

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            del done[starts.pop() :]
            done.append(_Call(module, order.pop(), output))

        try:
            for module in self.network.modules():
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
                handles.append(module.register_forward_hook(after))
            with contextlib.suppress(_Reached):
                call(self.network, example)
        finally:
            for handle in handles:
                handle.remove()
        return [_Call(entry.module, entry.number, self._template(entry.output)) for entry in done]

    def _template(self, output: Any) -> Any:
        """The structure of an output, its tensors replaced by shapes in which ``n`` and ``t`` stand for samples and tokens."""
        if isinstance(output, Tensor):
            shape: list[int | str] = list(output.shape)
            if shape and shape[0] == self._samples:
                shape[0] = "n"
            elif shape and shape[0] == self._tokens:
                # Positions, the same for all samples.
                shape[0] = "t"
            if len(shape) > 1 and shape[1] == self._tokens:
                shape[1] = "t"
            return _Shape(tuple(shape), output.dtype)
        if isinstance(output, dict):
            return type(output)(**{name: self._template(entry) for name, entry in output.items()})
        if isinstance(output, tuple | list):
            parts = [self._template(entry) for entry in output]
            return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
        return output

    def _empty(self, template: Any, value: Tensor) -> Any:
        if isinstance(template, _Shape):
            sizes = {"n": value.shape[0], "t": value.shape[1] if value.ndim > 1 else 1}
            shape = [sizes[size] if isinstance(size, str) else size for size in template.shape]
            return torch.zeros(1, dtype=template.dtype, device=value.device).expand(shape)
        if isinstance(template, dict):
            return type(template)(**{name: self._empty(entry, value) for name, entry in template.items()})
        if isinstance(template, tuple | list):
            parts = [self._empty(entry, value) for entry in template]
            return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
        return template

    def _check(self, example: Inputs) -> None:
        for part in (example, _beginning(example, self._samples - 1)):
            plain = _tensors(self._run(part))
            value = self.compute(part)
            if len(value) != samples_in(part):
                raise InputError(
                    f"The network cannot be split at {self.name}, which takes {len(value)} rows for {samples_in(part)} samples."
                )
            try:
                with self.replay(value):
                    replayed = _tensors(self._run(stand_in(part)))
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise InputError(f"The network cannot be split at {self.name}: {error}") from error
            if not all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True)):
                raise InputError(
                    f"The network cannot be split at {self.name}: what comes before is also used after it by another way."
                )


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int | str, ...]
    dtype: torch.dtype


def stand_in(inputs: Inputs) -> Inputs:
    """Inputs of the same shape for a replay: an image is not looked at any more, tokens are kept (masks come from them)."""
    if isinstance(inputs, dict):
        return inputs
    return torch.zeros(1, dtype=inputs.dtype, device=inputs.device).expand(inputs.shape)


def _beginning(inputs: Inputs, samples: int) -> Inputs:
    return {name: tensor[:samples] for name, tensor in inputs.items()} if isinstance(inputs, dict) else inputs[:samples]


def _first(args: tuple[Any, ...], keywords: dict[str, Any], block: str) -> Tensor:
    for value in (*args, *keywords.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise InputError(f"The block {block} takes no tensor, so the network cannot be split there.")


def _with_first(
    args: tuple[Any, ...], keywords: dict[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for index, entry in enumerate(args):
        if isinstance(entry, Tensor) and entry.is_floating_point():
            return (*args[:index], value, *args[index + 1 :]), keywords
    name = next(name for name, entry in keywords.items() if isinstance(entry, Tensor) and entry.is_floating_point())
    return args, {**keywords, name: value}


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for entry in output.values() for tensor in _tensors(entry)]
    if isinstance(output, tuple | list):
        return [tensor for entry in output for tensor in _tensors(entry)]
    return []
