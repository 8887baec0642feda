"""Files that nobody has vouched for: whatever goes wrong while one is read is said once, with its name."""

import contextlib
import csv
import errno
import lzma
import pickle
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Generator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec

from lowdim._memory import require_memory
from lowdim.errors import InputError, LowdimError, ResourceError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

READING_ERRORS: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError, SyntaxError, RuntimeError, MemoryError,
    NotImplementedError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, pickle.UnpicklingError,
    csv.Error, tokenize.TokenError, msgspec.MsgspecError,
)  # fmt: skip
"""What reading libraries raise on damaged, encrypted, forged or misnamed files (`NotImplementedError`: zipfile, of a compression it does not know)."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_PLACES = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist: a part of its path is a file",
    errno.EACCES: "may not be read: permission denied",
    errno.EPERM: "may not be read: permission denied",
    errno.ELOOP: "cannot be reached: its links lead in a circle",
    errno.ENAMETOOLONG: "does not exist: the name is longer than file names can be",
}


@contextlib.contextmanager
def reading(
    path: Path, what: str, *, name: str | None = None, remedy: str = "", also: tuple[type[Exception], ...] = ()
) -> Generator[None]:
    """Around the calls of a library that reads one file: every error of theirs becomes an `InputError` that names the file.

    Pipes, devices, sockets and folders are refused before they are opened.

    Args:
        path: The file.
        what: What it should be, as in "cannot be read as …".
        name: How it is called in errors; default its path.
        remedy: What to do about a damaged one.
        also: Exceptions of the library beside `READING_ERRORS`.

    Raises:
        InputError: If the file is missing, not a regular file, or the code inside raises.
        ResourceError: If too many files are open, or the memory does not suffice.

    Example:
        >>> with reading(Path("/dev/null"), "a table"):
        ...     pass
        Traceback (most recent call last):
        lowdim.errors.InputError: /dev/null is a device; a regular file is needed.
    """
    shown = str(path) if name is None else name
    with said(path, what, name=shown, remedy=remedy, also=also):
        require_regular(path, shown)
        yield


@contextlib.contextmanager
def said(
    path: Path, what: str, *, name: str | None = None, remedy: str = "", also: tuple[type[Exception], ...] = ()
) -> Generator[None]:
    """`reading` for what may be a folder, too, or is checked elsewhere."""
    try:
        yield
    except LowdimError:
        raise
    except (*READING_ERRORS, *also) as error:
        raise explained(error, str(path) if name is None else name, what, remedy) from error


def require_regular(path: Path, name: str) -> None:
    """Raises an `InputError` where a path leads to something other than a file, without opening it."""
    mode = path.stat().st_mode
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise InputError(f"{name} is {kind}; a regular file is needed.")


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, a device or a socket, which reading could wait on for ever."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def explained(error: Exception, name: str, what: str, remedy: str = "") -> LowdimError:
    """The error to raise for one that a reading library raised.

    Example:
        >>> print(explained(EOFError(), "a.npz", "an .npz file", "Save it again."))
        a.npz cannot be read as an .npz file: it ends too early. Save it again.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return ResourceError(f"{name} cannot be opened: too many files are open. Allow more with `ulimit -n`.")
    if isinstance(error, MemoryError):
        return ResourceError(
            f"{name} claims to hold more than the memory takes ({error}). It may be damaged. {remedy}".strip()
        )
    if number in _PLACES:
        return InputError(f"{name} {_PLACES[number]}.")
    why = _why(error).rstrip(".")
    return InputError(f"{name} cannot be read as {what}: {why}. {remedy}".strip())


def _why(error: Exception) -> str:
    text = str(error)
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "allow_pickle" in text:
        return "it holds pickled objects, which are not loaded"
    if "encrypted" in text:
        return "it is encrypted"
    if isinstance(error, LookupError | AttributeError | TypeError | SyntaxError):
        return f"it does not hold what it should ({type(error).__name__}: {text})"
    return text or type(error).__name__


Kind = TypeVar("Kind")
_WORDS = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list", "object": "a table",
    "null": "nothing",
}  # fmt: skip


def typed(content: object, kind: type[Kind], where: str) -> Kind:
    """What a JSON or TOML file holds, as an object of a type that says what is allowed there.

    Args:
        content: Dictionaries, lists, numbers and text.
        kind: A dataclass or `msgspec.Struct`, with ranges as `msgspec.Meta`.
        where: The file.

    Raises:
        InputError: Naming the key that is missing, unknown, of the wrong type or out of range.

    Example:
        >>> typed({"a": [1, 2]}, dict[str, list[int]], "x.json")
        {'a': [1, 2]}
    """
    try:
        return msgspec.convert(content, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"{where}: {_told(str(error), kind)}") from error


def _told(message: str, kind: Any) -> str:
    """A message of msgspec as a sentence about a key."""
    what, _, place = message.partition(" - at `")
    place = re.sub(r"^key in \$|^\$", "", place.rstrip("`")).lstrip(".") or "the content"
    what = re.sub(r"`([^`]*)`", lambda found: " or ".join(_WORDS.get(w, w) for w in found[1].split(" | ")), what)
    if missing := re.match(r"Object missing required field (.*)", what):
        return f"{place} lacks the key {missing[1]!r}."
    if unknown := re.match(r"Object contains unknown field (.*)", what):
        near = did_you_mean(unknown[1], _keys(kind))
        return f"{place} has a key {unknown[1]!r}, which this lowdim does not know. {near if near.startswith('Did') else 'Update lowdim.'}"
    what = re.sub(r"^Expected ", "must be ", what).replace(", got ", ", not ").replace(" or nothing", "")
    return f"{place} {what if what.startswith('must') else f'is not allowed: {what}'}."


def _keys(kind: Any) -> list[str]:
    """The keys of a table, and of the tables in it."""
    found: tuple[str, ...] = getattr(kind, "__struct_encode_fields__", ())
    inner = [*getattr(kind, "__annotations__", {}).values(), *getattr(kind, "__args__", ())]
    return [*found, *(key for part in inner for key in _keys(part))]


def read_arrays(
    path: Path, wanted: Collection[str] | None, *, remedy: str
) -> "tuple[dict[str, np.ndarray], list[str]]":
    """Some arrays of an ``.npz`` file; objects are refused, so nothing is executed.

    Returns:
        The arrays, and the names of all that the file holds.

    Raises:
        InputError: If it is missing, damaged, encrypted or another kind of file.
        ResourceError: If the arrays would not fit into the memory.
    """
    import numpy as np

    # NumPy leaves a file that it cannot read open if it opened it itself.
    with reading(path, "an .npz file", remedy=remedy), path.open("rb") as raw:
        _require_room(raw, wanted)
        raw.seek(0)
        with np.load(raw, allow_pickle=False) as file:
            names = file.files if wanted is None else [name for name in wanted if name in file.files]
            return {name: file[name] for name in names}, list(file.files)


def _require_room(raw: IO[bytes], wanted: Collection[str] | None) -> None:
    """A small archive can unpack to more than any memory holds; its directory bounds what reading it gives."""
    with zipfile.ZipFile(raw) as archive:
        read = (one for one in archive.infolist() if wanted is None or one.filename.removesuffix(".npy") in wanted)
        size = sum(entry.file_size for entry in read)
    require_memory(
        size,
        f"Unpacking {raw.name}",
        "It may be damaged; else give fewer samples, or arrays in Python that are mapped.",
    )
