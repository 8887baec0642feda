"""A network split at a block gives the plain forward pass, bit for bit."""

import pytest
import torch
from tests.finetuning.conftest import Bypass, Encoder
from torch import nn

from lowdim.errors import InputError
from lowdim.finetuning import Plan, Prefix, TunedModel
from lowdim.finetuning._prefix import call, stand_in
from lowdim.models import block_names


def assert_same(network: nn.Module, block: str, inputs: object, example: object) -> None:
    prefix = Prefix(network, block, example)  # type: ignore[arg-type]
    with torch.no_grad():
        plain = call(network, inputs)  # type: ignore[arg-type]
        value = prefix.compute(inputs)  # type: ignore[arg-type]
        with prefix.replay(value):
            replayed = call(network, stand_in(inputs))  # type: ignore[arg-type]
        again = call(network, inputs)  # type: ignore[arg-type]
    assert torch.equal(plain, replayed)
    assert torch.equal(plain, again), "the network is not left as it was"


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2_035", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0"]
)
def test_timm_networks_split_at_first_middle_and_last_block(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    size = 224 if name.startswith("vit") else 64
    network = timm.create_model(name, pretrained=False).eval()
    blocks = block_names(network)
    for block in (blocks[0], blocks[len(blocks) // 2], blocks[-1]):
        assert_same(network, block, torch.randn(4, 3, size, size), torch.randn(3, 3, size, size))


def test_tokens_of_any_length(encoder: Encoder) -> None:
    def tokens(samples: int, length: int) -> dict[str, torch.Tensor]:
        mask = torch.ones(samples, length, dtype=torch.int64)
        mask[1:, -2:] = 0
        return {"input_ids": torch.randint(0, 50, (samples, length)), "attention_mask": mask}

    assert_same(encoder, "layers.1", tokens(5, 9), tokens(3, 6))


def test_features_of_tokens_with_a_skip_start_at_the_block(encoder: Encoder) -> None:
    mask = torch.ones(3, 6, dtype=torch.int64)
    mask[1:, -2:] = 0
    inputs = {"input_ids": torch.randint(0, 50, (3, 6)), "attention_mask": mask}
    tuned = TunedModel(encoder, Plan("scl", ("layers.1",), "pad_add"), 4, inputs).eval()
    plain = tuned.features(inputs)
    tuned.split(inputs)
    part = tuned.frozen_part()
    assert part is not None and torch.equal(plain, tuned.features(inputs, part(inputs)))


def test_the_frozen_part_does_not_run_in_a_replay() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    prefix = Prefix(network, "2", torch.randn(3, 3))
    value = prefix.compute(torch.randn(5, 3))
    with torch.no_grad():
        network[0].weight.fill_(float("nan"))
        with prefix.replay(value):
            assert torch.isfinite(network(torch.zeros(5, 3))).all()
        assert not torch.isfinite(network(torch.zeros(5, 3))).any()


def test_gradients_are_those_of_the_plain_pass() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    inputs = torch.randn(6, 3, dtype=torch.float64)
    plain = torch.autograd.grad(network(inputs).square().sum(), list(network[2].parameters()))
    prefix = Prefix(network, "2", inputs)
    with prefix.replay(prefix.compute(inputs)):
        replayed = torch.autograd.grad(network(stand_in(inputs)).square().sum(), list(network[2].parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain, replayed, strict=True))


def test_a_shared_module_is_skipped_before_and_runs_after() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.block = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(self.block(self.mix(self.mix(x))))

    assert_same(Shared().eval(), "block", torch.randn(5, 4), torch.randn(3, 4))


def test_a_connection_past_the_block_is_refused() -> None:
    with pytest.raises(InputError, match="by another way"):
        Prefix(Bypass().eval(), "blocks.0", torch.randn(3, 4))


def test_a_block_that_is_never_used_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    network.unused = nn.Linear(2, 2)
    network.forward = lambda x: network[0](x)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="never used"):
        Prefix(network.eval(), "unused", torch.randn(3, 4))


def test_replay_restores_after_an_exception() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval()
    prefix = Prefix(network, "1", torch.randn(3, 3))
    inputs = torch.randn(2, 3)
    expected = network(inputs)
    with pytest.raises(KeyError), prefix.replay(torch.zeros(2, 4)):
        raise KeyError
    assert torch.equal(network(inputs), expected)
    assert "forward" not in network[0].__dict__
