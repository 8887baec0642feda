"""Fixtures for all tests."""

import dataclasses
import os
import re
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before torch is imported: threads that wait for each other make the many small operations of tests slower, not faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is printed does not depend on the terminal in which tests run.
os.environ.pop("COLUMNS", None)

import jaxtyping
import numpy as np
import pytest
from filelock import FileLock

import runner

# Else every process that a test starts compiles the package anew, and every run of the tests the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real networks and data; tests that use it skip where it is absent."""
    folder = Path(os.environ.get("LOWDIM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "models" / "architectures.py").is_file():
        pytest.skip("real networks and data are not at hand: set LOWDIM_DATA to their folder")
    return folder


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """For tests of what a user sees who passes a wrong shape: the shape checks of the tests would come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def _of_like_figures_one_is_drawn() -> Iterator[None]:
    """Drawing takes most of a short run: figures that differ in nothing but numbers of the same size share one drawing in these tests.

    Drawings are tested on their own, of any numbers and names, in `tests/report`.
    """
    from lowdim.report import _page

    draw, drawn = _page.to_svg, dict[Any, str]()

    def once(figure: Any) -> str:
        key = _alike(figure)
        if key not in drawn:
            drawn[key] = draw(figure)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_page, "to_svg", once)
        yield


def _alike(value: Any) -> Hashable:
    """A description without its numbers: of those their count, their signs and orders of magnitude, and whether all are finite."""
    if isinstance(value, str):
        return re.sub(r"\d+", "0", value)
    if dataclasses.is_dataclass(value):
        return type(value), *(_alike(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, list | tuple) and not all(isinstance(one, int | float | np.number) for one in value):
        return tuple(map(_alike, value))
    if not isinstance(value, list | tuple | np.ndarray):
        return value
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        return tuple(map(_alike, numbers.tolist()))
    known = np.isfinite(numbers)
    sizes = np.log10(np.abs(numbers[known & (numbers != 0)]))
    ends = (round(sizes.min()), round(sizes.max())) if sizes.size else ()
    return numbers.shape, bool(known.all()), bool((numbers < 0).any()), bool((numbers == 0).any()), ends


@pytest.fixture(scope="session", autouse=True)
def _experiments_run_in_forked_processes() -> Iterator[None]:
    """Without the seconds of imports of each; `tests/cli/test_python.py` has one run of the processes that users have."""
    from lowdim.experiments import _runner

    forked = SimpleNamespace(get_context=lambda _: runner.CONTEXT, Pipe=runner.CONTEXT.Pipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runner, "multiprocessing", forked)
        yield


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_by_one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of processes that need the same kernel at the same time one compiles it; the others wait, and load what it has stored."""
    from numba.core.dispatcher import Dispatcher

    lock, compile_now = FileLock(tmp_path_factory.getbasetemp().parent / "kernels.lock"), Dispatcher.compile

    def one_at_a_time(self: Any, signature: Any) -> Any:
        with lock:
            return compile_now(self, signature)

    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr(Dispatcher, "compile", one_at_a_time)
        yield
