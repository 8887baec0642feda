"""Files that survive a kill: atomic writes, tensors with a checksum, and the run folder."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import msgspec
import numpy as np
from filelock import FileLock, Timeout

from lowdim._reading import reading, require_regular, said, typed
from lowdim.errors import InputError, LowdimError, ResourceError, UsageError, did_you_mean
from lowdim.schemas import SCHEMA_VERSION

TEMPORARY = ".tmp-"
LOCK = ".lock"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that a kill at any moment leaves the old content or the new, never a part.

    A new file gets the mode that the umask allows, an existing one keeps its own; a link is followed. A pipe, a device or a socket
    is written into. Text is UTF-8; parts of a file name that are not are written as escapes.

    Raises:
        UsageError: If nothing can be written there.
    """
    data = data.encode(errors="backslashreplace") if isinstance(data, str) else data
    with _placed(path):
        found = path.stat() if path.exists() else None
        if (found is not None and not stat.S_ISREG(found.st_mode)) or path.is_relative_to("/dev"):
            with path.open("wb", buffering=0) as file:  # refuses a folder
                file.write(data)
            return
        if found is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data, None if found is None else stat.S_IMODE(found.st_mode))


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    """Writes beside the file, makes that durable, and puts it in its place."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        # Where the system can, a file without a name: a kill leaves nothing of it.
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, 0o666)
        named = False
    except (OSError, AttributeError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        named = True
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if not named:  # given a descriptor, Python follows the link in /proc
                os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM)


@contextlib.contextmanager
def _placed(path: Path) -> Generator[None]:
    """Says which file or folder cannot be made, and why. A full disk and the like go on as they are."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, LowdimError) or (isinstance(error, OSError) and error.errno in _FULL):
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        shown = str(path) if len(str(path)) < 300 else f"{str(path)[:100]}… ({len(str(path))} characters)"
        raise UsageError(f"{shown!r} cannot be written: {why}. Choose another place.") from error


def sync_folder(folder: Path) -> None:
    """Makes renames and deletions inside the folder durable."""
    if os.name == "nt":  # where a folder cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into a folder that one may not list
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """The value as strict JSON allows it: NumPy scalars and arrays unpacked, paths as text, non-finite numbers as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def to_json(value: Any) -> str:
    """Strict JSON text (RFC 8259), keys in the order given."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_digest(value: Any) -> str:
    """Hex digest (sha256) of the JSON text of a value."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes `to_json` atomically."""
    write_atomic(path, to_json(value))


def read_json(path: Path, *, remedy: str = "It may be damaged: restore or delete it.") -> Any:
    """Reads a JSON file.

    Raises:
        InputError: If the file is missing or not JSON.
    """
    with reading(path, "JSON", remedy=remedy):
        return msgspec.json.decode(path.read_bytes())


def write_checked(path: Path, value: Mapping[str, Any]) -> None:
    """`write_json` of a table with a sha256 of its content, which `read_checked` compares."""
    write_json(path, {**value, "sha256": json_digest(value)})


def read_checked(path: Path, *, remedy: str) -> dict[str, Any]:
    """Reads what `write_checked` wrote; files of earlier versions may lack the checksum.

    Raises:
        InputError: If the file is missing, no table, or one bit of it changed.
    """
    content = read_json(path, remedy=remedy)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table: it is damaged or of another kind. {remedy}")
    table = cast("dict[str, Any]", content)
    digest = table.pop("sha256", None)
    # A checksum comes last: one whose name has changed is none of the content.
    last = str([*table.values()][-1]) if table else ""
    if digest != json_digest(table) if digest is not None else re.fullmatch("[0-9a-f]{64}", last):
        raise InputError(f"{path} is damaged: its content does not match its checksum. {remedy}")
    return table


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_digest(path: Path) -> str:
    """`sha256` of a file; of a folder that of the names and contents of all files in it."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return json_digest({file.relative_to(path).as_posix(): sha256(file) for file in files})


def _tensor_digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\0".encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{arrays[name].shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays as a safetensors file whose metadata holds a sha256 of its content."""
    write_atomic(path, tensor_bytes(arrays, metadata))


