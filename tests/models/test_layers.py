import pytest
import torch
from torch import nn

from lowdim.errors import UsageError
from lowdim.models import DigitsMLP, DigitsNet, block_names, default_layers, find_head, match_layers, penultimate


class WithPooler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler = nn.Linear(8, 8)


class TwoHeads(nn.Module):
    """The classifier is registered before the blocks, as some users do."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(24, 4)
        self.body = DigitsNet(3).blocks


def test_blocks_and_head_of_the_embedded_networks() -> None:
    assert default_layers(DigitsNet()) == [*(f"blocks.{i}" for i in range(6)), "head:input"]
    assert default_layers(DigitsMLP(depth=2)) == ["layers.0.2", "layers.1.2", "head:input"]
    assert find_head(DigitsNet()) == find_head(DigitsMLP()) == "head"


def test_encoders_have_no_head() -> None:
    network = WithPooler()
    assert find_head(network) is None
    assert penultimate(network) is None
    assert default_layers(network) == ["encoder.layers.0", "encoder.layers.1"]
    assert find_head(TwoHeads()) == "classifier"


def test_networks_without_blocks_fall_back() -> None:
    linear = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    assert default_layers(linear) == ["0", "1", "2:input"]
    assert default_layers(nn.Sequential(nn.Identity())) == ["0"]


@pytest.mark.parametrize(
    ("name", "blocks", "first", "last", "head"),
    [
        ("resnet18", 8, "layer1.0", "layer4.1", "fc"),
        ("resnet50", 16, "layer1.0", "layer4.2", "fc"),
        ("mobilenetv2_035", 17, "blocks.0.0", "blocks.6.0", "classifier"),
        ("efficientnet_b0", 16, "blocks.0.0", "blocks.6.0", "classifier"),
        ("vit_tiny_patch16_224", 12, "blocks.0", "blocks.11", "head"),
        ("convnext_atto", 12, "stages.0.blocks.0", "stages.3.blocks.1", "head.fc"),
        ("swin_tiny_patch4_window7_224", 12, "layers.0.blocks.0", "layers.3.blocks.1", "head.fc"),
        ("densenet121", 4, "features.denseblock1", "features.denseblock4", "classifier"),
    ],
)
def test_blocks_of_timm_networks(name: str, blocks: int, first: str, last: str, head: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model(name)
    found = block_names(network)
    assert (len(found), found[0], found[-1]) == (blocks, first, last)
    assert find_head(network) == head
    assert default_layers(network)[-1] == f"{head}:input"


def test_a_removed_classifier_leaves_its_place() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = timm.create_model("resnet18", num_classes=0)
    assert find_head(network) is None
    assert penultimate(network) == "fc:input"


def test_blocks_of_transformers_networks() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = transformers.AutoModel.from_config(transformers.BertConfig(**small))
    assert default_layers(encoder) == ["encoder.layer.0", "encoder.layer.1"]
    classifier = transformers.AutoModelForSequenceClassification.from_config(
        transformers.BertConfig(**small, num_labels=3)
    )
    assert default_layers(classifier) == ["bert.encoder.layer.0", "bert.encoder.layer.1", "classifier:input"]


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
    assert match_layers(network, "default, blocks.1") == default_layers(network)
    assert match_layers(network, "head,head:input") == ["head:input", "head"]


def test_unknown_layers_get_a_hint() -> None:
    with pytest.raises(UsageError, match=r"Did you mean .*blocks\.0"):
        match_layers(DigitsNet(depth=3), "blocks.O")
    with pytest.raises(UsageError, match="List them with"):
        match_layers(DigitsNet(depth=3), "nothing.*")
