"""What is trained: shares of parameters, blocks by name, frozen parts."""

import pytest
import torch
from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.finetuning import Plan, TunedModel, auto_block, make_plan
from lowdim.models import LoadedModel

timm = pytest.importorskip("timm")


def share(network: nn.Module, plan: Plan, classes: int) -> float:
    tuned = TunedModel(network, plan, classes, torch.zeros(2, 3, 224, 224))
    return 100 * sum(p.numel() for p in tuned.trained().values()) / tuned.parameters_in_all()


@pytest.mark.parametrize(
    ("name", "layer", "shares"),
    [
        ("resnet50", "layer3.0", {10: 6.52, 100: 7.24}),
        ("vit_base_patch32_224", "blocks.8", {100: 8.18, 37: 8.13}),
        ("resnet18", "layer3.0", {10: 8.27}),
    ],
)
def test_shares_of_the_lecture(name: str, layer: str, shares: dict[int, float]) -> None:
    network = timm.create_model(name, pretrained=False).eval()
    for classes, expected in shares.items():
        assert share(network, make_plan(network, "layer", layer=layer), classes) == pytest.approx(expected, abs=0.01)
    if name == "resnet50":
        for classes, expected in {10: 0.09, 100: 0.86}.items():
            assert share(network, Plan("linear-probe"), classes) == pytest.approx(expected, abs=0.01)


def test_scl_adds_no_parameters_and_only_project_and_concat_do(network: LoadedModel) -> None:
    example = torch.zeros(2, 1, 8, 8)
    sizes = {
        combine: TunedModel(network.module, Plan("scl", ("blocks.2",), combine), 10, example).parameters_in_all()  # type: ignore[arg-type]
        for combine in (None, "pad_add", "concat", "project")
    }
    assert sizes["pad_add"] == sizes[None]
    assert sizes["concat"] == sizes[None] + 24 * 10
    assert sizes["project"] == sizes[None] + 24 * 24


def test_pad_add_is_the_padded_sum() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.key, self.rest, self.head = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 5, 1), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rest(self.key(x)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(4, 1, 3, 3)
    tuned = TunedModel(net, Plan("scl", ("key",), "pad_add"), 7, x)
    expected = net.rest(net.key(x)).mean(dim=(2, 3))
    expected[:, :2] += net.key(x).mean(dim=(2, 3))
    torch.testing.assert_close(tuned.features(x), expected)


def test_only_the_plan_trains_and_batch_norm_stands_still(network: LoadedModel) -> None:
    tuned = TunedModel(network.module, Plan("scl", ("blocks.3",), "pad_add"), 10, torch.zeros(2, 1, 8, 8))
    assert all(name.startswith(("base.blocks.3.", "head.")) for name in tuned.trained())
    before = {name: tensor.clone() for name, tensor in tuned.state_dict().items()}
    tuned.train()
    tuned(torch.rand(8, 1, 8, 8)).square().sum().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in tuned.state_dict().items())
    assert tuned.base.get_submodule("blocks.3").training
    assert not tuned.base.get_submodule("blocks.2").training


def test_the_network_given_is_left_alone(network: LoadedModel) -> None:
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    tuned = TunedModel(network.module, Plan("full"), 3, torch.zeros(2, 1, 8, 8))
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())
    assert isinstance(network.module.head, nn.Linear)


def test_auto_is_the_block_at_three_quarters(network: LoadedModel) -> None:
    assert auto_block(network.module) == "blocks.4"
    with pytest.raises(InputError, match="no blocks"):
        auto_block(nn.Sequential(nn.Linear(2, 2)))


def test_groups_of_blocks_and_bad_names(network: LoadedModel) -> None:
    assert make_plan(network.module, "layer", layer="blocks.3,blocks.4,blocks.4.conv1").blocks == (
        "blocks.3",
        "blocks.4",
    )
    with pytest.raises(UsageError, match=r"Did you mean"):
        make_plan(network.module, "layer", layer="blocks.9")
    with pytest.raises(UsageError, match="not what goes into it"):
        make_plan(network.module, "layer", layer="head:input")
    with pytest.raises(UsageError, match="no parameters"):
        make_plan(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "layer", layer="1")


@pytest.mark.parametrize("method", ["norm", "lora"])
def test_comparison_methods_train_what_their_name_says(method: str, network: LoadedModel) -> None:
    if method == "lora":
        pytest.importorskip("peft")
    tuned = TunedModel(network.module, Plan(method, rank=2), 10, torch.zeros(2, 1, 8, 8))  # type: ignore[arg-type]
    names = [name for name in tuned.trained() if not name.startswith("head.")]
    assert names
    assert all(("lora_" if method == "lora" else "bn") in name for name in names)
    x = torch.rand(3, 1, 8, 8)
    plain = TunedModel(network.module, Plan("linear-probe"), 10, x)
    torch.testing.assert_close(tuned.features(x), plain.features(x))
