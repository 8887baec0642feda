"""The scripts of docs/examples run as they stand, and say what they promise."""

from pathlib import Path

import pytest

import runner

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


def run(name, folder):
    """A script of the documentation in a process of its own, where every warning is an error."""
    code = "import warnings; warnings.simplefilter('error')\n" + (FOLDER / name).read_text()
    return runner.Script(code, folder=folder).done(120)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example(name, tmp_path):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"script.out", "script.err"}


def test_examples_show_both_outcomes_of_the_check(tmp_path):
    """The script is worth little if its negative control passes."""
    done = run("check_own_weights.py", tmp_path)
    gradient_descent, adam = done.stdout.split("Adam")
    assert "does not hold" not in gradient_descent
    assert "invariant subspaces: does not hold" in adam
