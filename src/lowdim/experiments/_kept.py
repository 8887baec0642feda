"""Parts of a long experiment, which an interrupted run leaves for the next one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lowdim._files import read_checked, write_checked

_FOLDER: ContextVar[Path | None] = ContextVar("_FOLDER", default=None)


@contextmanager
def keeping(folder: Path) -> Generator[None]:
    """Within this, `kept` writes to the folder, which belongs to one experiment with one choice of settings."""
    token = _FOLDER.set(folder)
    try:
        yield
    finally:
        _FOLDER.reset(token)


def kept(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `compute` gives, a table of JSON types; read where an earlier run left it."""
    folder = _FOLDER.get()
    if folder is None:
        return compute()
    file = folder / f"{name}.json"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        write_checked(file, compute())
    return read_checked(file, remedy="Delete it and run again.")
