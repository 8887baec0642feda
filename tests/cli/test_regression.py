"""`--task regression` at the terminal, from Python, and on the page."""

import json

import pytest
from sklearn.datasets import load_diabetes

import lowdim
from contracts import violations
from lowdim.errors import InputError, UsageError

NETS = """
import torch
from torch import nn


def net(width: int = 16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(9, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    load_diabetes(as_frame=True).frame.to_csv(folder / "diabetes.csv", index=False)
    (folder / "nets.py").write_text(NETS)
    return folder


def options(folder):
    return {"data": str(folder / "diabetes.csv"), "task": "regression", "label_column": "target,bmi"}


def test_measure(folder):
    found = lowdim.measure(model=f"{folder}/nets.py:net", out=folder / "measured", **options(folder))
    told = json.loads((folder / "measured" / "result.json").read_text())
    assert violations(told) == []
    assert told["outputs"] == ["target", "bmi"]
    assert "predicts target and bmi best, chosen on training samples: a ridge on it explains" in found.headline
    assert "predicts target and bmi perfectly needs 2 directions" in found.headline
    assert [*found.to_frame()["split"].unique()] == ["train", "test"]
    page = (folder / "measured" / "report.html").read_text()
    assert "Held-out R²" in page and "arXiv 2409.04180" in page
    assert [name for name in told["figures"] if name.endswith("r2.svg")]
    again = lowdim.measure(model=f"{folder}/nets.py:net", out=folder / "measured", **options(folder))
    assert again.headline == found.headline


def test_what_is_about_classes_is_refused(folder):
    for name, value in (("outliers", 3), ("unbiased", True), ("weighting", "class_balanced")):
        with pytest.raises(UsageError, match=f"`{name}` is about classes"):
            lowdim.measure(model=f"{folder}/nets.py:net", **options(folder), **{name: value})


def test_without_the_task_a_column_of_values_points_to_it(folder):
    with pytest.raises(InputError, match=r"so they are no classes.*`task=regression`"):
        lowdim.measure(
            model=f"{folder}/nets.py:net", data=str(folder / "diabetes.csv"), text_column="age", label_column="bmi"
        )


def test_rank(folder):
    models = folder / "zoo.toml"
    tables = [f'[[models]]\nname = "{w}"\nmodel = "nets.py:net"\narguments = {{ width = {w} }}\n' for w in (2, 24)]
    models.write_text("\n".join(tables))
    found = lowdim.rank(models=models, out=folder / "ranked", **options(folder))
    told = json.loads((folder / "ranked" / "result.json").read_text())
    assert violations(told) == []
    assert found.headline.startswith("24 suits this data best: a ridge on its feature explains")
    assert "of the variance of target and bmi" in found.headline
    assert "probe_accuracy" not in told["scores"][0]
