"""The errors of lowdim: what was wrong, where, and what to do next.

Each one derives from `LowdimError` and from the closest built-in, and knows the exit code of the command line.
"""

import difflib
import errno
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar


class LowdimError(Exception):
    """Base of everything lowdim raises on purpose.

    Args:
        message: What was wrong, where, and what to do next. Parameters stand in backticks.
        argument: The parameter at fault, as the function that was called names it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class UsageError(LowdimError, ValueError):
    """The request itself is wrong: an unknown option value, contradicting settings."""

    exit_code = 2


class InputError(LowdimError, ValueError):
    """A model, data set, file or array is missing, malformed or unusable for this purpose."""

    exit_code = 3


class UnreadableError(InputError):
    """A picture of the data cannot be read: no network is at fault."""


class EmptyClassError(InputError):
    """A class has no sample where the quantity needs one."""


class NonFiniteError(InputError):
    """NaN or infinity where finite numbers are needed."""


class ResourceError(LowdimError, RuntimeError):
    """Memory, disk space or another process ran out or did not answer."""

    exit_code = 5


class MissingDependencyError(LowdimError, ImportError):
    """An optional package is not installed.

    Args:
        message: What needs it, and how to install it.
        name: The package.
    """

    exit_code = 2

    def __init__(self, message: str = "", *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


_EXTRAS = {
    "torch": "torch",
    "torchvision": "vision",
    "timm": "vision",
    "transformers": "text",
    "peft": "peft",
    "accelerate": "peft",
    "pandas": "tables",
    "pyarrow": "tables",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "tensorboard": "track",
    "wandb": "track",
    "pillow_heif": "heic",
}


_NO_MEMORY = (
    "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation", "cannot allocate memory", "out of memory",
    "could not create a primitive", "could not create a memory", "could not execute a primitive", "can't start new thread",
    "failed to map segment",
)  # fmt: skip
"""How PyTorch's allocators, the C++ library, the system, oneDNN, Python's threads and the loader of libraries say it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; most libraries have no class of their own for it.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(RuntimeError("x"))
        (True, False)
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    told = isinstance(error, RuntimeError | ImportError | OSError)
    told = told or type(error).__name__ in ("SafetensorError", "OutOfMemoryError")
    if told and any(words in str(error).lower() for words in _NO_MEMORY):
        return True
    reason = error.__cause__ or error.__context__
    return reason is not None and is_out_of_memory(reason)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or the share of it that one may use, is full.

    Example:
        >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(RuntimeError("x"))
        (True, False)
    """
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def require(module: str, purpose: str) -> ModuleType:
    """Imports an optional package, or says which extra of lowdim installs it.

    Args:
        module: Import name, for example ``"timm"``.
        purpose: What needs it, as the beginning of the sentence: ``"A timm model"``.

    Raises:
        MissingDependencyError: If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise missing_package(module, purpose) from error


def is_optional(error: BaseException) -> bool:
    """Whether an import failed because an optional package is not installed."""
    return isinstance(error, ModuleNotFoundError) and error.name is not None and error.name.split(".")[0] in _EXTRAS


def missing_package(module: str, purpose: str) -> MissingDependencyError:
    """The error that says which extra of lowdim installs a package.

    Example:
        >>> print(missing_package("torch.nn", "A network"))
        A network needs the package 'torch', which is not installed. Run: pip install 'lowdim[torch]'
    """
    package = module.split(".")[0]
    extra = _EXTRAS.get(package)
    command = f"pip install 'lowdim[{extra}]'" if extra else f"pip install {package}"
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is not installed. Run: {command}", name=package
    )


def did_you_mean(name: str, options: Iterable[str], *, limit: int = 12) -> str:
    """The end of an error about an unknown name: close matches, or what there is.

    Example:
        >>> did_you_mean("layer3.O", ["layer3.0", "conv", "fc"])
        'Did you mean layer3.0?'
        >>> did_you_mean("x", ["conv", "fc"])
        'There are: conv, fc.'
    """
    options = list(options)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.7)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    shown = ", ".join(options[:limit]) + (f", … ({len(options)} in all)" if len(options) > limit else "")
    return f"There are: {shown}." if options else "There are none."
