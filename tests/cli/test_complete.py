"""`lowdim complete`, from the command line to the files it writes."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine

from lowdim.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lowdim", "complete", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return command


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, np.ndarray]:
    data = load_wine().data
    missing = np.random.default_rng(0).random(data.shape) < 0.3
    path = tmp_path / "wine.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["bottle", *(f"c{j}" for j in range(13))])
        for i, (values, holes) in enumerate(zip(data, missing, strict=True)):
            writer.writerow([f"b{i}", *("" if hole else str(v) for v, hole in zip(values, holes, strict=True))])
    return path, missing


def test_a_table(run, table, tmp_path: Path) -> None:
    path, missing = table
    code, out, _ = run(str(path), "--json", "--out", "r")
    assert code == 0
    result = json.loads(out)
    assert {
        "schema_version", "command", "config", "warnings", "seconds", "shape", "observed", "oversampling", "rank",
        "singular_values", "iterations", "converged", "held_out_rmse", "biases_only_rmse", "output",
    } <= set(result)  # fmt: skip
    assert result["shape"] == [178, 13]
    assert result["observed"] == int((~missing).sum())
    assert result["held_out_rmse"] < result["biases_only_rmse"]
    with (tmp_path / "r" / "completed.csv").open() as file, path.open() as original:
        rows, before = list(csv.reader(file)), list(csv.reader(original))
    assert rows[0] == before[0]
    for new, old in zip(rows[1:], before[1:], strict=True):
        assert all(cell == was or was == "" for cell, was in zip(new, old, strict=True))
        assert all(np.isfinite(float(cell)) for cell in new[1:])
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Singular values" in page and "set aside" in page


def test_a_finished_run_is_not_repeated_and_another_configuration_is_refused(run, table) -> None:
    path, _ = table
    first = json.loads(run(str(path), "--json", "--out", "r")[1])
    again = json.loads(run(str(path), "--json", "--out", "r")[1])
    assert again == first
    code, _, err = run(str(path), "--json", "--out", "r", "--depth", "4")
    assert code == 2 and "depth: 3 in the folder, 4 now" in err
    assert run(str(path), "--json", "--out", "r", "--depth", "4", "--fresh")[0] == 0


def test_triplets_and_pairs(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    matrix = generator.normal(size=(60, 2)) @ generator.normal(size=(2, 40))
    rows, cols = np.nonzero(generator.random((60, 40)) < 0.5)
    lines = [f"u{i}\tf{j}\t{matrix[i, j]}" for i, j in zip(rows, cols, strict=True)]
    (tmp_path / "t.tsv").write_text("who\tfilm\tstars\n" + "\n".join(lines) + "\n")
    missing = [
        (i, j) for i in range(60) for j in range(40) if f"u{i}\tf{j}" not in {line.rsplit("\t", 1)[0] for line in lines}
    ][:50]
    (tmp_path / "p.tsv").write_text("who\tfilm\n" + "".join(f"u{i}\tf{j}\n" for i, j in missing) + "u0\tnew\n")
    code, out, _ = run("t.tsv", "--row", "who", "--col", "film", "--value", "stars", "--predict", "p.tsv", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["rank"] == 2
    assert "1 of 51 pairs have an id that training has not seen" in result["warnings"][0]
    with Path(result["output"]).open() as file:
        written = list(csv.reader(file))
    assert written[0] == ["who", "film", "stars", "deviation"]
    for (i, j), (who, film, value, deviation) in zip(missing, written[1:], strict=False):
        assert (who, film) == (f"u{i}", f"f{j}")
        assert float(value) == pytest.approx(matrix[i, j], abs=1e-2)
        assert float(deviation) > 0


def test_a_sample_picture(run, tmp_path: Path) -> None:
    code, out, _ = run("sample:flower", "--missing", "0.3", "--max-rank", "10", "--json", "--out", "r")
    assert code == 0
    result = json.loads(out)
    assert result["shape"] == [213, 960]
    assert result["held_out_rmse"] < 0.6 * result["biases_only_rmse"]
    assert (tmp_path / "r" / "completed.png").read_bytes()[:4] == b"\x89PNG"
    assert "Before and after" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.csv"], 3, "nothing.csv does not exist"),
        (["t.csv", "--rank", "few"], 2, "--rank takes auto or a number"),
        (["t.csv", "--rank", "9"], 2, "rank=9 must be below the smaller side"),
        (["t.csv", "--clip", "1"], 2, "--clip takes LOW,HIGH"),
        (["t.csv", "--delimiter", "ab"], 2, "--delimiter takes one character"),
        (["t.csv", "--predict", "t.csv"], 2, "--predict takes pairs of ids"),
        (["t.csv", "--row", "x"], 3, "no column 'x'"),
        (["sample:chine"], 2, "Did you mean china"),
        (["bad.csv"], 3, "line 3: 2 fields, but the header has 3"),
    ],
)
def test_bad_input(run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n4,,6\n7,8,9\n1,1,\n")
    (tmp_path / "bad.csv").write_text("a,b,c\n1,2,3\n4,5\n")
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert message in err


def test_an_interrupted_run_is_continued_to_the_same_answer(run, table, tmp_path: Path, monkeypatch) -> None:
    from lowdim.completion._journal import Stage

    path, _ = table
    arguments = (str(path), "--solver", "als", "--json")
    code, out, _ = run(*arguments, "--out", "whole")
    assert code == 0
    report, reports = Stage.report, []

    def interrupted(self: Stage, done: int, state) -> None:
        self._interval = 0.0
        report(self, done, state)
        reports.append(done)
        if len(reports) == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "report", interrupted)
        assert run(*arguments, "--out", "broken")[0] == 130
    assert list((tmp_path / "broken" / "state").iterdir())
    code, again, _ = run(*arguments, "--out", "broken")
    assert code == 0
    assert not (tmp_path / "broken" / "state").exists()
    same = ("held_out_rmse", "iterations", "rank", "singular_values")
    assert [json.loads(out)[key] for key in same] == [json.loads(again)[key] for key in same]
    assert (tmp_path / "whole" / "completed.csv").read_bytes() == (tmp_path / "broken" / "completed.csv").read_bytes()


def test_row_names_and_the_scaled_error_are_said(run, table) -> None:
    code, out, err = run(str(table[0]), "--out", "r")
    assert code == 0
    assert "the first column, 'bottle', holds text: it names the rows" in err
    ratio = json.loads(Path("r/result.json").read_text())["held_out_ratio"]
    assert f"{ratio:.3g}" in next(line for line in out.splitlines() if "columns scaled" in line)


def test_a_depth_that_has_no_effect_is_said(run, table) -> None:
    assert "depth=4 has no effect on the solver 'table'" in run(str(table[0]), "--depth", "4")[2]
    assert "no effect" not in run(str(table[0]), "--depth", "4", "--solver", "als")[2]


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(run, tmp_path: Path, monkeypatch) -> None:
    from PIL import Image

    from lowdim.completion import _pictures

    monkeypatch.setattr(_pictures, "MAX_PIXELS", 99)
    Image.new("RGBA", (10, 10)).save(tmp_path / "large.png")
    code, _, err = run(str(tmp_path / "large.png"))
    assert code == 3
    assert "10 x 10" in err
    assert "are decoded" in err
