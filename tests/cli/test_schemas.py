"""The JSON of every command and the schema that is shipped for it."""

import contextlib
import io
import json
import re
import sys

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from safetensors.numpy import save_file
from typer.main import get_command

from contracts import closed, schema_of, violations
from lowdim.cli import app, demo, main
from lowdim.schemas import SCHEMA_VERSION

COMMANDS = sorted(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
SMALL = ["--data", "digits", "--limit", "100"]
LINES = {
    "measure": ["--model", "digits", *SMALL, "--outliers", "2"],
    "rank": ["--model", "digits", "--model", "digits-0-4", "--model", "digits-split", *SMALL],
    "advise": ["--model", "digits-split", "--data", "digits", "--limit", "40", "--shots", "2"],
    "finetune": ["--model", "digits-0-4", *SMALL, "--method", "layer", "--epochs", "1", "--out", "tuned"],
    "predict": ["--delta", "tuned/delta", "--data", "digits", "--limit", "10"],
    "export": ["--delta", "tuned/delta", "--to", "torch"],
    "publish": ["tuned/delta"],
    "complete": ["table.csv"],
    "check": ["weights", "--theorem", "parsimony"],
    "reproduce": ["parsimony-svd", "--set", "iterations=200"],
    "demo": [],
}
LISTINGS = {
    "measure": ["--model", "digits", "--list-layers"],
    "finetune": ["--model", "digits", "--list-layers"],
    "reproduce": ["--list"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With what the commands of `LINES` read, the tuned network included."""
    folder = tmp_path_factory.mktemp("schemas")
    (folder / "weights").mkdir()
    for step, first in enumerate((0.5, 0.6)):
        factor = np.diag([first, 0.5, 0.5, 0.5])
        save_file({"1": factor, "2": factor}, folder / "weights" / f"{step}.safetensors")
    rows = [",".join("" if (i + j) % 5 == 0 else str((i + 1) * (j + 2)) for j in range(6)) for i in range(30)]
    (folder / "table.csv").write_text("\n".join(["a,b,c,d,e,f", *rows]) + "\n")
    call(folder, "finetune", *LINES["finetune"])
    return folder


def call(folder, *words):
    out = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["lowdim", *words, "--json", "--debug"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, 4), err.getvalue()
    return json.loads(out.getvalue())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_output_obeys_the_schema(folder, command, monkeypatch):
    monkeypatch.setattr(demo, "TOUR", {"parsimony-svd": "", "separation-scale": ""})
    result = call(folder, command, *LINES[command])
    assert violations(result) == []
    assert {"schema_version", "command", "config", "warnings", "seconds"} <= result.keys()
    assert (result["schema_version"], result["command"]) == (SCHEMA_VERSION, command)
    for path in folder.rglob("result.json"):
        assert violations(json.loads(path.read_text())) == []


@pytest.mark.parametrize("command", LISTINGS)
def test_listings_obey_the_schema(folder, command):
    assert violations(call(folder, command, *LISTINGS[command])) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schema_is_one_and_says_its_version(command):
    schema = schema_of(command)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:lowdim:{command}:{SCHEMA_VERSION}"
    assert schema["$defs"]["schema_version"]["const"] == SCHEMA_VERSION
    referred = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert referred == set(schema["$defs"])


def test_a_schema_refuses_what_breaks_it(folder):
    result = call(folder, "measure", *LINES["measure"])
    validator = Draft202012Validator(schema_of("measure"))
    assert validator.is_valid(result)
    assert validator.is_valid(result | {"later": 1}), "fields may be added"
    assert not Draft202012Validator(closed(schema_of("measure"))).is_valid(result | {"later": 1})
    renamed = {("layer" if key == "layers" else key): value for key, value in result.items()}
    assert not validator.is_valid(renamed)
    assert not validator.is_valid(result | {"schema_version": SCHEMA_VERSION + 1})
    assert not validator.is_valid(result | {"layers": [{**result["layers"][0], "nc1": "0.2"}]})
