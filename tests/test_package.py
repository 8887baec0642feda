"""What is published: the wheel and the source archive, installed alone in a clean environment."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What a person who installs lowdim has: neither this environment's packages nor the sources at hand.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def call(*words, folder, code=0):
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:  # hundreds of megabytes, not to be kept like those of tmp_path
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder):
    """The wheel made from the source archive."""
    call(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, folder=folder)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bin(folder, wheel):
    call(sys.executable, "-m", "venv", folder / "clean", folder=folder)
    pip = [folder / "clean" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "-c", ROOT / "constraints.txt", wheel, folder=folder)
    return folder / "clean" / "bin"


def test_the_source_archive_and_the_sources_make_the_same_wheel(folder, wheel):
    call(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "direct", ROOT, folder=folder)
    assert (folder / "direct" / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_same_sources_make_the_same_archives(folder):
    built = []
    for place in ("first", "second"):
        environment = {**ENVIRONMENT, "SOURCE_DATE_EPOCH": "1700000000"}
        command = [sys.executable, "-m", "build", "--outdir", folder / place, ROOT]
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        built.append({path.name: path.read_bytes() for path in (folder / place).iterdir()})
        with tarfile.open(next((folder / place).glob("*.tar.gz"))) as archive:
            assert {member.mtime for member in archive} == {1700000000}
    assert built[0] == built[1] and len(built[0]) == 2


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    there = {
        f"lowdim/{path.relative_to(ROOT / 'src' / 'lowdim').as_posix()}"
        for path in (ROOT / "src" / "lowdim").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert packed == there
    assert "lowdim/py.typed" in packed
    assert "License-Expression: Apache-2.0" in metadata


def test_the_installation_is_clean(folder, bin):
    code = (
        "import importlib.util, lowdim, lowdim.completion, pathlib, sys\n"
        "assert importlib.util.find_spec('torch') is None\n"
        f"assert pathlib.Path(lowdim.__file__).is_relative_to({str(folder / 'clean')!r})\n"
        "assert lowdim.DeepMatrixCompletion is lowdim.completion.DeepMatrixCompletion\n"
        "try:\n    lowdim.profile\nexcept ImportError as error:\n    print(error)\n"
    )
    found = call(bin / "python", "-c", code, folder=folder)
    assert "lowdim.profile needs the package 'torch'" in found.stdout
    assert "pip install 'lowdim[torch]'" in found.stdout
    call(bin / "python", "-m", "pip", "check", "--disable-pip-version-check", folder=folder)


def test_help_and_version(folder, bin):
    assert "lowdim complete table.csv" in call(bin / "lowdim", "--help", folder=folder).stdout
    assert call(bin / "lowdim", "--version", folder=folder).stdout.startswith("lowdim 0.")


def test_a_table_is_completed(folder, bin):
    rows = [",".join("" if (i + j) % 5 == 0 else str((i + 1) * (j + 2)) for j in range(6)) for i in range(30)]
    (folder / "table.csv").write_text("\n".join(["a,b,c,d,e,f", *rows]) + "\n")
    found = json.loads(call(bin / "lowdim", "complete", "table.csv", "--json", "--out", "table", folder=folder).stdout)
    assert found["rank"] == 1  # the rows are multiples of one another
    completed = (folder / "table" / "completed.csv").read_text().splitlines()
    assert float(completed[1].split(",")[0]) == pytest.approx(2, rel=1e-2)


def test_the_tour_shows_its_half_and_says_how_to_install_the_rest(folder, bin):
    found = call(bin / "lowdim", "demo", "--out", "tour", folder=folder)
    for card in ("Complete: fill the holes", "Theory: gradient descent"):
        assert card in found.stdout
    said = " ".join(found.stdout.split())
    assert "Everything below held when it was computed here." in said, said[:600]
    held = re.findall(r"(\S+): (\d+) of (\d+) verdicts hold", found.stdout + found.stderr)
    assert {("parsimony-svd", "10", "10"), ("damaged-picture", "1", "1")} <= set(held)
    assert "    pip install 'lowdim[all]'\n" in found.stdout
    assert "&#39;lowdim[all]&#39;" in (folder / "tour" / "report.html").read_text()


@pytest.mark.parametrize("command", ["measure", "rank", "advise", "finetune"])
def test_what_needs_torch_says_so(folder, bin, command):
    found = call(bin / "lowdim", command, "--model", "digits", "--data", "digits", folder=folder, code=2)
    assert found.stderr.startswith("error: This command needs the package 'torch'")
    assert "pip install 'lowdim[torch]'" in found.stderr
