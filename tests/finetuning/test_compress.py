"""Deltas in low rank: exact where the update is, refused where it costs accuracy."""

from pathlib import Path

import pytest
import torch

from lowdim.data import Dataset
from lowdim.finetuning import Plan, TunedModel, finetune, load_delta, read_delta
from lowdim.finetuning._compress import compress, low_rank
from lowdim.models import LoadedModel, load_model

EXAMPLE = torch.zeros(2, 1, 8, 8)


def test_the_smallest_rank_that_keeps_the_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64))[0]
    values = torch.tensor([3.0, 1.0, 0.1], dtype=torch.float64)
    change = left[:, :3] @ torch.diag(values) @ right[:, :3].T
    for energy, rank in ((0.85, 1), (0.95, 2), (0.9999, 3)):
        factors = low_rank(change, energy)
        assert factors is not None and factors[0].shape == (40, rank)
        lost = float((change - factors[0] @ factors[1]).square().sum() / change.square().sum())
        assert lost == pytest.approx(float(values[rank:].square().sum() / values.square().sum()), abs=1e-12)
    assert low_rank(torch.randn(10, 10, generator=generator)) is None
    assert low_rank(torch.zeros(4, 4)) is None


def test_a_planted_low_rank_update_survives_and_is_small(network: LoadedModel) -> None:
    part = TunedModel(network.module, Plan("layer", ("blocks.4",)), 10, EXAMPLE)
    weight = part.base.get_submodule("blocks.4").conv1.weight
    with torch.no_grad():
        weight += torch.outer(torch.ones(24), torch.linspace(0, 1e-2, 216)).reshape(weight.shape)
    expected = weight.detach().clone()
    factors = compress(part, network.module)
    assert set(factors) == {"base.blocks.4.conv1.weight@left", "base.blocks.4.conv1.weight@right"}
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-7)


def test_a_compressed_delta_reloads_bit_for_bit(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    tuned = finetune(network, data, method="layer", epochs=3)
    saved = tuned.save_compressed(tmp_path, network, data["test"], load_model("digits-0-4").module)
    assert saved["verified"]
    assert saved["compressed"] == any("@left" in name for name in read_delta(tmp_path).tensors)
    if saved["compressed"]:
        assert saved["accuracy_change"] >= -0.002 and saved["bytes"] < saved["full_bytes"]
    inputs = torch.rand(5, 1, 8, 8)
    assert torch.equal(load_delta(load_model("digits-0-4").module, tmp_path)(inputs), tuned.model(inputs))


def test_compression_that_costs_accuracy_is_undone(
    network: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = finetune(network, data, method="layer", epochs=3)
    before = {name: tensor.clone() for name, tensor in tuned.model.state_dict().items()}
    accuracies = iter([0.9, 0.8])
    monkeypatch.setattr(type(tuned), "_accuracy_on", lambda self, split: next(accuracies))
    saved = tuned.save_compressed(tmp_path, network, data["test"])
    assert not saved["compressed"]
    assert all(torch.equal(before[name], tensor) for name, tensor in tuned.model.state_dict().items())
    assert not any("@" in name for name in read_delta(tmp_path).tensors)
