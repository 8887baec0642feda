import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lowdim.cli import app
from lowdim.report.ranking import ranking_sections
from runner import typed

RUNNER = CliRunner()


def rank(tmp_path: Path, *arguments: str, out: str = "run") -> dict[str, object]:
    result = RUNNER.invoke(app, ["rank", *arguments, "--json", "--out", str(tmp_path / out)], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_json_has_the_documented_fields(tmp_path: Path) -> None:
    models = ["--model", "digits", "--model", "digits-0-4", "--model", "digits-split"]
    result = rank(tmp_path, *models, "--data", "digits", "--limit", "150")
    assert {"schema_version", "command", "config", "warnings", "seconds", "scores", "agreement"} <= result.keys()
    rows = result["scores"]
    assert isinstance(rows, list)
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)
    documented = {"model", "nc1", "nc1_heldout", "h_score", "logme", "vci", "ncc_accuracy", "probe_accuracy"}
    documented |= {"parameters", "width", "intervals"}
    for row in rows:
        assert documented <= row.keys()
        low, high = row["intervals"]["nc1"]
        assert low < row["nc1"] < high
    assert rows[-1]["model"] == "digits-0-4"
    for agreed in result["agreement"].values():  # type: ignore[attr-defined]
        assert {"kendall", "weighted", "spearman", "interval"} <= agreed.keys()
    assert (tmp_path / "run" / "report.html").is_file()
    # The same command again returns the finished run.
    assert rank(tmp_path, *models, "--data", "digits", "--limit", "150") == result


def test_without_the_probe(tmp_path: Path) -> None:
    result = rank(tmp_path, "--model", "digits", "--data", "digits", "--limit", "100", "--no-probe", "--by", "logme")
    assert result["agreement"] == {}
    (row,) = result["scores"]  # type: ignore[misc]
    assert row["probe_accuracy"] is None
    assert result["by"] == "logme"


def test_a_failing_candidate_is_reported_and_the_page_survives_any_name(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        "[[models]]\nname = '</script><b>'\nmodel = 'digits'\n[[models]]\nname = 'lost'\nmodel = 'nowhere.py:f'\n"
    )
    result = rank(tmp_path, "--models", str(tmp_path / "m.toml"), "--data", "digits", "--limit", "100")
    assert [row["model"] for row in result["failed"]] == ["lost"]  # type: ignore[attr-defined]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "</script><b>" not in page
    sections = ranking_sections(result)
    assert [table.name for table in sections[0].tables] == ["scores", "failed"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "digits"], 2, "--model (once for each)"),
        (["--data", "digits", "--model", "digits", "--models", "x.toml"], 2, "--model (once for each)"),
        (["--data", "digits", "--model", "digit"], 3, "No candidate could be scored"),
        (["--data", "digits", "--models", "absent.toml"], 3, "does not exist"),
        (["--data", "nowhere", "--model", "digits"], 3, "no data"),
    ],
)
def test_errors_have_their_exit_code(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = typed("rank", *arguments, "--out", tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_code_of_a_network_prints_is_no_part_of_the_json(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import torch\n\ndef net():\n    print('loud')\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))\n"
    )
    words = [
        "--model",
        f"{tmp_path}/loud.py:net",
        "--data",
        "digits",
        "--limit",
        "60",
        "--no-probe",
        "--image-size",
        "8",
    ]
    done = typed("rank", *words, "--json", "--out", tmp_path / "run")
    assert json.loads(done.stdout)["command"] == "rank"
    assert "loud" in done.stderr


def test_the_data_is_at_fault_and_not_the_candidates(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("a,b,label\n" + "1,2,x\n2,1,x\n3,1,x\n" * 3)
    done = typed("rank", "--model", "features", "--data", tmp_path / "one.csv")
    assert (
        done.stderr.splitlines()[-1]
        == "error: The train split has samples of one class (x); ranking needs at least two."
    )
