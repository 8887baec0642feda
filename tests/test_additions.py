"""The table "Where to add something" of docs/architecture.md: one place for each kind of thing, and the lists that repeat names agree.

Metrics, scores, solvers and methods have tests of their own, which add one (`test_profile`, `test_rank`, `test_solvers`,
`test_methods`).
"""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import torch

import lowdim
from lowdim import cli, experiments
from lowdim.cli._inputs import PoolChoice
from lowdim.cli.rank import ScoreChoice
from lowdim.features._pooling import POOLS, pool_output
from lowdim.ranking import SCORES
from lowdim.report import answers
from lowdim.tables._columns import KINDS, MODELLED, Kind, column_of_values

ROOT = Path(lowdim.__file__).parents[2]


def test_every_place_that_the_picture_of_the_house_names_exists() -> None:
    page = ROOT / "docs" / "architecture.md"
    if not page.exists():
        pytest.skip("not in a source tree")
    table = page.read_text().split("## Where to add something")[1]
    named = [name for name in re.findall(r"`([\w/]+(?:\.py|/))`", table) if "NAME" not in name]
    assert len(named) > 12
    assert not [name for name in named if not any((ROOT / part / name).exists() for part in ("src/lowdim", "src", ""))]


def test_choices_of_the_command_line_are_the_names_of_the_library() -> None:
    assert [choice.value for choice in ScoreChoice] == list(SCORES)
    assert [choice.value for choice in PoolChoice] == list(POOLS)
    assert get_args(Kind) == KINDS
    assert set(KINDS) > MODELLED


@pytest.mark.parametrize("pool", POOLS)
def test_every_pooling_gives_one_row_per_sample(pool: str) -> None:
    rows = torch.arange(24.0).reshape(2, 3, 4)
    if pool == "map":
        with pytest.raises(lowdim.errors.InputError):  # belongs to maps and to networks with a pooling of their own
            pool_output(rows, pool, None, "layer")
    else:
        assert pool_output(rows, pool, None, "layer").shape[0] == 2


def test_experiments_are_those_of_their_modules() -> None:
    registered = experiments.MODULES | experiments.TOUR
    for module in set(registered.values()):
        held = {one.id for one in importlib.import_module(f"lowdim.experiments.{module}").EXPERIMENTS}
        assert held == {id for id, place in registered.items() if place == module}


def test_a_command_is_registered_named_and_has_its_sentence() -> None:
    files = {module.name for module in pkgutil.iter_modules(cli.__path__) if not module.name.startswith("_")}
    assert {command.name or command.callback.__name__ for command in cli.app.registered_commands} == files
    for name in files - {"demo"}:  # demo is a page of `reproduce`
        assert callable(getattr(lowdim, name))
        assert name in answers._ANSWERS


COLUMNS = {
    "number": [0.5, 1.5, None, 2.25, 3.5],
    "integer": pd.array([1, 1, 3, None, 7], "Int64"),
    "boolean": pd.array([True, False, None, True, False], "boolean"),
    "category": ["a", "b", "a", None, "b"],
    "ordered": ["18-24", "25-34", "18-24", None, "35+", "25-34", "35+"],
    "date": pd.to_datetime(["2024-01-01", "2024-01-02", None, "2024-01-05", "2024-01-09"]),
    "constant": [4.0, 4.0, 4.0, 4.0, None],
    "id": [f"customer {i}" for i in range(5)],
    "text": ["one of", "many words", None, "that are", "all different"],
    "empty": [None] * 5,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_can_be_found_or_asked_for(kind: str) -> None:
    values = pd.Series(COLUMNS[kind])
    assert column_of_values("column", values, kind="text" if kind == "text" else None).kind == kind
