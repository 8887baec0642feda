import pytest
import torch
from torch import nn

from lowdim.errors import UsageError
from lowdim.models import DigitsMLP, DigitsNet, block_names, default_layers, find_feature, match_layers


def layers_of(network: nn.Module, *shape: int) -> list[str]:
    return default_layers(network, find_feature(network.eval(), torch.randn(2, *shape)))


class Unused(nn.Module):
    """A block and an encoder's layer of another network, which never run."""

    def __init__(self) -> None:
        super().__init__()
        self.body = DigitsNet(3, depth=2)
        self.teacher = DigitsNet(3, depth=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_blocks_and_feature_of_the_embedded_networks() -> None:
    assert layers_of(DigitsNet(), 1, 8, 8) == [*(f"blocks.{i}" for i in range(6)), "head:input"]
    assert layers_of(DigitsMLP(depth=2), 64) == ["layers.0.2", "layers.1.2", "head:input"]


def test_encoders_have_no_head() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert layers_of(network, 5, 8) == ["layers.0", "layers.1"]


def test_what_never_runs_is_not_measured() -> None:
    assert layers_of(Unused(), 1, 8, 8) == ["body.blocks.0", "body.blocks.1", "body.head:input"]


def test_networks_without_blocks_fall_back() -> None:
    linear = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    assert layers_of(linear, 4) == ["0", "1", "2:input"]
    assert layers_of(nn.Sequential(nn.Identity()), 4) == ["0"]


@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("resnet18", 8, "layer1.0", "layer4.1"),
        ("resnet50", 16, "layer1.0", "layer4.2"),
        ("mobilenetv2_035", 17, "blocks.0.0", "blocks.6.0"),
        ("efficientnet_b0", 16, "blocks.0.0", "blocks.6.0"),
        ("vit_tiny_patch16_224", 12, "blocks.0", "blocks.11"),
        ("convnext_atto", 12, "stages.0.blocks.0", "stages.3.blocks.1"),
        ("swin_tiny_patch4_window7_224", 12, "layers.0.blocks.0", "layers.3.blocks.1"),
        ("densenet121", 4, "features.denseblock1", "features.denseblock4"),
    ],
)
def test_blocks_of_timm_networks(name: str, blocks: int, first: str, last: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(name)
    found = block_names(network)
    assert (len(found), found[0], found[-1]) == (blocks, first, last)


def test_blocks_of_transformers_networks() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = transformers.AutoModel.from_config(transformers.BertConfig(**small))
    assert block_names(encoder) == ["encoder.layer.0", "encoder.layer.1"]


def test_globs() -> None:
    network = DigitsNet(depth=3)
    assert match_layers(network, "blocks.?") == ["blocks.0", "blocks.1", "blocks.2"]
    assert match_layers(network, ["head:input", "blocks.0", "blocks.*.conv1"]) == [
        "blocks.0",
        "blocks.0.conv1",
        "blocks.1.conv1",
        "blocks.2.conv1",
        "head:input",
    ]
    default = [*(f"blocks.{i}" for i in range(3)), "head:input"]
    assert match_layers(network, "default, blocks.1", default) == default
    assert match_layers(network, "head,head:input") == ["head:input", "head"]


def test_unknown_layers_get_a_hint() -> None:
    with pytest.raises(UsageError, match=r"Did you mean .*blocks\.0"):
        match_layers(DigitsNet(depth=3), "blocks.O")
    with pytest.raises(UsageError, match="List them with"):
        match_layers(DigitsNet(depth=3), "nothing.*")