def tensor_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """What `save_tensors` writes."""
    from safetensors.numpy import save

    metadata = dict(metadata or {})
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    return save(contiguous, metadata | {"sha256": _tensor_digest(contiguous, metadata)})


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what `save_tensors` wrote.

    Returns:
        The arrays and the metadata.

    Raises:
        InputError: If the file is missing, not safetensors, or one bit of it changed.
    """
    from safetensors import SafetensorError, safe_open

    with (
        reading(path, "safetensors", remedy="It is damaged or of another kind.", also=(SafetensorError,)),
        safe_open(path, framework="numpy") as file,
    ):
        metadata = dict(file.metadata() or {})
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    expected = metadata.pop("sha256", None)
    if expected != _tensor_digest(arrays, metadata):
        raise InputError(f"{path} is damaged: its content does not match its checksum. Delete it and run again.")
    return arrays, metadata


def verify_tensors(path: Path) -> bool:
    """Whether a safetensors file carries the checksum that `save_tensors` writes; then its content is compared with it.

    For files that another library goes on to read. Costs one look at every byte.

    Raises:
        InputError: If it cannot be read, or one bit of it changed.
    """
    from safetensors import SafetensorError, safe_open

    with reading(path, "safetensors", remedy="It is damaged or of another kind.", also=(SafetensorError,)):
        with safe_open(path, framework="numpy") as file:
            if "sha256" not in (file.metadata() or {}):
                return False
        load_tensors(path)
        return True


_AGAIN = "Use `fresh` to run again."


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """Checksums of the run's files; of these checksums, too, but in earlier versions."""

    sha256: dict[str, str]
    own: str | None = None


