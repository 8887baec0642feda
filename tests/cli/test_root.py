"""What every command shares: failures become one message and an exit code."""

import sys

import pytest

from lowdim.cli import main


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

    monkeypatch.setattr("lowdim.models.load_model", absent)
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
        (["rank", "--data", "digits", "--by", "logm"], "'probe_accuracy'. Did you mean logme? See: lowdim rank --help"),
        (["check", "x"], "Missing option '--theorem'. Choose from: parsimony, separation. See: lowdim check --help"),
        (["measure", "--model", "digits", "--limit", "few"], "See: lowdim measure --help"),
    ],
)
def test_a_typing_error_is_answered_in_one_line(lowdim, words, message):
    code, out, err = lowdim(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert err.endswith(f"{message}\n")
