import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runner
from lowdim import cli

SMALL = ["--model", "digits", "--data", "digits", "--limit", "150"]
FEW = [*SMALL, "--split", "test", "--layers", "blocks.0,head:input"]
LAYER = {
    *("name", "index", "split", "width", "pool", "nc1", "nc1_chance", "nc1_heldout", "separation", "ncc_accuracy", "cdnv"),
    *("nc2", "effective_rank", "rank", "cutoff", "condition", "noise_share", "weighting", "dtype"),
}  # fmt: skip


@pytest.fixture
def lowdim(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOWDIM_FORMAT", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lowdim", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


def child(*arguments, cwd, timeout=240, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def save_npz(path, **changes):
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 8)
    arrays = {"x_train": generator.standard_normal((24, 5)) + labels[:, None], "y_train": labels}
    np.savez(path, **(arrays | {name: value for name, value in changes.items() if value is not None}))


def features_model(path):
    path.write_text("import torch\ndef model():\n    return torch.nn.Sequential(torch.nn.Identity().double())\n")
    return f"{path}:model"


def test_json_has_the_promised_fields(lowdim, tmp_path):
    code, out, err = lowdim("measure", *SMALL, "--outliers", 4, "--json", "--out", "run")
    result = json.loads(out)
    assert code == 0, err
    assert result["schema_version"] == 1
    assert result["command"] == "measure"
    assert {"config", "warnings", "seconds", "data", "accuracy", "layers", "head", "law", "classes", "outliers"} <= set(
        result
    )
    assert [(entry["split"], entry["samples"], entry["classes"]) for entry in result["data"]] == [
        ("train", 150, 10),
        ("test", 150, 10),
    ]
    assert {"per_class_min", "per_class_max"} <= set(result["data"][0])
    assert result["accuracy"].keys() == result["law"].keys() == {"train", "test"}
    assert result["accuracy"]["test"] > 0.9
    names = [f"blocks.{i}" for i in range(6)] + ["head:input"]
    assert [(layer["name"], layer["index"]) for layer in result["layers"]] == 2 * [(n, i) for i, n in enumerate(names)]
    for layer in result["layers"]:
        assert set(layer) >= LAYER
        assert set(layer["nc2"]) == {"equinorm", "equiangularity", "etf_distance", "cosine_excess"}
        assert 0 < layer["nc1"] < layer["nc1_chance"]
        assert (layer["width"], layer["pool"], layer["rank"], layer["dtype"]) == (24, "avg", 9, "float32")
    assert result["head"].keys() == {"nc3", "nc4"}
    assert set(result["law"]["train"]) >= {"slope", "r2"}
    assert result["law"]["train"]["slope"] < 0
    assert set(result["classes"][0]) >= {"name", "samples", "nc1_share", "cdnv", "nearest_class", "ncc_accuracy"}
    assert all(set(entry) >= {"item", "class", "nearest_class"} for entry in result["outliers"])
    assert result["config"]["seed"] == 0
    assert "preprocessing" in result["config"]["model"]
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {key: result[key] for key in stored} == stored
    assert (tmp_path / "run" / "report.html").is_file()
    assert all((tmp_path / "run" / name).is_file() for name in result["figures"])
    assert {path.suffix for path in (tmp_path / "run" / "figures").iterdir()} == {".svg", ".csv"}


def test_a_finished_run_is_returned_at_once_and_fresh_makes_it_again(lowdim, tmp_path):
    first = lowdim("measure", *FEW, "--json", "--out", "run")[1]
    stamp = (tmp_path / "run" / "report.html").stat().st_mtime_ns
    assert lowdim("measure", *FEW, "--json", "--out", "run")[1] == first
    assert (tmp_path / "run" / "report.html").stat().st_mtime_ns == stamp
    again = json.loads(lowdim("measure", *FEW, "--json", "--out", "run", "--fresh")[1])
    assert (tmp_path / "run" / "report.html").stat().st_mtime_ns != stamp
    assert again | {"seconds": 0} == json.loads(first) | {"seconds": 0}
    code, _, err = lowdim("measure", *FEW, "--out", "run", "--seed", 1)
    assert code == 2
    assert "seed: 0 in the folder, 1 now" in err
    assert "--fresh" in err


def test_the_table_is_for_people(lowdim):
    code, out, err = lowdim("measure", *SMALL, "--outliers", 2)
    assert code == 0
    assert "model: digits, grey 8 x 8" in err
    for text in ("train: 150 samples, 10 classes", "test: 150 samples", "NC1", "held-out", "chance", "blocks.5", "R^2"):
        assert text in out
    assert "accuracy of the network's own head, test: 9" in out
    assert "Suspected labels" in out
    assert "report.html" in out
    assert "\x1b" not in out, "no colour codes in a pipe"


def test_json_by_environment(lowdim, monkeypatch):
    monkeypatch.setenv("LOWDIM_FORMAT", "json")
    assert json.loads(lowdim("measure", *FEW)[1])["command"] == "measure"
    assert "NC1" in lowdim("measure", *FEW, "--format", "human")[1]


def test_layers_can_be_listed_and_chosen(lowdim, tmp_path):
    code, out, _ = lowdim("measure", "--model", "digits", "--data", "digits", "--list-layers")
    assert code == 0
    assert "blocks.3   (measured by default)" in out
    assert "blocks.3.conv1\n" in out
    found = json.loads(lowdim("measure", "--model", "digits", "--data", "digits", "--list-layers", "--json")[1])
    assert {"name": "head:input", "default": True} in found["layers"]
    assert list(tmp_path.iterdir()) == [], "listing writes nothing"
    arguments = ["--layers", "blocks.*.conv2,head:input", "--pool", "avg", "--pool", "flatten", "--split", "test"]
    layers = json.loads(lowdim("measure", *SMALL, *arguments, "--json")[1])["layers"]
    assert len(layers) == 2 * 7
    widths = {(layer["name"], layer["pool"]): layer["width"] for layer in layers}
    assert widths["blocks.0.conv2", "flatten"] == 24 * 64
    assert widths["blocks.0.conv2", "avg"] == 24


def test_a_typing_error_gets_a_suggestion_and_can_be_corrected_in_place(lowdim, tmp_path):
    code, out, err = lowdim("measure", *SMALL, "--layers", "blocks.O", "--out", "run")
    assert (code, out) == (2, "")
    assert "Did you mean blocks." in err
    assert not (tmp_path / "run").exists()
    assert lowdim("measure", *SMALL, "--layers", "blocks.0", "--split", "test", "--out", "run")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["measure"], 2, "Missing option"),
        (["measure", "--model", "digits"], 2, "Say which data with --data"),
        (["mesure"], 2, "mesure"),
        (["measure", *SMALL, "--pool", "max"], 2, "max"),
        (["measure", *SMALL, "--limit", "0"], 2, "greater than or equal to 1"),
        (["measure", *SMALL, "--batch-size", "-3"], 2, "--batch-size takes"),
        (["measure", *SMALL, "--device", "tpu"], 2, "not available here"),
        (["measure", *SMALL, "--mean", "a,b"], 2, "--mean takes numbers"),
        (["measure", *SMALL, "--outliers", "-1"], 2, "outliers"),
        (["measure", "--model", "digit", "--data", "digits"], 2, "digits"),
        (["measure", "--model", "digits", "--data", "nowhere.npz"], 3, "nowhere.npz"),
        (["measure", "--model", "digits", "--data", "bad.npz"], 3, "bad.npz"),
        (["measure", "--model", "digits", "--data", "features.npz"], 3, "model takes image input"),
    ],
)
def test_wrong_requests_and_bad_input_have_their_exit_codes(lowdim, tmp_path, arguments, code, message):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    save_npz(tmp_path / "features.npz")
    found, out, err = lowdim(*arguments)
    assert found == code, err
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "lowdim-runs").exists() or not list((tmp_path / "lowdim-runs").iterdir())


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"y_train": np.zeros(24, dtype=int)}, 3, "at least two"),
        ({"y_train": np.arange(24)}, 0, "single sample"),
        ({"x_train": np.ones((24, 5))}, 0, "constant"),
        ({"x_train": np.ones((24, 1)) * np.repeat([0, 1, 2], 8)[:, None]}, 0, ""),
        (
            {"x_train": np.where(np.arange(120).reshape(24, 5) == 7, np.nan, np.random.default_rng(0).random((24, 5)))},
            0,
            "1 of ",
        ),
        ({"y_train": np.array(["</script>", "two\nlines", "$x$"])[np.repeat([0, 1, 2], 8)]}, 0, ""),
        ({"y_train": np.array([3, 70, -5])[np.repeat([0, 1, 2], 8)]}, 0, ""),
        ({"x_train": np.zeros((0, 5)), "y_train": np.zeros(0, dtype=int)}, 3, ""),
    ],
)
def test_bad_data_is_an_error_or_a_warning_never_a_plausible_number(lowdim, tmp_path, changes, code, message):
    save_npz(tmp_path / "data.npz", **changes)
    arguments = ["--model", features_model(tmp_path / "identity.py"), "--data", "data.npz", "--layers", "0"]
    found, out, err = lowdim("measure", *arguments, "--split", "train", "--json")
    assert found == code, err
    assert message in err
    if code == 0:
        result = json.loads(out)
        if message:
            assert any(message in warning for warning in result["warnings"])
        if message in ("single sample", "constant"):
            layer = result["layers"][0]
            assert (layer["nc1"], layer["separation"], layer["nc1_heldout"], layer["nc1_chance"]) == (None,) * 4


