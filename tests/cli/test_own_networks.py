"""A network of one's own: what is not trained says so, and what there is to measure on is told by its size."""

from pathlib import Path

import numpy as np
import pytest

import lowdim
from lowdim.models import load_model
from lowdim.report.answers import headline

_NETS = """
import torch
from torch import nn

def plain():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))

def trained():
    net = plain()
    for index, weight in enumerate(net.parameters()):
        nn.init.constant_(weight, 0.1 * index)
    return net

def half():
    net = trained()
    nn.init.normal_(net[4].weight)
    return net
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(_NETS)
    return tmp_path / "nets.py"


def blobs(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return (generator.standard_normal((count, 4)) + 3 * np.eye(3, 4)[labels]).astype(np.float32), labels


def test_weights_drawn_at_random_are_marked(nets: Path) -> None:
    found = load_model(f"{nets}:plain")
    assert found.random_weights and not found.notes
    known = load_model(f"{nets}:trained")
    assert not known.random_weights and not known.notes
    part = load_model(f"{nets}:half")
    assert not part.random_weights and part.notes[0].endswith("draws some weights at random, untrained: 4.weight")


def test_a_measured_network_without_weights_is_marked_in_the_sentence_and_warned_of(nets: Path) -> None:
    found = lowdim.measure(f"{nets}:plain", blobs())
    assert found.headline.startswith("With random weights the classes separate best at")
    assert "made for other classes" not in found.headline
    assert any("The weights are random" in warning and "`weights=FILE`" in warning for warning in found["warnings"])
    assert any("random" in one for one in lowdim.advise(f"{nets}:plain", blobs())["warnings"])


def test_vectors_are_called_vectors(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lowdim.measure(f"{nets}:trained", blobs())
    assert "nets.py:trained, vectors as stored" in capsys.readouterr().err


def _tuned(tested: int) -> dict[str, object]:
    row = {"model": "n", "method": "probe", "layer": None, "accuracy": 0.8, "interval": [0.7, 0.9]}
    return {
        "method": "probe",
        "layer": None,
        "evidence": [row],
        "per_class": [{"name": name, "samples": tested // 2} for name in "ab"],
        "accuracy": {"test": 0.9 if tested else None, "interval": [0.6, 1.0] if tested else None},
        "config": {
            "model": {},
            "data": {"splits": {"train": {"samples": 60}, **({"test": {"samples": tested}} if tested else {})}},
        },
    }


def test_an_accuracy_on_few_samples_stands_behind_the_cross_validated_one() -> None:
    cross = "80.0 % (90 % interval 70.0 to 90.0 %), cross-validated on the 60 training samples"
    assert (
        headline("finetune", _tuned(15))
        == f"Tuned with probe: {cross}; 90.0 % of the 15 test samples are right (90 % interval 60.0 to 100.0 %)."
    )
    assert headline("finetune", _tuned(0)) == f"Tuned with probe: {cross}; no samples were held back to measure on."
    assert (
        headline("finetune", _tuned(500))
        == "Tuned with probe: 90.0 % of the 500 test samples are right (90 % interval 60.0 to 100.0 %)."
    )


def test_nothing_need_be_held_back(tmp_path: Path) -> None:
    held = lowdim.finetune("features", blobs(), out=tmp_path / "held")
    assert any(
        "12 samples were held back to measure on; `test_share=0` trains on them" in line for line in held.remarks
    )
    whole = lowdim.finetune("features", blobs(), out=tmp_path / "whole", test_share=0)
    assert whole["accuracy"]["test"] is None and whole["config"]["data"]["splits"].keys() == {"train"}
    assert "cross-validated on the 60 training samples; no samples were held back" in whole.headline
    own = lowdim.finetune("features", {"train": blobs(), "test": blobs(30)}, out=tmp_path / "own")
    assert not any("held back" in line for line in own.remarks)
