"""Files that survive a kill: atomic writes, tensors with a checksum, and the run folder."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from filelock import FileLock, Timeout

from lowdim._reading import reading, said
from lowdim.errors import InputError, ResourceError, UsageError, did_you_mean
from lowdim.schemas import SCHEMA_VERSION

TEMPORARY = ".tmp-"
LOCK = ".lock"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that a kill at any moment leaves the old content or the new, never a part.

    Temporary file in the same folder, fsync, rename, fsync of the folder. Text is UTF-8; parts of a file name that are not
    are written as escapes.
    """
    data = data.encode(errors="backslashreplace") if isinstance(data, str) else data
    with _placed(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder of this name")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


_NO_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
)  # fmt: skip


@contextlib.contextmanager
def _placed(path: Path) -> Generator[None]:
    """Says which file or folder cannot be made, and why. A full disk and the like go on as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror}. Choose another place.") from error


def sync_folder(folder: Path) -> None:
    """Makes renames and deletions inside the folder durable."""
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
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


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: If the file is missing or not JSON.
    """
    with reading(path, "JSON", remedy="It may be damaged: restore or delete it."):
        return json.loads(path.read_text(encoding="utf-8"))


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
    from safetensors.numpy import save

    metadata = dict(metadata or {})
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    write_atomic(path, save(contiguous, metadata | {"sha256": _tensor_digest(contiguous, metadata)}))


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
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"The run folder {self.path} is a file. Choose another `out`.")
        self._existed = self.path.exists()
        try:
            with _placed(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
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
        leftovers = [entry for entry in self.path.rglob(f"{TEMPORARY}*") if entry.is_file()]
        if not ours and any(entry not in leftovers for entry in self._content()):
            raise UsageError(
                f"{self.path} holds files that are not a lowdim run. Choose an empty or new folder as `out`."
            )
        if ours and self._fresh:
            # The configuration goes last: a kill on the way leaves a folder that is still known as a run.
            for entry in [*(entry for entry in self._content() if entry != file), file]:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            ours = False
        elif ours:
            if (self.path / "manifest.json").exists():
                self._verify()
            self._compare(read_json(file))
        for entry in leftovers:
            entry.unlink(missing_ok=True)
        self._new = not ours
        if not ours:
            write_json(file, self.config)
        if not (self.path / "manifest.json").exists():
            self.state.mkdir(exist_ok=True)

    def _content(self) -> list[Path]:
        return [entry for entry in self.path.iterdir() if entry.name != LOCK]

    def _compare(self, earlier: Any) -> None:
        before, now = _identity(earlier), _identity(self.config)
        if before == now:
            return
        raise UsageError(
            f"{self.path} holds a run with other settings ({'; '.join(_differences(before, now))}). "
            "Use `fresh` to replace it, or another `out`."
        )

    def finished(self) -> dict[str, Any] | None:
        """The result of a completed run with this configuration; None if it is not complete."""
        complete = (self.path / "manifest.json").exists()
        return read_json(self.path / "result.json") if complete else None

    def _verify(self) -> None:
        manifest = read_json(self.path / "manifest.json")
        files = manifest.get("sha256") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or "result.json" not in files:
            raise InputError(f"{self.path / 'manifest.json'} is damaged. Use `fresh` to run again.")
        bad = [
            name
            for name, digest in files.items()
            if not (self.path / name).is_file() or sha256(self.path / name) != digest
        ]
        if bad:
            raise InputError(
                f"In {self.path} these files changed since they were written: {', '.join(bad)}. Use `fresh` to run again."
            )

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
        write_json(
            self.path / "manifest.json",
            {
                "sha256": {
                    path.relative_to(self.path).as_posix(): sha256(path)
                    for path in files
                    if path.name not in ("manifest.json", LOCK)
                }
            },
        )


_DIGESTS = ("sha256", "fingerprint", "entries")
_CONTENTS = {"sha256", "fingerprint", "splits"}


def _identity(value: Any) -> Any:
    """The settings without the names of what is known by its content: those depend on the spelling of a path."""
    if isinstance(value, dict):
        settings = cast(dict[str, Any], value)
        known = settings.keys() & _CONTENTS
        return {key: _identity(item) for key, item in settings.items() if not (known and key == "name")}
    return [_identity(item) for item in cast(list[Any], value)] if isinstance(value, list) else value


def _differences(earlier: Any, now: Any) -> list[str]:
    """The settings that differ, by name; contents, which only a digest tells apart, where no setting does."""
    before, after = dict(_leaves(earlier)), dict(_leaves(now))
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    settings = [name for name in names if name.split(".")[-1] not in _DIGESTS]
    if not settings:
        return [f"{name}: the content is another one" for name in names]
    return [f"{name}: {_shown(before.get(name))} in the folder, {_shown(after.get(name))} now" for name in settings]


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
        names = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    where = did_you_mean(path.name, names) if names else f"The folder {path.parent} does not exist or is empty."
    raise InputError(f"{what} {path} does not exist. {where}")


def disk_full(error: OSError, path: Path) -> ResourceError:
    """The error to raise when writing failed for lack of space."""
    return ResourceError(
        f"No space left while writing {path}. Free some, or choose another `out`; the run continues from its last state."
    )
