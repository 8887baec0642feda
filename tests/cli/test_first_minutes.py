"""What people stumbled over in their first minutes, each as it should be."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import lowdim
from lowdim.errors import LowdimError
from lowdim.experiments import load
from lowdim.experiments._runner import Finished
from lowdim.models import load_model, runs_code
from lowdim.ranking import Candidate
from lowdim.report._page import to_html
from lowdim.report.profile import profile_sections
from lowdim.report.reproduce import experiments_page


def test_a_folder_as_a_network_is_told_how_to_write_it(tmp_path):
    """One that says in its config.json whose it is needs no more."""
    (tmp_path / "net").mkdir()
    with pytest.raises(LowdimError, match=rf"is a folder: .*timm:local-dir:{tmp_path}/net.*hf:{tmp_path}/net"):
        lowdim.measure(f"{tmp_path}/net", "digits")
    for described, form in (("architecture", "timm:local-dir:"), ("model_type", "hf:")):
        (tmp_path / "net" / "config.json").write_text(json.dumps({described: "nosuch"}))
        assert not runs_code(f"{tmp_path}/net")
        messages = []
        for spec in (f"{tmp_path}/net", f"{form}{tmp_path}/net"):
            with pytest.raises(LowdimError) as caught:
                load_model(spec)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        (alone, named) = (
            Candidate(name="n", model=spec).identity() for spec in (f"{tmp_path}/net", f"{form}{tmp_path}/net")
        )
        assert alone["sha256"] == named["sha256"] != {}


def test_many_equal_warnings_are_one_below_the_first_figure():
    found = lowdim.measure("digits", "digits", limit=60)
    warnings = [f"train, blocks.{i} (avg): {60 + i}% of NC1 lies in noise." for i in range(23)]
    page = to_html(lowdim.report.Page("t", "l", profile_sections({**found.data, "warnings": warnings})))
    body = page.split("<body>")[1]
    assert body.count("of NC1 lies in noise") == 1 and "23 places" in body and "60 to 82%" in body
    assert body.index("<figure") < body.index("23 places")
    assert len(repr(found).splitlines()) <= 10


def test_run_again_has_only_what_the_experiment_takes(monkeypatch, tmp_path):
    from lowdim.cli.reproduce import _own

    first, second = load("parsimony-svd"), load("separation-scale")
    given = ["rank=4", "eps=.2", "no such=1"]
    assert _own(first, "--set", given) == [" --set rank=4", " --set eps=.2"]
    assert _own(second, "--set", given) == []
    settings = {one.id: one.settings() for one in (first, second)}
    finished = {
        one.id: Finished(id=one.id, status="skipped", outcome=None, seconds=0.0, message="not asked")
        for one in (first, second)
    }
    options = {one.id: "".join(_own(one, "--set", given)) for one in (first, second)}
    sections = experiments_page([first, second], finished, settings, options).sections
    assert [section.command for section in sections] == [
        "lowdim reproduce parsimony-svd --set rank=4 --set eps=.2",
        "lowdim reproduce separation-scale",
    ]


@pytest.mark.parametrize("command", ["measure", "finetune", "advise", "rank"])
def test_training_images_in_the_test_split_are_said(tmp_path, command):
    random = np.random.default_rng(0)
    for split, name, count in (("train", "a", 6), ("train", "b", 6), ("test", "a", 4), ("test", "b", 4)):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8) // (2 if name == "a" else 1)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    for index in range(3):
        (tmp_path / "test" / "a" / f"copy{index}.png").write_bytes(
            (tmp_path / "train" / "a" / f"{index}.png").read_bytes()
        )
    options = {
        "measure": {},
        "finetune": {"method": "linear-probe", "out": tmp_path / "run"},
        "advise": {"shots": [2]},
        "rank": {},
    }[command]
    name = "digits" if command in ("measure", "finetune") else ["digits"]
    found = getattr(lowdim, command)(name, str(tmp_path), **options)
    if command == "advise":  # which looks at the training split alone
        assert not any("test" in warning for warning in found["warnings"])
        return
    assert any(re.search(r"3 of 11 test samples are also in train", warning) for warning in found["warnings"]), found[
        "warnings"
    ]


@pytest.mark.parametrize("command", ["measure", "rank", "advise", "finetune"])
def test_a_wrong_path_is_said_before_pytorch_is_imported(command, tmp_path):
    code = f"""
import sys
sys.argv = ["lowdim", "{command}", "--model", "digits", "--data", "nowhere"]
from lowdim.cli import main
try:
    main()
except SystemExit as stopped:
    sys.exit(0 if stopped.code and "torch" not in sys.modules else 99)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "There is no data at nowhere" in done.stderr
    assert done.returncode == 0
