"""`lowdim complete`, from the command line to the files it writes."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pytest
from PIL import Image
from sklearn.datasets import load_wine

import lowdim
from lowdim.cli import main
from lowdim.errors import InputError, UsageError


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
    assert result["shape"] == [178, 14], "the columns of the file"
    assert result["observed"] == 178 + int((~missing).sum())
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
    from lowdim.completion.entries._inputs import sample_picture

    code, out, _ = run("sample:flower", "--missing", "0.3", "--json", "--out", "r")
    assert code == 0
    result = json.loads(out)
    assert (result["shape"], result["solver"]) == ([213, 320], "inpaint")
    whole, picture = sample_picture("flower", 0.3, 1).pixels.astype(float), sample_picture("flower", 0.3, 0)
    assert result["picture"] == {"height": 213, "width": 320, "channels": 3, "missing": int(picture.missing.sum())}
    completed = np.asarray(Image.open(tmp_path / "r" / "completed.png"), float)
    np.testing.assert_array_equal(completed[~picture.missing], whole[~picture.missing])
    error = np.sqrt(np.mean((completed - whole)[picture.missing] ** 2))
    assert error < 255 / 10 ** (30 / 20)  # 30 dB; low rank alone has 24.5
    assert result["held_out_rmse"] == pytest.approx(error, rel=0.25)
    assert result["headline"].startswith(f"{picture.missing.sum():,} missing pixels (29.8%) of a picture of 320 x 213")
    assert "Before and after" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing.csv"], 3, "nothing.csv does not exist"),
        (["t.csv", "--rank", "few"], 2, "--rank takes auto or a positive number"),
        (["t.csv", "--rank", "9"], 2, "rank=9 must be below the smaller side"),
        (["t.csv", "--clip", "1"], 2, "--clip takes LOW,HIGH"),
        (["t.csv", "--delimiter", "ab"], 2, "--delimiter takes one character"),
        (["t.csv", "--predict", "t.csv"], 2, "--predict takes pairs of ids"),
        (["t.csv", "--row", "x"], 3, "no column 'x'"),
        (["sample:chine"], 2, "Did you mean china"),
        (["sample:china", "--row", "a"], 2, "sample:china is a picture and has no columns: --row does not apply"),
        (["sample:china", "--decimal", ","], 2, "has no columns: --decimal does not apply"),
        (["sample:china", "--as", "ratings"], 2, "has no columns: --as does not apply"),
        (["photo.gif"], 2, "pictures of this form are not completed. Save it as .png"),
        (["sample:china", "--pass", "a"], 2, "--pass does not apply"),
        (["t.csv", "--missing", "0.3"], 2, "--missing hides pixels of a sample picture"),
        (["bad.csv"], 3, "line 3: 4 fields, but line 1 has 3"),
    ],
)
def test_bad_input(run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n4,,6\n7,8,9\n1,1,\n")
    (tmp_path / "bad.csv").write_text("a,b,c\n1,2,3\n4,5,6,7\n")
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert message in err


def test_an_interrupted_run_is_continued_to_the_same_answer(run, table, tmp_path: Path, monkeypatch) -> None:
    from lowdim.completion.solvers._solver import Stage

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
            signal.raise_signal(signal.SIGINT)

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
    assert "identifiers, passed through: 'bottle'" in err
    ratio = json.loads(Path("r/result.json").read_text())["held_out_ratio"]
    assert f"{ratio:.3g}" in next(line for line in out.splitlines() if "columns scaled" in line)


def test_a_depth_that_has_no_effect_is_said(run, table) -> None:
    assert "depth=4 has no effect on the solver 'table'" in run(str(table[0]), "--depth", "4")[2]
    assert "no effect" not in run(str(table[0]), "--depth", "4", "--solver", "als")[2]


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(run, tmp_path: Path, monkeypatch) -> None:
    from PIL import Image

    from lowdim import _pictures

    monkeypatch.setattr(_pictures, "MAX_PIXELS", 99)
    Image.new("RGBA", (10, 10)).save(tmp_path / "large.png")
    code, _, err = run(str(tmp_path / "large.png"))
    assert code == 3
    assert "10 x 10" in err
    assert "are decoded" in err


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    """A matrix of rank 1 with rows u0, u1, ... and columns f0, f1, ..."""
    generator = np.random.default_rng(2)
    values = np.outer(generator.normal(size=30), generator.normal(size=20))
    rows, cols = np.nonzero(generator.random((30, 20)) < 0.7)
    lines = [f"u{i},f{j},{values[i, j]}" for i, j in zip(rows, cols, strict=True)]
    path = tmp_path / "t.csv"
    path.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    return path


def test_a_pair_whose_id_extends_a_known_one_is_of_another_row(run, triplets: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("user,item\nu29,f0\nu2999,f0\nnobody,f0\n")
    code, out, _ = run("t.csv", "--predict", "p.csv", "--json")
    assert code == 0
    result = json.loads(out)
    assert "2 of 3 pairs have an id that training has not seen" in result["warnings"][-1]
    known, longer, other = [line.split(",")[2:] for line in Path(result["output"]).read_text().splitlines()[1:]]
    assert longer == other != known


@pytest.mark.parametrize(
    ("changed", "before", "after"),
    [("p.csv", "u1,f1", "u2,f2"), ("t.csv", "u0,", "u00,"), ("t.csv", "f3,", "f33,"), ("t.csv", "rating", "value")],
)
def test_files_with_other_content_are_another_run(
    run, triplets: Path, tmp_path: Path, changed: str, before: str, after: str
) -> None:
    (tmp_path / "p.csv").write_text("user,item\nu1,f1\n")
    arguments = ("t.csv", "--predict", "p.csv", "--json")
    first = json.loads(run(*arguments)[1])
    assert json.loads(run(*arguments)[1])["run_folder"] == first["run_folder"]
    path = tmp_path / changed
    path.write_text(path.read_text().replace(before, after))
    assert json.loads(run(*arguments)[1])["run_folder"] != first["run_folder"]


@pytest.mark.parametrize(("before", "after"), [("b3,", "c3,"), ("c5", "c55"), ("13.2,", "13.20,")])
def test_a_table_with_other_texts_is_another_run(run, table, before: str, after: str) -> None:
    path, _ = table
    first = json.loads(run(str(path), "--json")[1])
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    second = json.loads(run(str(path), "--json")[1])
    assert second["run_folder"] != first["run_folder"]
    assert after in Path(second["output"]).read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["t.csv", "--predict", "none.csv"], 3, "none.csv does not exist"),
        (["t.csv", "--predict", "bad.csv"], 3, "no column 'item'"),
        (["table.csv", "--predict", "t.csv"], 2, "--predict takes pairs of ids"),
        (["sample:flower", "--predict", "t.csv"], 2, "--predict takes pairs of ids"),
        (["t.csv", "--clip", "2,1"], 2, "low <= high"),
        (["table.csv", "--mask", "t.csv"], 2, "--mask is for a picture"),
        (["t.csv", "--mask", "t.csv"], 2, "--mask is for a picture"),
        (["sample:flower", "--mask", "t.csv"], 2, "--missing"),
    ],
)
def test_a_mistake_is_said_before_the_fit(
    run, triplets: Path, tmp_path: Path, monkeypatch, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "table.csv").write_text("a,b,c\n1,2,3\n4,,6\n7,8,9\n1,1,\n")
    (tmp_path / "bad.csv").write_text("user,film\nu1,f1\n")
    monkeypatch.setattr("lowdim.completion._estimator.complete", lambda *_, **__: pytest.fail("fitted"))
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert not (tmp_path / "lowdim-runs").exists() or not list((tmp_path / "lowdim-runs").iterdir())


def test_a_column_without_any_number_stays_empty_and_is_named(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = np.outer(generator.normal(size=40), [1.0, 2.0, 3.0]) + 0.1 * generator.normal(size=(40, 3))
    lines = [f"{a},{'' if place % 4 == 1 else b},NA,{c}" for place, (a, b, c) in enumerate(values)]
    (tmp_path / "t.csv").write_text("a,b,gone,c\n" + "\n".join(lines) + "\n")
    code, out, _ = run("t.csv", "--json")
    assert code == 0
    result = json.loads(out)
    assert "No cell of column 'gone' is known" in "".join(result["warnings"])
    written = list(csv.reader(Path(result["output"]).read_text().splitlines()))
    assert {row[2] for row in written[1:]} == {"NA"}
    assert all(np.isfinite(float(row[1])) for row in written[1:])


def test_a_picture_is_completed_once(run, monkeypatch) -> None:
    from lowdim.completion import DeepMatrixCompletion

    transform, calls = DeepMatrixCompletion.transform, []
    monkeypatch.setattr(DeepMatrixCompletion, "transform", lambda *given: calls.append(1) or transform(*given))
    assert run("sample:flower")[0] == 0
    assert len(calls) == 1


def test_the_solvers_are_those_of_the_library() -> None:
    from lowdim.cli.complete import Solver
    from lowdim.completion.solvers import SOLVERS

    assert [solver.value for solver in Solver] == ["auto", *SOLVERS]


FORMS = {
    "european.csv": (
        "id;length;place;day\nA1;1,5;north;01.02.2024\nA2;2,5;;02.02.2024\nA3;;north;\nA4;4,5;south;04.02.2024\nA5;3,5;south;05.02.2024\n"
    ),
    "quoted.csv": ('"n","x","y"\r\n"10","1.50","2"\r\n"20","","4"\r\n"30","3.50",""\r\n"40","4.25","8"\r\n'),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_only_holes_are_changed(run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name].encode())
    code, out, err = run(name, "--out", "r")
    assert code == 0, err
    before, after = FORMS[name].encode().decode(), (tmp_path / "r" / "completed.csv").read_bytes().decode()
    sign = ";" if name == "european.csv" else ","
    old, new = ([line.split(sign) for line in text.split("\n")] for text in (before, after))
    holes = 0
    for was, now in zip(old, new, strict=True):
        for cell, filled in zip(was, now, strict=True):
            hole = cell.strip('"\r') == "" and len(was) > 1
            assert cell == filled if not hole else filled.strip('"\r') != ""
            holes += hole
    assert f"{holes} empty cells filled" in out
    with (tmp_path / "r" / "filled.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=sign))
    assert len(rows) == holes and {row["column"] for row in rows} <= {
        old[0][i].strip('"\r') for i in range(len(old[0]))
    }
    order = {"day": lambda text: text.split(".")[::-1]}.get
    number = lambda text: float(text.replace(",", "."))  # noqa: E731
    assert all(
        row["probability"] or order(row["column"], number)(row["low"]) <= order(row["column"], number)(row["high"])
        for row in rows
    )


def test_the_answer_is_of_the_columns_that_were_filled(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    size = generator.normal(50, 10, 80)
    frame = pd.DataFrame(
        {"place": generator.choice(["a", "b", "c"], 80), "size": size, "rent": 11 * size + generator.normal(0, 5, 80)}
    )
    frame["noise"] = generator.normal(size=80)
    frame["note"] = [f"seen {number}" if number % 5 else "" for number in range(80)]
    frame.loc[::9, "rent"] = np.nan
    frame.round(2).to_csv(tmp_path / "t.csv", index=False)
    code, out, _ = run("t.csv", "--json")
    result = json.loads(out)
    assert code == 0
    ratio = {column["name"]: column["error_ratio"] for column in result["columns"]}["rent"]
    assert ratio < 0.1
    assert result["headline"] == (
        f"9 empty cells filled in 1 column: known cells, predicted as if empty, have {ratio:.2f} times the error of the column's mean. "
        "Left empty: note (16, text)."
    )
    assert [column["left"] for column in result["columns"]] == [0, 0, 0, 0, 16]


def test_a_grey_picture_and_one_of_a_single_colour(run, tmp_path: Path) -> None:
    shades = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[10:14, 5:20] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    for name, pixels in {"grey": shades, "flat": np.full((30, 40, 3), 7, np.uint8)}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        code, out, err = run(f"{name}.png", "--mask", "m.png", "--out", name)
        assert code == 0, err
        assert "60 missing pixels (5.0%) of a picture of 40 x 30 filled" in out
        assert "are met exactly." in " ".join(out.split()) and "inf" not in out
        completed = np.asarray(Image.open(tmp_path / name / "completed.png"))
        assert np.abs(completed.astype(int) - (pixels if pixels.ndim == 2 else pixels[:, :, 0])).max() <= 1


@pytest.mark.filterwarnings("error")
def test_a_table_without_holes(run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1.5,2.0\n2.5,4.0\n3.0,6.5\n4.0,1.0\n")
    code, out, err = run("t.csv", "--json")
    assert code == 0 and "warning" not in err
    assert json.loads(out)["headline"] == "Nothing was filled: no cell of a column that can be completed is empty."


def test_the_list_of_filled_cells_has_the_form_of_the_file(run, tmp_path: Path) -> None:
    lines = ["sep=;", "Größe;Preis;Tag"] + [f"{n},5;{3 * n},25 €;{n % 28 + 1:02d}.01.2024" for n in range(1, 31)]
    lines[5], lines[9] = "4,5;;05.01.2024", "8,5;24,25 €;"
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    assert run("t.csv", "--out", "r")[0] == 0
    text = (tmp_path / "r" / "filled.csv").read_bytes().decode("cp1252")
    rows = list(csv.DictReader(text.splitlines(), delimiter=";"))
    assert [(row["row"], row["line"], row["column"]) for row in rows] == [("4", "6", "Preis"), ("8", "10", "Tag")]
    assert all(lines[int(row["line"]) - 1].count(";") == 2 for row in rows)
    for bound in ("low", "value", "high"):
        assert rows[0][bound].endswith(",25 €") or rows[0][bound].endswith(" €")
        assert len(rows[1][bound].split(".")) == 3
    deviations = (tmp_path / "r" / "deviations.csv").read_bytes().decode("cp1252").splitlines()
    assert deviations[0] == "Größe;Preis;Tag" and "," in deviations[4].split(";")[1]


def test_marks_of_missing_cells_are_those_of_the_file(run, tmp_path: Path) -> None:
    rows = ["kg,day,sure,grade,rh,drink"]
    for n in range(40):
        grade = ("low", "mid", "high")[n % 3]
        rows.append(
            f"{n}.5,{n % 28 + 1:02d}.03.2021,{'Y' if n % 2 else 'N'},{grade},{'+' if n % 3 else '-'},{'none' if n % 4 else 'tea'}"
        )
    for place, changed in {3: "-,unknown,-,unknown,+,tea", 7: "unknown,.,n.a.,-,-,none", 11: "none,,,,+,tea"}.items():
        rows[place] = changed
    (tmp_path / "t.csv").write_text("\n".join(rows))
    code, out, err = run("t.csv", "--json")
    assert code == 0
    kinds = {column["name"]: (column["kind"], column["filled"]) for column in json.loads(out)["columns"]}
    assert kinds == {
        "kg": ("number", 3), "day": ("date", 3), "sure": ("boolean", 3), "grade": ("category", 3), "rh": ("category", 0),
        "drink": ("category", 0),
    }  # fmt: skip
    assert "taken as missing: '-' (3), 'unknown' (3), 'none' (1), '.' (1), 'n.a.' (1)" in err
    assert "numbers but for" not in err


@pytest.mark.parametrize("form", ["%b %Y", "%b-%y", "%B %Y", "%b-%Y", "%Y-%m"])
def test_months_are_dates(form: str) -> None:
    from lowdim.tables._dates import dates_of_texts

    months = pd.date_range("2019-03-01", periods=30, freq="MS")
    dates = dates_of_texts([month.strftime(form) for month in months])
    assert dates is not None
    assert dates.write(float(months[4].timestamp()) / 86_400 + 2) == months[4].strftime(form)
    assert np.diff(dates.days).min() >= 28


def test_ratings_stay_on_their_scale_and_in_the_order_of_numbers(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pairs = [(user, item) for user in range(30) for item in range(12) if generator.random() < 0.5]
    stars = [5 if np.sin(user) * np.cos(item) > generator.normal(0, 0.1) else 1 for user, item in pairs]
    lines = [f"{user},{item},{star}" for (user, item), star in zip(pairs, stars, strict=True)]
    (tmp_path / "r.csv").write_text("\n".join(["userId,movieId,rating", *lines]))
    for asked in ((), ("--clip", "none")):
        code, _, err = run("r.csv", "--out", "o", "--fresh", "--solver", "als", *asked)
        assert code == 0
        with (tmp_path / "o" / "completed.csv").open() as file:
            header, *rows = csv.reader(file)
        assert header[1:] == [str(item) for item in range(12)] and [row[0] for row in rows] == [
            str(user) for user in range(30)
        ]
        # the page begins with how well known ratings are predicted, not with the model
        figures = json.loads((tmp_path / "o" / "result.json").read_text())["figures"]
        assert figures[0] == "figures/completion-held-out.svg" and "figures/completion-singular-values.svg" in figures
        values = np.array([[float(cell) for cell in row[1:]] for row in rows])
        assert ("between 1 and 5" in err) == (not asked)
        assert (values.min() >= 1 and values.max() <= 5) == (not asked)
        (user, item), star = pairs[0], stars[0]
        assert rows[user][1 + item] == str(star)


def test_what_a_column_is_is_said_and_can_be_said(run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(FORMS["european.csv"])
    err = run("t.csv")[2]
    assert "separated by semicolon, a decimal comma" in err
    assert "identifiers, passed through: 'id'" in err and "dates, as days inside: 'day'" in err
    for asked, changed in ((("--kind", "place=text"), {"place": "text"}), (("--pass", "day"), {"day": "text"})):
        code, out, _ = run("t.csv", *asked, "--json")
        kinds = {column["name"]: column["kind"] for column in json.loads(out)["columns"]}
        assert code == 0 and kinds == {"id": "id", "length": "number", "place": "category", "day": "date"} | changed
    code, _, err = run("t.csv", "--kind", "place=text", "--pass", "day")
    assert code == 3 and "Only 'length' can be completed" in err and "--kind says what a column is" in err
    assert "no column 'colour'" in run("t.csv", "--only", "colour")[2]
    assert "--kind takes NAME=KIND" in run("t.csv", "--kind", "place")[2]


def test_ratings_beside_another_column_with_holes_are_asked_about(run, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("userId,movieId,rating,age\n1,1,5,30\n1,2,3,\n2,1,4,44\n2,2,1,35\n3,1,2,20\n")
    code, _, err = run("u.csv")
    assert code == 2 and "--as ratings" in err and "--as table" in err
    assert run("u.csv", "--as", "table")[0] == 0
    (tmp_path / "v.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,5,30\n1,2,3,31\n2,1,4,44\n2,2,1,35\n3,1,2,20\n"
    )
    code, out, _ = run("v.csv", "--json")
    assert code == 0 and json.loads(out)["shape"] == [3, 2]


def test_ids_that_only_a_table_knows_are_predicted(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    traits = generator.normal(size=40)
    likes = generator.normal(size=12)
    with (tmp_path / "r.csv").open("w") as file:
        file.write("user,item,rating\n")
        for user in range(30):
            for item in generator.permutation(12)[:6]:
                file.write(f"u{user:02d},i{item:02d},{3 + traits[user] * likes[item]:.1f}\n")
    (tmp_path / "u.csv").write_text("user;trait\n" + "".join(f"u{u:02d};{traits[u]:.3f}\n" for u in range(40)))
    code, out, _ = run("r.csv", "--user-table", "u.csv", "--json", "--out", "r")
    assert code == 0 and json.loads(out)["shape"] == [40, 12]
    with (tmp_path / "r" / "completed.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == [f"u{u:02d}" for u in range(40)]
    filled = np.array([row[1:] for row in rows[31:]], float)
    assert np.corrcoef(filled.ravel(), np.outer(traits[30:], likes).ravel())[0, 1] > 0.7


def test_tables_of_ids_are_for_ratings(run, table, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("user,trait\na,1\n")
    code, _, err = run(str(table[0]), "--user-table", "u.csv")
    assert code == 2 and "FILE must hold triplets" in err


@pytest.mark.parametrize(
    "options", [("--time", "user"), ("--kind", "rating=category"), ("--only", "rating"), ("--entity", "user")]
)
def test_ratings_have_no_columns_to_speak_of(run, tmp_path: Path, options: tuple[str, str]) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\na,b,3\na,c,2\n")
    np.savez(tmp_path / "r.npz", row=[0, 0], col=[0, 1], value=[3.0, 2.0])
    for file in ("r.csv", "r.npz"):
        code, _, err = run(file, *options)
        assert code == 2 and f"{options[0]} does not apply" in err


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_frame_in_memory_comes_back_filled(kind: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    level = generator.normal(size=60)
    columns = {
        "count": [None if place % 7 == 0 else round(10 + 3 * x) for place, x in enumerate(level)],
        "size": [None if place % 5 == 1 else round(2 * x, 2) for place, x in enumerate(level)],
        "name": [None if place % 9 == 5 else "high" if x > 0 else "low" for place, x in enumerate(level)],
    }
    frame = (
        polars.DataFrame(columns)
        if kind == "polars"
        else pd.DataFrame(columns).astype({"count": "Int64", "name": "category"})
    )
    found = lowdim.complete(frame, out=tmp_path / "r")
    assert type(found.frame) is type(frame) and list(found.frame.columns) == list(columns)
    assert list(found.frame.dtypes) == list(frame.dtypes)
    for name, cells in columns.items():
        new = found.frame[name].to_list()
        assert None not in new and all(old is None or old == cell for old, cell in zip(cells, new, strict=True))
    assert found["filled"] == sum(cell is None for cells in columns.values() for cell in cells)
    assert found.solver_ == found["solver"] and (tmp_path / "r" / "completed.csv").exists()
    assert lowdim.complete(frame, out=tmp_path / "r").frame.equals(found.frame)
    with pytest.raises(UsageError, match=r"an array of numbers of two dimensions, not ndarray of shape \(3,\)"):
        lowdim.complete(np.ones(3))


def test_an_array_comes_back_filled() -> None:
    level = np.arange(1.0, 31)
    array = np.outer(level, [1.0, 2.0, 3.0]).astype(np.float32)  # whole numbers, of which the first counts the rows
    array[3, 1] = array[7, 2] = np.nan
    array[4] = np.nan  # nothing tells what belongs here
    found = lowdim.complete(array)
    assert isinstance(found.frame, np.ndarray) and found.frame.dtype == np.float32
    np.testing.assert_array_equal(found.frame[~np.isnan(array)], array[~np.isnan(array)])
    assert found.frame[3, 1] == pytest.approx(8, rel=0.05) and found.frame[7, 2] == pytest.approx(24, rel=0.05)
    assert np.isnan(found.frame[4]).all() and found["filled"] == 2
    masked = lowdim.complete(np.ma.masked_invalid(array)).frame
    np.testing.assert_array_equal(masked, found.frame)


def test_a_row_without_values_is_the_reason_why_nothing_is_filled(run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("place,a,b\nx,1.5,2.0\nx,2.5,4.0\nx,3.0,6.5\nx,,\nx,4.0,1.0\n")
    _, out, _ = run("t.csv", "--json")
    result = json.loads(out)
    assert result["headline"] == (
        "Nothing was filled: the 2 empty cells of columns that can be completed are in rows that hold no value to go by."
    )
    assert (result["shape"], result["observed"]) == ([5, 3], 13)


def test_categories_are_counted_as_cells_and_the_page_shows_filled_ones(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    group = np.repeat(["low", "mid", "high"], 20)
    frame = pd.DataFrame({"group": group, "x": np.repeat([1.0, 2.0, 3.0], 20) + generator.normal(0, 0.2, 60).round(2)})
    frame.loc[5, "x"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, out, err = run("t.csv", "--out", "r", "--json")
    result, page = json.loads(out), (tmp_path / "r" / "report.html").read_text()
    assert code == 0 and (result["shape"], result["observed"]) == ([60, 2], 119)
    assert "completing 60 x 2, 119 cells known" in err
    assert result["headline"].startswith("1 empty cell filled in 1 column: ")
    (example,) = result["examples"]
    assert (example["row"], example["column"]) == (7, "x") and result["rows_counted"] == "as in the file"
    given = lowdim.complete(frame, out=tmp_path / "given").data
    assert (given["examples"][0]["row"], given["rows_counted"]) == (5, "from 0")
    assert 0 < float(example["value"]) < 4
    assert "The filled cells" in page and "r/completed.csv" in page and "r/filled.csv" in page
    column = result["columns"][1]
    low, high = column["error_ratio_interval"]
    assert low < column["error_ratio"] < high and column["checked"] == 59


def test_what_rests_on_few_cells_is_not_condemned() -> None:
    from lowdim.report.answers import headline

    column = {"name": "x", "kind": "number", "filled": 1, "error_ratio": 1.02, "error_ratio_interval": [0.9, 1.2]}
    result = {"filled": 1, "columns": [column | {"checked": 150}]}
    assert "x (1.02 on 150 known cells, 90 % interval 0.90 to 1.20)" in headline("complete", result)
    assert "Do not trust" not in headline("complete", result)
    surely = column | {"error_ratio_interval": [0.99, 1.05]}
    assert "Do not trust x (1.02 on 150" in headline("complete", result | {"columns": [surely | {"checked": 150}]})
    assert "Do not trust" not in headline("complete", result | {"columns": [surely | {"checked": 9}]})


def test_of_too_few_entries_no_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,value\nu,i,3\nv,j,4\nu,j,5\n")
    found = lowdim.complete(tmp_path / "r.csv", row="user", col="item", value="value")
    assert found.data["held_out_rmse"] is None
    assert "nan" not in str(found)


@pytest.mark.parametrize("name", ["x.npz", "x.png"])
def test_a_pipe_that_could_hold_no_table_is_refused_without_opening(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a pipe; a regular file is needed"):
        lowdim.complete(str(tmp_path / name))


def wide_table(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Ratings from 1 to 5, decimals with a comma, of 60 users in rows and 30 films in columns."""
    generator = np.random.default_rng(0)
    values = 3 + 1.5 * generator.normal(size=(60, 1)) + generator.normal(size=(1, 30))
    stars = np.clip(np.round(values), 1, 5).astype(int)
    holes = generator.random(stars.shape) < 0.7
    lines = [";".join(["user", *(f"film {item}" for item in range(30))])]
    for user, (row, hidden) in enumerate(zip(stars, holes, strict=True)):
        lines.append(
            ";".join([f"u{user}", *("" if hole else str(star) for star, hole in zip(row, hidden, strict=True))])
        )
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, holes


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_a_wide_table_of_ratings_is_completed_as_ratings(run, tmp_path: Path) -> None:
    path, holes = wide_table(tmp_path)
    code, out, err = run(str(path), "--json", "--out", "r", "--solver", "ratings-quick")
    assert code == 0
    assert "read as ratings from 1 to 5, users in rows and items in 30 columns" in err
    assert "filled with two decimals" in err
    assert "--as table completes the columns instead" in err
    result = json.loads(out)
    assert result["names"] == ["user", "column", "value"]
    before = pd.read_csv(path, sep=";")
    after = pd.read_csv(tmp_path / "r" / "completed.csv", sep=";")
    assert after.columns.tolist() == before.columns.tolist()
    known, filled = before.iloc[:, 1:].to_numpy(), after.iloc[:, 1:].to_numpy()
    np.testing.assert_array_equal(filled[~holes], known[~holes])
    assert filled[holes].min() >= 1
    assert filled[holes].max() <= 5
    assert (filled[holes] % 1 != 0).any()
    listed = pd.read_csv(tmp_path / "r" / "filled.csv", sep=";")
    assert len(listed) == holes.sum()
    code, _, err = run(str(path), "--as", "table", "--solver", "als", "--out", "s")
    assert code == 0
    assert "read as ratings" not in err


