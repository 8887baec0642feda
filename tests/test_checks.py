"""What `make check` must catch: a name that does not exist, in spite of jaxtyping's strings."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")
def test_undefined_names_are_caught() -> None:
    pytest.importorskip("ruff")
    source = (ROOT / "src" / "lowdim" / "metrics" / "collapse.py").read_text()
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--config",
        str(ROOT / "pyproject.toml"),
        "--output-format",
        "concise",
    ]
    for text, code in ((source, 0), (f"{source}\n\ndef broken() -> float:\n    return xx\n", 1)):
        done = subprocess.run(
            [*command, "--stdin-filename", "src/lowdim/metrics/x.py", "-"], input=text, capture_output=True, text=True
        )
        assert ("F821" in done.stdout) == bool(code), done.stdout
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    assert settings.get("reportUndefinedVariable", True) is True
