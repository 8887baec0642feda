"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: threads that wait for each other make the many small operations of tests slower, not faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is printed does not depend on the terminal in which tests run.
os.environ.pop("COLUMNS", None)

import jaxtyping
import pytest


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
