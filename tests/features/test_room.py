"""What a pass would need is known, and refused, before it is made."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lowdim
from lowdim.errors import InputError, ResourceError
from lowdim.features._room import peak_bytes, require_room

CONV = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


class _Reads(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2 if float(inputs.sum()) > 0 else inputs


class _Attends(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(tokens, tokens, value=tokens)


def test_what_is_held_at_once() -> None:
    inputs = torch.zeros(1000, 10)
    network = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 100), nn.Linear(100, 1))
    network[0].register_forward_hook(lambda *_: pytest.fail("the hooks of the network ran"))
    with torch.no_grad():
        assert peak_bytes(network, inputs) == 1.25 * 4 * 1000 * 200  # two layers' outputs at once
    assert peak_bytes(network, inputs) == 1.25 * 4 * 1000 * 201  # all three are kept for the gradients
    assert peak_bytes(_Reads(), inputs) is None
    with torch.no_grad():  # not the 4,000 x 4,000 pairs of tokens
        assert peak_bytes(_Attends(), torch.zeros(1, 1, 4000, 8)) == 1.25 * 4 * (8 * 8 + 4000 * 8)


def test_a_batch_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim.features._room.available_bytes", lambda: 10**8)
    with pytest.raises(
        ResourceError,
        match=r"inputs of shape 40 x 3 x 256 x 256 needs 0.2 GiB.*0.1 GiB are available. Use `batch_size=19`",
    ):
        require_room(CONV, torch.zeros(40, 3, 256, 256))
    require_room(CONV, torch.zeros(10, 3, 256, 256))
    require_room(CONV, torch.zeros(1, 3, 256, 256))


@pytest.mark.parametrize(
    "command",
    [
        lowdim.measure,
        lowdim.rank,
        lambda *given: lowdim.finetune(*given, method="linear-probe"),
        lowdim.profile,
    ],
)
def test_commands_on_large_pictures(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim.features._room.available_bytes", lambda: 10**8)
    pictures = np.zeros((12, 1300, 1300, 3), np.uint8)
    with pytest.raises((ResourceError, InputError), match=r"A pass of the network over inputs of shape .* x 3 x 13"):
        command(CONV, (pictures, np.arange(12) % 2))


def test_a_batch_of_pictures_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim._memory.available_bytes", lambda: 2 * 10**8)
    pictures = np.zeros((20, 800, 800, 3), np.uint8)
    with pytest.raises(ResourceError, match=r"A batch of 20 images needs 0.3 GiB.*Lower `batch_size` or `image_size`"):
        lowdim.profile(CONV, (pictures, np.arange(20) % 2), batch_size=10**6)


def test_an_export_is_bound_to_no_number_of_samples() -> None:
    class Guarded(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            require_room(CONV, inputs)
            return inputs + 1

    exported = torch.export.export(Guarded(), (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("samples")},))
    assert exported.module()(torch.zeros(3, 4)).shape == (3, 4)