def test_changed_data_is_not_the_same_run(lowdim, tmp_path):
    """Same names, labels and sizes, other numbers: the earlier result must not come back."""
    model = features_model(tmp_path / "identity.py")
    arguments = ["measure", "--model", model, "--data", "data.npz", "--layers", "0", "--split", "train", "--json"]
    save_npz(tmp_path / "data.npz")
    first = json.loads(lowdim(*arguments)[1])
    save_npz(tmp_path / "data.npz", x_train=np.random.default_rng(5).standard_normal((24, 5)))
    second = json.loads(lowdim(*arguments)[1])
    assert first["layers"][0]["nc1"] != second["layers"][0]["nc1"]
    code, _, err = lowdim(*arguments, "--out", next((tmp_path / "lowdim-runs").iterdir()))
    assert code in (0, 2), err


def test_random_weights_are_marked(lowdim):
    result = json.loads(lowdim("measure", *FEW, "--random-weights", "--json")[1])
    assert result["config"]["model"]["random_weights"] is True
    assert "random" in result["warnings"][0]


@pytest.mark.parametrize("weighting", ["class_balanced", "size_weighted"])
def test_variants_are_named_in_the_result(lowdim, weighting):
    result = json.loads(lowdim("measure", *FEW, "--weighting", weighting, "--unbiased", "--json")[1])
    assert {(layer["weighting"], layer["unbiased"]) for layer in result["layers"]} == {(weighting, True)}
    assert all(layer["nc1"] is not None for layer in result["layers"])