class RunFolder:
    """The folder of one run: configuration, resumable state, result, figures and a manifest of checksums.

    Opening a folder again with the same configuration continues; with another one it is refused, naming the keys that differ. A
    completed run is compared with its checksums first, and a file that changed is named. One process at a time: the folder is
    locked while open.

    Args:
        path: The folder, or None for ``lowdim-runs/COMMAND-HASH``.
        command: Name of the command.
        config: Everything that decides the result; JSON types only.
        fresh: Delete what an earlier run left here and start again.
    """

    def __init__(self, path: Path | None, command: str, config: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.config: dict[str, Any] = {"command": command, **json.loads(to_json(config))}
        key = hashlib.sha256(json.dumps(_identity(self.config), sort_keys=True).encode()).hexdigest()[:10]
        self.path = path if path is not None else Path("lowdim-runs") / f"{command}-{key}"
        self.state = self.path / "state"
        self._fresh = fresh
        self._lock = FileLock(self.path / LOCK, timeout=0)
        self._existed = self._new = False

    def __enter__(self) -> "RunFolder":
        with _placed(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"The run folder {self.path} is a file. Choose another `out`.")
            self._existed = self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                raise UsageError(
                    f"Another process is using the run folder {self.path}. Wait for it, or choose another `out`."
                ) from error
        try:
            self._prepare()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._forget()
        self._unlock()

    def _unlock(self) -> None:
        """The file goes while it is still locked: later, it could be another process's. Windows keeps open files, so there it stays."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                (self.path / LOCK).unlink()
        self._lock.release()

    def _forget(self) -> None:
        """After a failure with nothing to continue from, takes the configuration back, so that a corrected command can run here."""
        if not self._new or {entry.name for entry in self.path.rglob("*")} - {LOCK} != {"config.json", "state"}:
            return
        self.state.rmdir()
        (self.path / "config.json").unlink()
        if not self._existed:
            self._unlock()
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _prepare(self) -> None:
        file = self.path / "config.json"
        ours = file.exists()
        if not ours and any(not entry.name.startswith(TEMPORARY) for entry in self._content()):
            raise UsageError(
                f"{self.path} holds files that are not a lowdim run. Choose an empty or new folder as `out`."
            )
        if self.state.is_symlink():
            raise UsageError(f"{self.state} is a link. Choose another `out`, or remove it.")
        leftovers = [entry for entry in self.path.rglob(f"{TEMPORARY}*") if entry.is_file()]
        if ours and self._fresh:
            # The configuration goes last: a kill on the way leaves a folder that is still known as a run.
            for entry in [*(entry for entry in self._content() if entry != file), file]:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            ours = False
        elif ours:
            if (self.path / "manifest.json").exists():
                self._verify()
            self._compare(read_checked(file, remedy=_AGAIN))
        for entry in leftovers:
            entry.unlink(missing_ok=True)
        self._new = not ours
        if not ours:
            write_checked(file, self.config)
        if not (self.path / "manifest.json").exists():
            self.state.mkdir(exist_ok=True)

    def _content(self) -> list[Path]:
        return [entry for entry in self.path.iterdir() if entry.name != LOCK]

    def _compare(self, earlier: Any) -> None:
        before, now = _identity(earlier), _identity(self.config)
        if before == now:
            return
        if isinstance(before, dict) and (of := cast(dict[str, Any], before).get("command")) not in (
            None,
            now["command"],
        ):
            raise UsageError(
                f"{self.path} holds a run of {of}, not of {now['command']}. Use another `out`, or `fresh` to replace it."
            )
        raise UsageError(
            f"{self.path} holds a run with other settings ({'; '.join(_differences(before, now))}). "
            "Use `fresh` to replace it, or another `out`."
        )

    def finished(self) -> dict[str, Any] | None:
        """The result of a completed run with this configuration; None if it is not complete."""
        complete = (self.path / "manifest.json").exists()
        return read_json(self.path / "result.json", remedy=_AGAIN) if complete else None

    def _verify(self) -> None:
        path = self.path / "manifest.json"
        manifest = typed(read_json(path, remedy=_AGAIN), _Manifest, str(path))
        files = manifest.sha256
        if "result.json" not in files or manifest.own not in (None, json_digest(files)):
            raise InputError(f"{path} is damaged: its content does not match its checksum. {_AGAIN}")
        bad = [
            name
            for name, digest in files.items()
            if not (self.path / name).is_file() or sha256(self.path / name) != digest
        ]
        if bad:
            raise InputError(f"In {self.path} these files changed since they were written: {', '.join(bad)}. {_AGAIN}")

    def write(self, name: str, data: bytes | str) -> Path:
        """Writes a file of the run atomically."""
        path = self.path / name
        write_atomic(path, data)
        return path

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes ``result.json`` with its schema version, and leaves the run open."""
        write_json(
            self.path / "result.json", {"schema_version": SCHEMA_VERSION, "command": self.config["command"], **result}
        )

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes ``result.json``, removes the state, and then writes the manifest: from here on the run is complete."""
        self.write_result(result)
        shutil.rmtree(self.state)
        files = sorted(path for path in self.path.rglob("*") if path.is_file())
        digests = {
            path.relative_to(self.path).as_posix(): sha256(path)
            for path in files
            if path.name not in ("manifest.json", LOCK)
        }
        write_json(self.path / "manifest.json", {"sha256": digests, "own": json_digest(digests)})


_DIGESTS = ("sha256", "fingerprint", "entries")
_CONTENTS = {"sha256", "fingerprint", "splits"}


def _identity(value: Any) -> Any:
    """The settings without the names of what is known by its content: those depend on the spelling of a path."""
    if isinstance(value, dict):
        settings = cast(dict[str, Any], value)
        known = settings.keys() & _CONTENTS
        return {key: _identity(item) for key, item in settings.items() if not (known and key == "name")}
    return [_identity(item) for item in cast(list[Any], value)] if isinstance(value, list) else value


_MOST_TOLD = 5
"""Settings that differ, of which the names are said."""


def _differences(earlier: Any, now: Any) -> list[str]:
    """The settings that differ, by name; contents, which only a digest tells apart, where no setting does."""
    before, after = dict(_leaves(earlier)), dict(_leaves(now))
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    settings = [name for name in names if name.split(".")[-1] not in _DIGESTS]
    if not settings:
        return [f"{name}: the content is another one" for name in names]
    told: dict[str, str] = {}
    for name in settings:
        here, there = name in before, name in after
        whole = name if here and there else _missing_part(name, after if here else before)
        alone = whole == name or sum(one.startswith(f"{whole}.") for one in settings) == 1
        values = (
            [_shown(before.get(name)), _shown(after.get(name))]
            if alone
            else [("not set", "set")[one] for one in (here, there)]
        )
        told[name if alone else whole] = f"{values[0]} in the folder, {values[1]} now"
    shown = [f"{name}: {values}" for name, values in told.items()]
    return shown if len(shown) <= _MOST_TOLD else [*shown[:_MOST_TOLD], f"and {len(shown) - _MOST_TOLD} more"]


def _missing_part(name: str, others: dict[str, Any]) -> str:
    """The outermost part of a name, such as ``models.2``, of which the others have nothing."""
    parts = name.split(".")
    heads = [".".join(parts[:end]) for end in range(1, len(parts))]
    return next((head for head in heads if not any(f"{other}.".startswith(f"{head}.") for other in others)), name)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested settings with their path, such as ``data.limit``."""
    if isinstance(value, dict) and value:
        for key, item in cast(dict[str, Any], value).items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in cast(list[Any], value)):
        for index, item in enumerate(cast(list[Any], value), 1):
            yield from _leaves(item, f"{name}.{index}")
    else:
        yield name, value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(str(item) for item in cast(list[Any], value))
    text = "not set" if value is None or value == {} else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def existing_file(path: Path, what: str) -> Path:
    """The path if it is a file; otherwise an error that offers the names beside it.

    Raises:
        InputError: If it does not exist or is a folder.
    """
    with said(path, "a file"):
        if path.is_file():
            return path
        if path.is_dir():
            raise InputError(f"{what} {path} is a folder; a file is needed.")
        if os.path.lexists(path):
            require_regular(path, f"{what} {path}")
        names = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    where = did_you_mean(path.name, names) if names else f"The folder {path.parent} does not exist or is empty."
    raise InputError(f"{what} {path} does not exist. {where}")


def disk_full(error: OSError, path: Path) -> ResourceError:
    """The error to raise when writing failed for lack of space."""
    return ResourceError(
        f"No space left while writing {path}. Free some, or choose another `out`; the run continues from its last state."
    )
