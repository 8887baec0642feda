"""What every command shares: failures become one message and an exit code."""

import errno
import importlib.util
import json
import re
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from lowdim.cli import _session, app, demo, main


@pytest.fixture
def lowdim(tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["lowdim", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return command


def test_a_missing_optional_package_is_no_internal_error(lowdim, monkeypatch):
    def absent(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'timm'", name="timm.models")

    monkeypatch.setattr("lowdim.models.as_model", absent)
    code, out, err = lowdim("measure", "--model", "digits", "--data", "digits")
    assert (code, out) == (2, "")
    assert err == (
        "error: This command needs the package 'timm', which is not installed. Run: pip install 'lowdim[vision]'\n"
    )


def test_another_missing_module_is_an_internal_error(lowdim, monkeypatch):
    monkeypatch.setitem(sys.modules, "lowdim.completion", None)
    code, _, err = lowdim("complete", "sample:china")
    assert code == 1
    assert "internal error: ModuleNotFoundError" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mesure"], "No such command: mesure. Did you mean measure? See: lowdim --help"),
        (["zzz"], "No such command: zzz. See: lowdim --help"),
        (["--versoin"], "No such option: --versoin. Did you mean --version? See: lowdim --help"),
        (["measure", "--modle", "digits"], "No such option: --modle. Did you mean --model? See: lowdim measure --help"),
        (
            ["complete", "x", "--no-scal"],
            "No such option: --no-scal. Did you mean --no-scale or --scale? See: lowdim complete --help",
        ),
        (["rank", "--data", "digits", "--by", "logm"], "'unexplained'. Did you mean logme? See: lowdim rank --help"),
        (["check", "x"], "Missing option '--theorem'. Choose from: parsimony, separation. See: lowdim check --help"),
        (["measure", "--model", "digits", "--limit", "few"], "See: lowdim measure --help"),
    ],
)
def test_a_typing_error_is_answered_in_one_line(lowdim, words, message):
    code, out, err = lowdim(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert err.endswith(f"{message}\n")


def test_the_version_is_that_of_the_package(lowdim):
    assert lowdim("--version") == (0, f"lowdim {version('lowdim')}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError("too big"), 5, "out of memory (too big). Lower --batch-size or --limit."),
        (KeyboardInterrupt(), 3, "raised KeyboardInterrupt, and nobody had interrupted it"),
        (EOFError(), 1, "internal error: RuntimeError: a file ended too early"),
        (OSError(errno.ENOSPC, "full"), 5, "no space left on the disk"),
        (OSError(errno.EMFILE, "many"), 5, "ulimit -n"),
        (BrokenPipeError(errno.EPIPE, "gone"), 141, ""),
        (OSError(errno.EIO, "broken"), 1, "internal error: OSError"),
    ],
)
def test_failures_have_their_exit_codes(lowdim, monkeypatch, error, code, message):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("lowdim.models.as_model", fails)
    found, out, err = lowdim("measure", "--model", "digits", "--data", "digits")
    assert (found, out) == (code, "")
    assert message in err


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "interrupted; the same command continues where this one stopped\n"),
        (signal.SIGTERM, 143, "terminated; the same command continues where this one stopped\n"),
    ],
)
def test_a_signal_is_answered_and_the_handlers_are_put_back(lowdim, monkeypatch, number, code, message):
    before = signal.getsignal(number)
    monkeypatch.setattr("lowdim.models.as_model", lambda *args, **options: signal.raise_signal(number))
    assert lowdim("measure", "--model", "digits", "--data", "digits") == (code, "", message)
    assert signal.getsignal(number) == before
    monkeypatch.setattr("lowdim.finetuning._delta.read_delta", lambda *args: signal.raise_signal(number))
    found, _, err = lowdim("export", "--delta", "x", "--to", "onnx")
    assert (found, err.split("; ")[1]) == (code, "nothing was written: run the same command again\n")


def test_control_characters_of_names_do_not_reach_the_terminal(lowdim, tmp_path):
    name = "cat\x1b]0;owned\x07\x9b2J"
    data = {"x_train": np.eye(6), "y_train": np.arange(6) % 2, "class_names": np.array([name, "dog"])}
    np.savez(tmp_path / "a.npz", **data)
    for words in (
        ["measure", "--model", "features", "--data", "a.npz"],
        ["measure", "--model", name, "--data", "a.npz"],
    ):
        _, out, err = lowdim(*words)
        assert "owned" in out + err
        assert not set("\x1b\x07\x9b") & set(out + err)
    _, out, _ = lowdim("measure", "--model", "features", "--data", "a.npz", "--json")
    assert name in {row["name"] for row in json.loads(out)["classes"]}


def test_a_redirected_run_says_what_it_does(monkeypatch, capsys):
    monkeypatch.setattr(_session, "FIRST", 0.01)
    monkeypatch.setattr(_session, "LATER", 0.01)
    with _session.signs_of_life("measure: reading"):
        while "measure: reading, 0 s so far\n" not in (said := capsys.readouterr().err):
            time.sleep(0.01)
        _session.doing("measuring", 3, 40)
        while "measuring, 3 of 40 done, 0 s so far\n" not in (said := said + capsys.readouterr().err):
            time.sleep(0.01)