def test_a_full_disk_is_said_and_the_run_goes_on_afterwards(lowdim, monkeypatch):
    import errno

    from lowdim import _files

    expected = json.loads(lowdim("measure", *FEW, "--json", "--out", "whole")[1])
    with monkeypatch.context() as patch:
        calls = iter(range(100))

        def full(descriptor):
            if next(calls) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(_files.os, "fsync", full)
        code, out, err = lowdim("measure", *FEW, "--json", "--out", "run")
    assert (code, out) == (5, "")
    assert "no space left" in err.lower()
    code, out, _ = lowdim("measure", *FEW, "--json", "--out", "run")
    assert code == 0
    assert json.loads(out) | {"seconds": 0} == expected | {"seconds": 0}


def test_internal_errors_show_a_traceback_only_when_asked(lowdim, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("lowdim.models.as_model", broken)
    code, _, err = lowdim("measure", *SMALL)
    assert code == 1
    assert "internal error: ZeroDivisionError: oops" in err
    assert "--debug" in err
    monkeypatch.setattr(sys, "argv", ["lowdim", "measure", *SMALL, "--debug"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_help_is_quick_and_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['lowdim', *sys.argv[1:]]\nfrom lowdim.cli import main\n"
        "try:\n    main()\nfinally:\n    heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'plotly'} & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy))"
    )
    for arguments in (["--help"], ["measure", "--help"]):
        found = child("-c", code, *arguments, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        assert "HEAVY []" in found.stdout
        assert "lowdim measure --model" in found.stdout


def without_seconds(path):
    result = json.loads((path / "result.json").read_text())
    return {key: value for key, value in result.items() if key != "seconds"}


def kill_and_restart(tmp_path, start, kills, seed):
    """Kills runs at random moments of their course, starts them again, and compares with a run that was left alone."""
    process = start("whole")
    process.join(200)
    assert process.exitcode == 0
    length = json.loads((tmp_path / "whole" / "result.json").read_text())["seconds"]
    expected = without_seconds(tmp_path / "whole")
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*"))
    generator = np.random.default_rng(seed)
    for index in range(kills):
        name = f"run{index}"
        moment = length * generator.uniform(0, 1)
        process = start(name)
        while not (tmp_path / name).exists() and process.exitcode is None:  # before, there is nothing to lose
            process.join(0.01)
        process.join(moment)
        process.kill()
        process.join(60)
        again = start(name)
        again.join(200)
        assert again.exitcode == 0, moment
        assert without_seconds(tmp_path / name) == expected, moment
        assert sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")) == files, moment


def test_killed_and_started_again_the_result_is_the_same(tmp_path):
    words = ["measure", *SMALL, "--layers", "blocks.0,blocks.3,head:input"]
    kill_and_restart(tmp_path, lambda name: runner.start(tmp_path, *words, "--out", name), 2, 0)


class Child(subprocess.Popen):
    """A real command, with the interface of a process."""

    @property
    def exitcode(self):
        return self.poll()

    def join(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(seconds)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times(tmp_path):
    def start(name):
        command = [sys.executable, "-m", "lowdim", "measure", "--model", "digits", "--data", "digits", "--out", name]
        return Child(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    kill_and_restart(tmp_path, start, 20, 1)


def close(one, two, where=""):
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            close(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            close(*pair, f"{where}[{index}]")
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=1e-12, abs=1e-15), where
    else:
        assert one == two, where


def one_job(tmp_path, words):
    """What the processes of a job print, the variables of the launcher set by hand."""
    ended = [one.done() for one in runner.job(2, runner.COMMAND, *words, folder=tmp_path)]
    assert not any(one.returncode for one in ended), [one.stderr for one in ended]
    return "".join(one.stdout for one in ended)


def launched(tmp_path, words):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = child(*launcher, "-m", "lowdim", *words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("start", [one_job, pytest.param(launched, marks=pytest.mark.slow)])
def test_two_processes_give_the_numbers_of_one(tmp_path, start):
    """A batch of 64 of 150 samples: three batches, uneven over two processes."""
    words = ["measure", *SMALL, "--layers", "blocks.0,blocks.3,head:input"]
    assert runner.typed(*words, "--out", "one", cwd=tmp_path).returncode == 0
    printed = start(tmp_path, [*words, "--json", "--out", "two"])
    assert json.loads(printed)["data"][0]["samples"] == 150, "only one process prints"
    close(without_seconds(tmp_path / "one"), without_seconds(tmp_path / "two"))
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not (tmp_path / "two" / "state" / "features").exists()


def test_a_refusal_stops_all_processes(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    started = runner.job(2, runner.COMMAND, "measure", *SMALL, "--out", "run", folder=tmp_path)
    found = [one.done(120) for one in started]
    assert all(one.returncode for one in found)
    assert any("not a lowdim run" in one.stderr for one in found)
    assert [path.name for path in Path(tmp_path / "run").iterdir()] == ["mine.txt"]


def test_layers_are_listed_without_data(lowdim):
    code, out, err = lowdim("measure", "--model", "digits", "--list-layers")
    assert code == 0, err
    assert "blocks.5   (measured by default)" in out.splitlines()


def test_commands_share_what_was_computed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--data", "digits", "--limit", "60", "--cache", "shared", "--json"]
    results = []
    for command in (
        ["measure", "--model", "digits", "--layers", "head:input"],
        ["rank", "--model", "digits", "--model", "digits-0-4"],
    ):
        monkeypatch.setattr(sys, "argv", ["lowdim", *command, *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        results.append(json.loads(capsys.readouterr().out))
    own = next(row for row in results[1]["scores"] if row["model"] == "digits")
    layer = next(row for row in results[0]["layers"] if row["split"] == "train" and row["name"] == "head:input")
    assert own["nc1"] == pytest.approx(layer["nc1"], rel=1e-9)
    assert (
        len(list((tmp_path / "shared").glob("*/"))) == 6
    )  # two networks: train, its mirror images and test; nothing stands there twice
