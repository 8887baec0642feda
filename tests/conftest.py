"""Fixtures for all tests."""

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: threads that wait for each other make the many small operations of tests slower, not faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is printed does not depend on the terminal in which tests run.
os.environ.pop("COLUMNS", None)

import jaxtyping
import pytest

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
def _each_figure_is_drawn_once() -> Iterator[None]:
    """Pages of equal runs have equal figures, and drawing takes most of a short run: what was drawn for one page is shown on the others."""
    from lowdim.report import _page

    draw, drawn = _page.to_svg, dict[bytes, str]()

    def once(figure: Any) -> str:
        key = pickle.dumps(figure)
        if key not in drawn:
            drawn[key] = draw(figure)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_page, "to_svg", once)
        yield