@pytest.mark.parametrize(
    "words",
    [
        ["--seed", "-1"],
        ["--seed", str(2**70)],
        ["--batch-size", "²"],
        ["--batch-size", "9" * 5000],
        ["--cache-budget", "nan"],
        ["--cache-budget", "-1"],
        ["--limit", "0"],
        ["--image-size", "-1"],
        ["--outliers", "9" * 20],
        ["--layers", "a\0b"],
    ],
)
def test_numbers_that_no_option_takes(lowdim, words):
    code, out, err = lowdim("measure", "--model", "digits", "--data", "digits", *words)
    assert (code, out) == (2, "")
    assert words[0] in err and err.count("\n") == 1


def test_the_tour_for_people(lowdim, monkeypatch, tmp_path):
    monkeypatch.setattr(
        demo, "TOUR", {"parsimony-svd": "lowdim check weights/ --theorem parsimony", "separation-scale": ""}
    )
    code, out, _ = lowdim("demo", "--out", "tour")
    assert code == 0
    assert out.startswith("lowdim measures networks") and "Everything below held when it was computed" in " ".join(
        out.split()
    )
    assert "Theory: gradient descent" in out and "    lowdim check weights/ --theorem parsimony\n" in out
    assert f"page: {Path('tour') / 'report.html'}" in out
    assert "<span>check</span> <span>weights/<wbr></span>" in (tmp_path / "tour" / "report.html").read_text()


def test_the_tour_without_torch_names_what_it_left_out(lowdim, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else found(name, *rest)
    )
    monkeypatch.setattr(demo, "TOUR", {"few-labels": "", "separation-scale": ""})
    code, out, err = lowdim("demo", "--out", "tour")
    assert code == 0
    assert "torch is not installed" in err
    assert "    pip install 'lowdim[all]'\n" in out


def test_a_ranking_for_people(lowdim):
    models = [word for name in ("digits", "digits-0-4", "digits-split") for word in ("--model", name)]
    code, out, err = lowdim("rank", *models, "--data", "digits", "--limit", "100", "--out", "ranked")
    assert code == 0, err
    for text in (
        "digits suits this data best: a probe on its features reaches",
        "digits-0-4",
        "held-out",
        "90 % interval",
        "page: ranked/report.html",
    ):
        assert text in out
    assert re.search(r"model .*NC1.*\n.*\ndigits +1 ", out)
    assert lowdim("rank", *models, "--data", "digits", "--limit", "100", "--out", "ranked")[1] == out  # from the folder


def test_help_is_no_wider_than_the_terminal(lowdim, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in ["", *get_command(app).commands]:
        code, out, _ = lowdim(*filter(None, [name]), "--help")
        assert code == 0 and max(map(len, out.splitlines())) <= 80, name
    assert "--by NAME" in lowdim("rank", "--help")[1]


def test_alone_it_prints_its_help(lowdim):
    code, out, err = lowdim()
    assert (code, err) == (0, "")
    assert "lowdim demo" in out and "complete" in out


def test_without_a_command_the_help_is_printed(lowdim):
    code, out, err = lowdim()
    assert (code, err) == (0, "")
    assert out.startswith("Usage: lowdim") and "Documentation: " in out
    for name in get_command(app).commands:
        assert re.search(rf"^  {name} +\S", out, re.MULTILINE), "in one of the groups"
    assert "..." not in out.split("Begin:")[1], "no question is cut"


@pytest.mark.parametrize("name", sorted(get_command(app).commands))
@pytest.mark.parametrize("columns", ["80", "120"])
def test_examples_of_the_help_are_whole_commands(lowdim, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERMINAL_WIDTH", columns)
    code, out, _ = lowdim(name, "--help")
    assert code == 0 and f"Documentation: docs/commands/{name}.md" in out
    examples = re.findall(r"(?<=\n\n)  (lowdim (?:.*\\\n)*.*)\n\n", out.split("Options:")[0])
    help_text = get_command(app).commands[name].help
    assert [" ".join(example.replace("\\\n", " ").split()) for example in examples] == re.findall(
        r"^(lowdim .*)$", help_text, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("measure --model di", ["digits", "digits-0-4", "digits-split"]),
        ("measure --data digits-n", ["digits-noisy"]),
        ("measure --model digits --layers blocks.5", ["blocks.5", "blocks.5.conv1"]),
        ("finetune --model digits --layer blocks.0,blocks.5.b", ["blocks.0,blocks.5.bn1", "blocks.0,blocks.5.bn2"]),
        ("measure --model timm:resnet18 --layers bl", []),
        ("reproduce parsimony-s", ["parsimony-svd"]),
        ("complete --solver exa", ["exact"]),
        ("predict --data my", ["my folder/", "my.csv"]),
        ("rank --model hf:my", ["hf:my folder/"]),
        ("mea", ["measure"]),
    ],
)
def test_the_shell_completes(tmp_path, monkeypatch, capsys, typed, offered):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my folder").mkdir()
    (tmp_path / "my.csv").touch()
    (tmp_path / "my.xyz").touch()
    monkeypatch.setenv("_LOWDIM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"lowdim {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    monkeypatch.setattr(sys, "argv", ["lowdim"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line]
    assert shown[: len(offered) or None] == offered
