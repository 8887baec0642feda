"""Exports give the tuned network's outputs and carry what is needed to use them."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from tests.finetuning.conftest import Encoder
from tests.finetuning.test_checkpoint import TOKENS, bert, tuned_bert
from tests.finetuning.test_delta import EXAMPLE, perturbed, saved
from torch import nn

from lowdim.errors import InputError, UsageError
from lowdim.finetuning import Average, Plan, TunedModel, export_model, read_delta, save_delta, save_peft
from lowdim.finetuning._delta import Delta, example_of
from lowdim.finetuning._prefix import Inputs
from lowdim.models import LoadedModel, load_model


@pytest.mark.parametrize(
    "plans", [(Plan("linear-probe"), Plan("scl", ("blocks.2",), "pad_add")), (Plan("probe"), Plan("adapt"))]
)
@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_skip_and_average_are_inside(
    target: str, plans: tuple[Plan, Plan], network: LoadedModel, tmp_path: Path
) -> None:
    if target == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    model = Average(*(perturbed(network, plan, seed) for seed, plan in enumerate(plans))).eval()
    delta = read_delta(saved(model, network, tmp_path / "delta"))
    path = tmp_path / "file"
    difference = export_model(model, delta, network.preprocessing, path, to=target, example=example_of(delta))  # type: ignore[arg-type]
    assert difference <= 1e-5
    if target == "torch":
        extra = {"lowdim.json": ""}
        program = torch.export.load(path, extra_files=extra).module()
        information = json.loads(extra["lowdim.json"])
        assert information["classes"] == [str(k) for k in range(10)]
        assert information["preprocessing"] == network.preprocessing.as_dict()
        inputs = torch.rand(9, 1, 8, 8)
        torch.testing.assert_close(program(inputs), model(inputs).softmax(1), rtol=1e-5, atol=1e-6)


def test_tokens_of_any_length_are_exported(encoder: Encoder, tmp_path: Path) -> None:
    example: Inputs = {"input_ids": torch.randint(0, 50, (3, 6)), "attention_mask": torch.ones(3, 6, dtype=torch.int64)}
    model = TunedModel(encoder, Plan("layer", ("layers.2",)), 4, example).eval()
    with torch.no_grad():
        model.head.weight.normal_()
    save_delta(
        model,
        encoder,
        tmp_path / "delta",
        method="layer",
        classes="abcd",
        preprocessing=load_model("digits").preprocessing,
        example=example,
    )
    delta = read_delta(tmp_path / "delta")
    assert (
        export_model(model, delta, load_model("digits").preprocessing, tmp_path / "f", to="torch", example=example)
        <= 1e-5
    )
    program = torch.export.load(tmp_path / "f").module()
    ids = torch.randint(0, 50, (5, 11))
    mask = torch.ones_like(ids)
    expected = model({"input_ids": ids, "attention_mask": mask}).softmax(1)
    torch.testing.assert_close(program(ids, mask), expected, rtol=1e-5, atol=1e-6)


def test_a_file_that_differs_is_removed(network: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = perturbed(network, Plan("linear-probe"))
    delta: Delta = read_delta(saved(model, network, tmp_path / "delta"))
    monkeypatch.setattr(
        "lowdim.finetuning._export._torch_runner", lambda path: lambda tensors: torch.zeros(len(tensors[0]), 10)
    )
    with pytest.raises(InputError, match="was not written"):
        export_model(model, delta, network.preprocessing, tmp_path / "f", to="torch", example=EXAMPLE)
    assert not (tmp_path / "f").exists()


def test_a_network_that_cannot_be_traced_is_named(network: LoadedModel, tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    delta = read_delta(saved(perturbed(network, Plan("linear-probe")), network, tmp_path / "delta"))
    with pytest.raises(InputError, match="cannot be exported"):
        export_model(Branch(), delta, network.preprocessing, tmp_path / "f", to="torch", example=EXAMPLE)


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize("plan", [Plan("linear-probe"), Plan("layer", ("blocks.1", "blocks.4"))])
def test_a_peft_folder_opens_with_stock_peft(plan: Plan, network: LoadedModel, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    tuned = perturbed(network, plan)
    assert save_peft(tuned, network.module, tmp_path, EXAMPLE) == 0.0
    own = load_model("digits-0-4").module
    own.head = nn.Linear(24, 10)
    opened = peft.PeftModel.from_pretrained(own.eval(), tmp_path).eval()
    inputs = torch.rand(6, 1, 8, 8)
    assert torch.equal(opened(inputs), tuned(inputs))


class Normalised(nn.BatchNorm2d):
    """A normalisation with its activation as a child, as timm has them."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.ReLU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(input))


def _convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 4, 3), norm=Normalised(4)))
    parts = {"stem": nn.Conv2d(1, 4, 3), "block": block, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict({**parts, "head": nn.Linear(4, 3)})).eval()


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_a_peft_folder_holds_weights_and_statistics_of_modules_with_children(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base = _convolutions()
    tuned = TunedModel(base, Plan("layer", ("block",)), 3, EXAMPLE).eval()
    norm = tuned.base.get_submodule("block.norm")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    with torch.no_grad():
        norm.weight += 0.3
        norm.running_mean += 0.2
    assert save_peft(tuned, base, tmp_path, EXAMPLE) == 0.0


def test_peft_refuses_a_skip(network: LoadedModel, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(UsageError, match='`method="layer"`'):
        save_peft(perturbed(network, Plan("scl", ("blocks.4",), "pad_add")), network.module, tmp_path, EXAMPLE)


@pytest.mark.filterwarnings("ignore:Unsupported layer type", "ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_classifier_of_transformers_becomes_a_peft_folder(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = bert(2)
    tuned = tuned_bert(base)
    assert save_peft(tuned, base, tmp_path, TOKENS) == 0.0
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        save_peft(tuned, base, tmp_path / "file", TOKENS)
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        save_peft(tuned, base, tmp_path / "file" / "inside", TOKENS)
    opened = peft.PeftModel.from_pretrained(bert(3), tmp_path).eval()
    assert isinstance(TOKENS, dict)
    with torch.inference_mode():
        assert torch.equal(opened(**TOKENS).logits, tuned(TOKENS))


def test_a_peft_folder_that_differs_is_not_written(
    network: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    opened = peft.PeftModel.from_pretrained

    def damaged(base: nn.Module, folder: Path) -> nn.Module:
        base.get_parameter("conv.weight").data.mul_(1.001)
        return opened(base, folder)

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", damaged)
    tuned = perturbed(network, Plan("layer", ("blocks.4",)))
    (tmp_path / "mine.txt").write_text("stays")
    with pytest.raises(InputError, match="differ from the network"):
        save_peft(tuned, network.module, tmp_path, torch.rand(2, 1, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_a_classifier_of_transformers_becomes_one_file(target: str, network: LoadedModel, tmp_path: Path) -> None:
    if target == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    base = bert(2)
    tuned = tuned_bert(base)
    about = {"method": "layer", "classes": "abc", "preprocessing": network.preprocessing, "example": TOKENS}
    save_delta(tuned, base, tmp_path / "delta", **about)  # type: ignore[arg-type]
    delta = read_delta(tmp_path / "delta")
    assert export_model(tuned, delta, network.preprocessing, tmp_path / "f", to=target, example=TOKENS) <= 1e-5  # type: ignore[arg-type]
