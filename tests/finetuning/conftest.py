"""Small networks, data and benches for the fine-tuning tests."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lowdim._job import Job
from lowdim.data import Dataset, load_data
from lowdim.finetuning._bench import Bench
from lowdim.models import LoadedModel, load_model


@pytest.fixture(scope="session")
def network() -> LoadedModel:
    """Trained on digits 0-4."""
    return load_model("digits-0-4")


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Ten classes, six training images each."""
    return load_data("digits", shots=6, limit=200)


@pytest.fixture
def bench(network: LoadedModel, data: Dataset, tmp_path: Path) -> Bench:
    return Bench(network, data, Job(folder=tmp_path / "bench"))


class Bypass(nn.Module):
    """A block beside a connection that jumps over it: it cannot be split there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.blocks(x) + x)


class Encoder(nn.Module):
    """Tokens with a mask that every block needs, as text encoders have."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        layers = [nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True) for _ in range(3)]
        self.layers = nn.ModuleList(layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden, padding = self.embedding(input_ids), attention_mask == 0
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=padding)
        return hidden


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()
