"""What TensorBoard and Weights & Biases read back is the history of the training."""

from pathlib import Path

import pytest

from lowdim.data import Dataset
from lowdim.finetuning import finetune, tracker
from lowdim.models import LoadedModel


def test_tensorboard_reads_the_history(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tuned = finetune(network, data, method="layer", epochs=3, on_epoch=tracker("tensorboard", tmp_path / "track"))
    events = EventAccumulator(str(tmp_path / "track"))
    events.Reload()
    for key in ("loss", "accuracy"):
        logged = [event.value for event in events.Scalars(f"layer/{key}")]
        assert logged == pytest.approx(tuned.history["layer"][key], rel=1e-6), key
        assert [event.step for event in events.Scalars(f"layer/{key}")] == [1, 2, 3]


def test_wandb_writes_a_run(
    network: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    finetune(network, data, method="layer", epochs=2, on_epoch=tracker("wandb", tmp_path / "track"))
    wandb.teardown()  # waits for the process that writes the file
    (record,) = tmp_path.glob("track/wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"layer/loss" in content and b"layer/accuracy" in content


def test_a_network_without_blocks_falls_back_to_the_probe(tmp_path: Path) -> None:
    import numpy as np

    from lowdim.data import load_data
    from lowdim.models import load_model

    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    np.savez(tmp_path / "f.npz", x_train=generator.normal(size=(60, 5)) + 3 * np.eye(5)[labels], y_train=labels)
    tuned = finetune(load_model("features"), load_data(str(tmp_path / "f.npz")))
    assert tuned.method == "linear-probe"
    assert any("Only the probe was tried" in warning for warning in tuned.warnings)
