"""The scripts of docs/examples run as they stand, and say what they promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
SAYS = {
    "check_own_weights.py": "one scalar on the invariant part: holds",
    "complete_table.py": "true error",
    "metrics_from_features.py": "NC1 2.4",
    "monitor_training.py": "30  test",
    "rank_saved_features.py": "1. linear discriminants",
    "watch_weights.py": "1.weight step 100",
}


def test_every_example_is_run():
    assert {path.name for path in FOLDER.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert not list(tmp_path.iterdir())


def test_examples_show_both_outcomes_of_the_check(tmp_path):
    """The script is worth little if its negative control passes."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "check_own_weights.py")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=True,
    )
    gradient_descent, adam = done.stdout.split("Adam")
    assert "does not hold" not in gradient_descent
    assert "invariant subspaces: does not hold" in adam
