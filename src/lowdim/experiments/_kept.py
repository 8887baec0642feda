"""Parts of long experiments: an interrupted run leaves them for the next one, and experiments of one run for each other."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lowdim._files import json_digest, read_checked, write_checked

_PLACE: ContextVar[tuple[Path, str] | None] = ContextVar("_PLACE", default=None)


@contextmanager
def keeping(folder: Path, owner: str) -> Generator[None]:
    """Within this, `kept` writes to the folder of the run; `owner` is the experiment, with its settings."""
    token = _PLACE.set((folder, owner))
    try:
        yield
    finally:
        _PLACE.reset(token)


@contextmanager
def kept_folder(name: str) -> Generator[Path]:
    """Where a function that continues by itself leaves its parts: in the folder of the run; without one they do not last."""
    if (place := _PLACE.get()) is None:
        with TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        folder, owner = place
        yield folder / f"{name}-{owner}"


def kept(
    name: str,
    compute: Callable[[], dict[str, Any]],
    *,
    of: object = None,
    suits: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> dict[str, Any]:
    """What `compute` gives, a table of JSON types; read where it was left before.

    Args:
        name: Of the part.
        compute: Makes it.
        of: All that decides the result, where other experiments compute the same; None if it is this experiment's alone.
        suits: Whether what was left has all that is asked for; otherwise it is computed and replaced.
    """
    if (place := _PLACE.get()) is None:
        return compute()
    folder, owner = place
    file = folder / f"{name}-{owner if of is None else json_digest(of)[:16]}.json"
    if file.exists():
        found = read_checked(file, remedy="Delete it and run again.")
        if suits(found):
            return found
    folder.mkdir(exist_ok=True)
    write_checked(file, compute())
    return read_checked(file, remedy="Delete it and run again.")
