"""What TensorBoard and Weights & Biases read back is the history of the training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lowdim import profile
from lowdim.data import Dataset
from lowdim.errors import UsageError
from lowdim.finetuning import finetune, tracker
from lowdim.finetuning._train import History
from lowdim.models import LoadedModel


def test_tensorboard_reads_the_history(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tuned = finetune(
        network, data, method="layer", epochs=3, watch=True, on_epoch=tracker("tensorboard", tmp_path / "track")
    )
    events = EventAccumulator(str(tmp_path / "track"))
    events.Reload()
    for key in ("loss", "accuracy", "test_accuracy", "test_nc1"):
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
    assert any("no block that could be trained" in reason for reason in tuned.reasons)


@pytest.mark.parametrize("method", ["layer", "full"])
def test_what_is_watched_ends_at_what_is_measured_and_changes_no_bit(
    network: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("lowdim.finetuning._train.SHORT", 0.0)  # every epoch is saved

    class Stop(Exception):
        pass

    def stop(part: str, epoch: int, history: History) -> None:
        if epoch == 2:
            raise Stop

    plain = finetune(network, data, method=method, epochs=4)
    watched = finetune(network, data, method=method, epochs=4, watch=True)
    curves = watched.history[method]
    assert len(curves["test_accuracy"]) == len(curves["test_nc1"]) == 4
    assert curves["test_accuracy"][-1] == watched.accuracy["test"]
    assert curves["test_nc1"][-1] == pytest.approx(watched.nc1["test"], rel=1e-4)
    assert plain.history[method]["test_accuracy"] == []
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, watched.model.state_dict()[name]), name
    with pytest.raises(Stop):
        finetune(network, data, method=method, epochs=4, watch=True, folder=tmp_path, on_epoch=stop)
    again = finetune(network, data, method=method, epochs=4, watch=True, folder=tmp_path).history[method]
    assert [again[name] for name in ("test_accuracy", "test_nc1")] == [
        curves[name] for name in ("test_accuracy", "test_nc1")
    ]


def test_nothing_to_watch_is_said(network: LoadedModel, data: Dataset) -> None:
    alone = replace(data, splits={"train": data["train"]})
    with pytest.raises(UsageError, match=r"`watch` measures the test split after every epoch, but .* has none"):
        finetune(network, alone, method="layer", watch=True)


def test_auto_shows_the_layers_before_tuning_a_block(
    network: LoadedModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finetune(network, data, epochs=1).layers == []  # the last layer suits: no block is tried
    monkeypatch.setattr("lowdim.finetuning._choice._FURTHER", 0.0)
    tuned = finetune(network, data, epochs=1)
    alone = profile(network, data, splits=("train",))
    assert [(entry["name"], entry["nc1"]) for entry in tuned.layers] == [(e.name, e.nc1) for e in alone.layers]
    assert finetune(network, data, layer="blocks.4", epochs=1).layers == []
