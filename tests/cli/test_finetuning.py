"""finetune, predict, export and advise as typed."""

import contextlib
import io
import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runner
from lowdim.cli import main

QUICK = ["finetune", "--model", "digits-0-4", "--data", "digits", "--shots", "6", "--limit", "200", "--epochs", "3"]


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


def lowdim(*words: str, folder: Path, code: int = 0) -> Done:
    """The command in this process, as if typed in `folder`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["lowdim", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == code, err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def result(done: Done) -> dict[str, Any]:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    lowdim(*QUICK, "--method", "scl", "--out", "tuned", "--json", folder=folder)
    return folder


def test_finetune_result_and_files(run: Path) -> None:
    found = json.loads((run / "tuned" / "result.json").read_text())
    assert found["method"] == "scl" and found["layer"] == "blocks.4"
    assert found["delta"]["verified"] is True
    assert found["trained_share"] == pytest.approx(found["trained_parameters"] / found["total_parameters"])
    assert set(found["nc1"]) == {"train", "test"}
    assert len(found["per_class"]) == 10
    assert (run / "tuned" / "report.html").is_file()
    again = lowdim(*QUICK, "--method", "scl", "--out", "tuned", "--json", folder=run)
    assert result(again)["accuracy"] == found["accuracy"]


def test_predict_gives_the_accuracy_that_finetune_measured(run: Path) -> None:
    tuned = json.loads((run / "tuned" / "result.json").read_text())
    found = result(
        lowdim("predict", "--delta", "tuned/delta", "--data", "digits", "--limit", "200", "--json", folder=run)
    )
    assert found["accuracy"] == pytest.approx(tuned["accuracy"]["test"])
    assert len(found["predictions"]) == 200
    first = found["predictions"][0]
    assert (
        set(first) == {"item", "class", "probability", "label", "unknown", "strangeness"}
        and 0 < first["probability"] <= 1
    )


def test_predict_refuses_a_wrong_base_and_a_flipped_bit(run: Path) -> None:
    wrong = lowdim(
        "predict", "--delta", "tuned/delta", "--data", "digits", "--model", "digits-split", folder=run, code=3
    )
    assert "made from digits-0-4" in wrong.stderr
    copy = run / "copy"
    copy.mkdir()
    for file in (run / "tuned" / "delta").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / "delta.safetensors").read_bytes())
    content[-5] ^= 4
    (copy / "delta.safetensors").write_bytes(bytes(content))
    assert "damaged" in lowdim("predict", "--delta", "copy", "--data", "digits", folder=run, code=3).stderr


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_export(target: str, run: Path) -> None:
    if target == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    found = result(
        lowdim("export", "--delta", "tuned/delta", "--to", target, "--file", f"out.{target}", "--json", folder=run)
    )
    assert found["max_difference"] <= 1e-5
    path = Path(run / f"out.{target}")
    assert path.stat().st_size == found["bytes"]
    if target == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        properties = session.get_modelmeta().custom_metadata_map
        assert json.loads(properties["classes"]) == [str(k) for k in range(10)]
        assert json.loads(properties["preprocessing"])["image_size"] == [8, 8]


def test_auto_shows_its_evidence_and_why_and_tries_what_it_is_asked_to(tmp_path: Path) -> None:
    found = result(lowdim(*QUICK, "--minutes", "5", "--also", "lp-ft", "--json", folder=tmp_path))
    assert {"baseline", "probe", "lp-ft"} <= {row["method"] for row in found["evidence"]}
    assert found["method"] in {row["method"] for row in found["evidence"]}
    assert any("weight lies on layers before the last" in reason for reason in found["reasons"])
    assert any(reason.startswith("lp-ft against") for reason in found["reasons"])
    assert found["delta"]["verified"] is True
    refused = lowdim(*QUICK, "--method", "scl", "--also", "lp-ft", folder=tmp_path, code=2)
    assert "--also goes with --method auto" in refused.stderr


def test_a_killed_run_gives_the_result_of_an_unbroken_one(run: Path, tmp_path: Path) -> None:
    process = runner.start(tmp_path, *QUICK, "--method", "scl", "--out", "killed")
    process.wait_for("\n")
    time.sleep(0.3)
    process.kill()
    found = result(lowdim(*QUICK, "--method", "scl", "--out", "killed", "--json", folder=tmp_path))
    whole = json.loads((run / "tuned" / "result.json").read_text())
    assert found["accuracy"] == whole["accuracy"] and found["nc1"] == whole["nc1"]
    assert (tmp_path / "killed/delta/delta.safetensors").read_bytes() == (
        run / "tuned/delta/delta.safetensors"
    ).read_bytes()


def test_advise_prints_a_command_that_runs(tmp_path: Path) -> None:
    words = [
        "advise",
        "--data",
        "digits",
        "--model",
        "digits-split",
        "--model",
        "missing.py:net",
        "--limit",
        "80",
        "--shots",
        "3",
    ]
    found = result(lowdim(*words, "--outliers", "2", "--json", folder=tmp_path))
    recommended = found["recommendation"]
    assert recommended["model"] == "digits-split"
    assert recommended["interval"][0] <= recommended["expected_accuracy"] <= recommended["interval"][1]
    assert any("missing.py" in warning for warning in found["warnings"])
    command = shlex.split(recommended["command"])
    assert command[0] == "lowdim"
    tuned = result(lowdim(*command[1:], "--epochs", "1", "--json", folder=tmp_path))
    assert tuned["method"] == recommended["method"] and tuned["layer"] == recommended["layer"]


def test_advise_reads_a_file_of_models_and_says_when_none_helps(tmp_path: Path) -> None:
    """An untrained network: raw pixels do better. The printed command loads it as the file says."""
    (tmp_path / "zoo.toml").write_text(
        '[[models]]\nname = "untrained"\nmodel = "digits"\nrandom_weights = true\nmean = [0.48145466]\nstd = [0.5]\nlayer = "blocks.1"\n'
    )
    words = ["advise", "--data", "digits-5-9", "--models", "zoo.toml", "--limit", "60", "--shots", "3"]
    done = lowdim(*words, "--outliers", "0", folder=tmp_path)
    assert "No network here does better than none" in done.stdout
    assert "feature of untrained: blocks.1" in done.stdout
    found = json.loads(next(tmp_path.glob("lowdim-runs/advise-*/result.json")).read_text())
    assert found["baseline_wins"] is True
    low, high = found["baseline_gain"]["interval"]
    assert low < found["baseline_gain"]["gain"] < high and low < -high, "the network is behind"
    assert {row["method"] for row in found["learning_curve"]} >= {"baseline", "probe"}
    command = found["recommendation"]["command"]
    assert "--model digits --" in command and "--random-weights --mean 0.48145466 --std 0.5" in command
    saved = '[[models]]\nfeatures = "f.npz"\n'
    (tmp_path / "saved.toml").write_text(saved)
    refused = lowdim("advise", "--data", "digits", "--models", "saved.toml", folder=tmp_path, code=2)
    assert "lowdim rank" in refused.stderr
    (tmp_path / "wide.toml").write_text('[[models]]\nmodel = "digits"\nimage_size = [8, 16]\n')
    assert "not square" in lowdim("advise", "--data", "digits", "--models", "wide.toml", folder=tmp_path, code=2).stderr


def test_predict_prints_the_first_and_writes_all(run: Path) -> None:
    words = ["predict", "--delta", "tuned/delta", "--data", "digits", "--limit", "30"]
    done = lowdim(*words, "--csv", "all.csv", folder=run)
    assert "and 10 more" in done.stdout and "saved: all.csv" in done.stdout
    rows = (run / "all.csv").read_text().splitlines()
    found = result(lowdim(*words, "--json", folder=run))["predictions"]
    assert rows[0].startswith("item,class,probability,label,unknown,strangeness,probability of 0,") and len(rows) == 31
    for row, entry in zip(rows[1:], found, strict=True):
        item, name, probability = row.split(",")[:3]
        assert (item, name) == (entry["item"], entry["class"])
        assert float(probability) == pytest.approx(entry["probability"])


@pytest.mark.parametrize(("data", "warned"), [("digits-5-9", False), ("digits-target", True)])
def test_images_that_the_network_was_trained_on_are_named(data: str, warned: bool, tmp_path: Path) -> None:
    words = ["finetune", "--model", "digits-0-4", "--data", data, "--limit", "100", "--method", "linear-probe"]
    done = lowdim(*words, "--out", "run", folder=tmp_path)
    assert ("was itself trained on" in done.stderr) is warned


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--layer", "blocs.3", "--method", "layer"], 2, "Did you mean"),
        (["--method", "everything"], 2, "everything"),
        (["--batch-size", "0", "--method", "layer"], 2, "positive"),
        (["--views", "2", "--data", "missing/"], 3, "no data"),
    ],
)
def test_bad_input(words: list[str], code: int, says: str, tmp_path: Path) -> None:
    assert says in lowdim(*QUICK, *words, folder=tmp_path, code=code).stderr


@pytest.mark.parametrize(
    "command", [["predict", "--data", "digits"], ["export", "--to", "torch"]], ids=["predict", "export"]
)
@pytest.mark.parametrize("spec", ["os:system", "{folder}/nets.py:build"])
def test_a_delta_cannot_run_code(run: Path, tmp_path: Path, command: list[str], spec: str) -> None:
    from lowdim._files import json_digest

    (tmp_path / "nets.py").write_text("def build(command):\n    open(command, 'w').close()\n")
    forged, marker = tmp_path / "delta", tmp_path / "executed"
    shutil.copytree(run / "tuned" / "delta", forged)
    content = json.loads((forged / "delta.json").read_text())
    content.pop("sha256")
    argument = f"touch {marker}" if spec == "os:system" else str(marker)
    content["base"]["source"] |= {
        "spec": spec.format(folder=tmp_path),
        "arguments": {"command": argument},
        "allow_pickle": True,
    }
    (forged / "delta.json").write_text(json.dumps({**content, "sha256": json_digest(content)}))
    refused = lowdim(*command, "--delta", str(forged), folder=tmp_path, code=3)
    assert "code would run" in refused.stderr and "--model" in refused.stderr
    # Not even when the person names that code: the arguments are then theirs too.
    lowdim(*command, "--delta", str(forged), "--model", f"{tmp_path}/nets.py:build", folder=tmp_path, code=2)
    assert not marker.exists()


def test_two_processes_give_the_metrics_of_one(run: Path) -> None:
    """Batches of 7: shares of four and three samples."""
    words = [*QUICK, "--method", "scl", "--batch-size", "7"]
    lowdim(*words, "--out", "alone", "--json", folder=run)
    done = [process.done() for process in runner.job(2, runner.COMMAND, *words, "--out", "two", folder=run)]
    assert [one.returncode for one in done] == [0, 0], [one.stderr for one in done]
    assert "".join(one.stdout for one in done).count("Tuned with scl") == 1, "only one process prints"
    one, two = (json.loads((run / name / "result.json").read_text()) for name in ("alone", "two"))
    assert two["accuracy"] == one["accuracy"]
    assert two["nc1"] == pytest.approx(one["nc1"], rel=1e-6)
    losses = [found["history"]["scl"]["loss"] for found in (one, two)]
    assert len(losses[0]) == 3 and losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert two["delta"]["verified"] is True


def test_zero_shot_with_text_features_from_a_file(run: Path) -> None:
    """One-hot features of the outputs of `digits`: then zero-shot is the network's own classifier."""
    np.save(run / "texts.npy", np.eye(10))
    words = ["finetune", "--model", "digits", "--data", "digits", "--limit", "300", "--method", "zero-shot", "--json"]
    found = result(lowdim(*words, "--text-features", "texts.npy", folder=run))
    assert found["trained_parameters"] == 0 and found["delta"]["verified"] is True
    assert found["accuracy"]["train"] > 0.95
    refused = lowdim(*words, folder=run, code=3)
    assert "needs a CLIP model" in refused.stderr and "--text-features" in refused.stderr
    (run / "texts.txt").write_text("1 2 3")
    assert "cannot be read as an .npy file" in lowdim(*words, "--text-features", "texts.txt", folder=run, code=3).stderr
