"""Merged checkpoints load into the base's own code, without lowdim."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.finetuning.conftest import Encoder
from tests.finetuning.test_delta import EXAMPLE, perturbed
from torch import nn

from lowdim._files import tensor_bytes
from lowdim.errors import InputError, UsageError
from lowdim.finetuning import Average, Plan, TunedModel, save_checkpoint
from lowdim.finetuning._prefix import Inputs
from lowdim.models import LoadedModel, load_model

CLASSES = tuple("abcdefghij")


@pytest.mark.parametrize(
    "plan", [Plan("linear-probe"), Plan("layer", ("blocks.1", "blocks.4")), Plan("full"), Plan("norm")]
)
def test_weights_load_into_the_same_architecture(plan: Plan, network: LoadedModel, tmp_path: Path) -> None:
    tuned = perturbed(network, plan)
    path = tmp_path / "model.safetensors"
    settings = {"classes": CLASSES, "preprocessing": network.preprocessing, "example": EXAMPLE}
    assert save_checkpoint(tuned, network.module, path, **settings) == 0.0
    own = load_model("digits-0-4").module
    own.head = nn.Linear(24, 10)
    own.load_state_dict(load_file(path))
    inputs = torch.rand(6, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(own.eval()(inputs), tuned(inputs))


def test_low_rank_updates_are_added_into_their_matrices(network: LoadedModel, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    tuned = perturbed(network, Plan("lora", rank=2))
    path = tmp_path / "model.safetensors"
    difference = save_checkpoint(
        tuned, network.module, path, classes=CLASSES, preprocessing=network.preprocessing, example=EXAMPLE
    )
    assert difference < 1e-5 * float(tuned(EXAMPLE).detach().abs().max())
    state, before = load_file(path), network.module.state_dict()
    name = next(name for name, tensor in before.items() if "blocks.2" in name and tensor.ndim == 4)
    change = (state[name] - before[name]).flatten(1)
    assert 1 <= int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= 2
    assert not torch.equal(state[name], before[name])


TOKENS: Inputs = {
    "input_ids": torch.arange(12).reshape(2, 6),
    "attention_mask": torch.ones(2, 6, dtype=torch.long),
}


def bert(classes: int) -> nn.Module:
    """A text classifier whose output is no tensor but a table of them."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=20, num_labels=classes, **sizes)
    ).eval()


def tuned_bert(base: nn.Module) -> TunedModel:
    tuned = TunedModel(base, Plan("layer", ("bert.encoder.layer.1",)), 3, TOKENS)
    with torch.no_grad():
        for parameter in tuned.trained().values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return tuned.eval()


def test_a_classifier_of_transformers_is_compared_by_its_logits(network: LoadedModel, tmp_path: Path) -> None:
    base = bert(2)
    tuned, path = tuned_bert(base), tmp_path / "model.safetensors"
    settings = {"classes": ("a", "b", "c"), "preprocessing": network.preprocessing, "example": TOKENS}
    assert save_checkpoint(tuned, base, path, **settings) == 0.0
    own = bert(3)
    own.load_state_dict(load_file(path))
    assert isinstance(TOKENS, dict)
    with torch.inference_mode():
        assert torch.equal(own(**TOKENS).logits, tuned(TOKENS))


def test_a_checkpoint_that_differs_is_removed(
    network: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared is what is in the file."""
    tuned, path = perturbed(network, Plan("layer", ("blocks.4",))), tmp_path / "model.safetensors"

    def damaged(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
        return tensor_bytes({**arrays, "conv.weight": arrays["conv.weight"] * np.float32(1.001)}, metadata)

    monkeypatch.setattr("lowdim.finetuning._checkpoint.tensor_bytes", damaged)
    settings = {"classes": CLASSES, "preprocessing": network.preprocessing, "example": torch.rand(2, 1, 8, 8)}
    with pytest.raises(InputError, match="were not written"):
        save_checkpoint(tuned, network.module, path, **settings)
    assert not path.exists()


def test_what_has_no_place_in_a_checkpoint_is_refused(network: LoadedModel, tmp_path: Path) -> None:
    settings = {"classes": CLASSES, "preprocessing": network.preprocessing, "example": EXAMPLE}
    skip = perturbed(network, Plan("scl", ("blocks.4",), "pad_add"))
    probe = perturbed(network, Plan("linear-probe"))
    for model in (skip, Average(probe, skip)):
        with pytest.raises(UsageError, match=r"no place for .* a skip"):
            save_checkpoint(model, network.module, tmp_path / "f", **settings)
    example = {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    encoder = Encoder().eval()
    tuned = TunedModel(encoder, Plan("linear-probe"), 3, example)
    with pytest.raises(InputError, match="no head"):
        save_checkpoint(
            tuned,
            encoder,
            tmp_path / "f",
            classes=("a", "b", "c"),
            preprocessing=network.preprocessing,
            example=example,
        )
    assert not (tmp_path / "f").exists()