def test_a_frame_of_ratings_comes_back_as_one() -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.integers(1, 6, (40, 12)), columns=[f"f{item}" for item in range(12)]).astype("Int64")
    frame = frame.mask(generator.random(frame.shape) < 0.6)
    completed = lowdim.complete(frame, solver="ratings-quick").frame
    assert completed.dtypes.tolist() == frame.dtypes.tolist()
    assert not completed.isna().to_numpy().any()
    assert completed.to_numpy().max() <= 5


def test_columns_beside_wide_ratings_are_named_in_the_command(run, tmp_path: Path) -> None:
    path, _ = wide_table(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]};age", *(f"{line};{row + 20}" for row, line in enumerate(lines[1:]))]))
    options = "--solver", "ratings-quick", "--out"
    code, _, err = run(str(path), "--solver", "als", "--out", "r")
    assert code == 0
    assert "--as ratings --pass age` completes them as such" in err
    code, _, err = run(str(path), *options, "s", "--as", "ratings", "--pass", "age")
    assert code == 0
    assert "users in rows and items in 30 columns" in err


def test_what_was_taken_for_what_and_its_names_are_said(run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pairs = [(user, film) for user in range(12) for film in range(12) if generator.random() < 0.7]
    lines = [f"r{user},f{film},{1 + (user + film) % 5}/5,2023-01-0{1 + user % 9}" for user, film in pairs]
    (tmp_path / "t.csv").write_text("\n".join(["Reviewer,Film,Stars,When", *lines]))
    (tmp_path / "p.csv").write_text("Reviewer,Film\nr0,f1\nr1,f1\n")
    options = "--solver", "ratings-quick", "--predict", "p.csv", "--out", "r"
    code, out, err = run("t.csv", *options)
    assert code == 0
    assert "users in 'Reviewer', items in 'Film', values in 'Stars'; not used: 'When'" in err
    assert "Reviewer  Film  Stars" in out
    predicted = pd.read_csv(tmp_path / "r" / "predictions.csv")
    assert predicted.columns.tolist() == ["Reviewer", "Film", "Stars", "deviation", "number"]
    assert predicted["Stars"].str.fullmatch(r"[1-5](\.\d+)?/5").all()


def test_test_entries_are_measured(run, tmp_path: Path) -> None:
    rows, cols = np.nonzero(np.random.default_rng(0).random((15, 12)) < 0.8)
    values = (rows + cols) / 7.0
    parts = {"rows": rows, "columns": cols, "values": values}
    halves = {"train": np.arange(rows.size) >= 9, "test": np.arange(rows.size) < 9}
    np.savez(
        tmp_path / "t.npz",
        **{f"{half}_{name}": part[own] for half, own in halves.items() for name, part in parts.items()},
    )
    code, out, _ = run("t.npz", "--solver", "als", "--json", "--out", "r")
    assert code == 0
    result = json.loads(out)
    predicted = pd.read_csv(tmp_path / "r" / "predictions.csv")
    error = np.sqrt(np.mean((predicted["values"] - (predicted["rows"] + predicted["columns"]) / 7) ** 2))
    assert result["test_entries"] == 9
    assert result["test_rmse"] == pytest.approx(error)
    assert "on the 9 test values" in result["headline"]


def test_the_error_is_that_of_the_clipped_predictions() -> None:
    generator = np.random.default_rng(0)
    values = np.clip(np.round(3 + 3 * np.outer(generator.normal(size=30), generator.normal(size=20))), 1, 5)
    rows, cols = np.nonzero(generator.random(values.shape) < 0.7)
    model = lowdim.completion.DeepMatrixCompletion(solver="als", rank=2, clip=(1, 5)).fit(
        (rows, cols, values[rows, cols])
    )
    held, predicted = model.held_out_entries_
    assert predicted.min() >= 1
    assert predicted.max() <= 5
    assert model.held_out_error_ == pytest.approx(np.sqrt(np.mean((held - predicted) ** 2)))
