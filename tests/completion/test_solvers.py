"""A solver is one record: everything else asks it, and a new one is one file and one line."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lowdim.completion
from lowdim.completion import DeepMatrixCompletion
from lowdim.completion import solvers as room
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._solver import Settings, Solver

SOURCE = Path(lowdim.completion.__file__).parent


def test_records_carry_the_names_they_are_registered_under() -> None:
    assert [record.name for record in room.solvers()] == list(room.SOLVERS)
    assert all(record.title for record in room.solvers())


def test_some_solver_suits_every_matrix() -> None:
    for matrix in (np.ones((2, 2)), np.arange(12.0).reshape(3, 4), np.random.default_rng(0).normal(size=(50, 4))):
        entries = Entries.from_dense(matrix)
        assert any(record.suits(entries, Settings()) for record in room.solvers())


@pytest.fixture
def registry() -> Iterator[dict[str, str]]:
    """The registry, put back in its order afterwards."""
    before = dict(room.SOLVERS)
    yield room.SOLVERS
    room.SOLVERS.clear()
    room.SOLVERS.update(before)


def test_a_new_solver_is_one_record_and_one_line(registry: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered, it is a choice of the estimator, is asked by ``auto``, and its needs and readers are known."""
    dummy = Solver(
        name="dummy",
        title="as another",
        solve=room.solver("table").solve,
        memory=lambda entries, shape, rank: 0,
        suits=lambda entries, settings: "it always does",
        reads=frozenset({"tolerance"}),
        shrinks=True,
    )
    monkeypatch.setitem(sys.modules, "lowdim.completion.solvers.dummy", type(sys)("dummy"))
    monkeypatch.setattr(sys.modules["lowdim.completion.solvers.dummy"], "DUMMY", dummy, raising=False)
    others = dict(registry)
    registry.clear()
    registry.update({"dummy": "dummy:DUMMY", **others})  # first of all: the table solver suits every matrix
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(60, 1)) * generator.normal(size=8) + 0.1 * generator.normal(size=(60, 8))
    holed = np.where(generator.random(matrix.shape) < 0.3, np.nan, matrix)
    for solver, reason in (("dummy", "you asked for it"), ("auto", "it always does")):
        model = DeepMatrixCompletion(solver=solver, tol=1e-3)
        assert np.isfinite(model.fit_transform(holed)).all()
        assert (model.solver_, model.reason_, model.remarks_) == ("dummy", reason, ())


def test_no_solver_is_compared_by_name() -> None:
    """What is true of one solver stands in its record, not where it is used."""
    names = {*room.SOLVERS, "biases"} - {"biases"}
    found: list[str] = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            texts = [leaf.value for part in parts for leaf in ast.walk(part) if isinstance(leaf, ast.Constant)]
            found += [f"{file.name}:{node.lineno}" for text in texts if text in names]  # type: ignore[attr-defined]
    assert not found


def test_names_are_known_without_loading_a_kernel() -> None:
    code = "import sys; from lowdim.completion.solvers import SOLVERS; print(len(SOLVERS), 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(room.SOLVERS)), "False"]


def test_the_documentation_lists_the_solvers_as_the_records_do() -> None:
    page = SOURCE.parents[2] / "docs" / "commands" / "complete.md"
    if not page.exists():
        pytest.skip("not in a source tree")
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|$", page.read_text(), re.MULTILINE)
    assert rows == [(record.name, record.title) for record in room.solvers()]


def test_imports_run_one_way_and_are_few() -> None:
    """Files as a graph, with imports inside functions: no way back to a file, and few arrows."""
    files = {
        ".".join(file.relative_to(SOURCE.parents[1]).with_suffix("").parts).removesuffix(".__init__"): file
        for file in SOURCE.rglob("*.py")
    }
    arrows: set[tuple[str, str]] = set()
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lowdim.completion"):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                arrows |= {(name, module if module in files else node.module) for module in modules}
    below = {name: {end for start, end in arrows if start == name} for name in files}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"{' -> '.join(path)} -> {name}"
        if name not in done:
            for other in below[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in files:
        visit(name, ())
    assert len(arrows) <= 59, sorted(arrows)
