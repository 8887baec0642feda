"""The delta: exact, small, and refused where it does not belong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.finetuning.conftest import Encoder
from tests.harness import hostile
from torch import nn

from lowdim._files import json_digest, read_json, write_checked, write_json
from lowdim.data import dataset_from_arrays
from lowdim.errors import InputError, UsageError
from lowdim.finetuning import Average, Plan, TunedModel, load_delta, read_delta, save_delta
from lowdim.finetuning._delta import apply_delta, example_of, tuned_preprocessing, verify_delta
from lowdim.finetuning._evaluate import averaged, split_outputs
from lowdim.finetuning.methods import weights_of
from lowdim.models import LoadedModel, Preprocessing, fingerprint, load_model

EXAMPLE = torch.zeros(2, 1, 8, 8)
PLANS = [
    Plan("linear-probe"),
    Plan("layer", ("blocks.4",)),
    Plan("layer", ("blocks.1", "blocks.4")),
    Plan("scl", ("blocks.4",), "pad_add"),
    Plan("scl", ("blocks.4",), "concat"),
    Plan("scl", ("blocks.4",), "project"),
    Plan("norm"),
    Plan("lora", rank=2),
    Plan("full"),
]


def perturbed(network: LoadedModel, plan: Plan, seed: int = 0) -> TunedModel:
    tuned = TunedModel(network.module, plan, 10, EXAMPLE)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.trained().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return tuned.eval()


def saved(model: nn.Module, network: LoadedModel, folder: Path) -> Path:
    save_delta(
        model,
        network.module,
        folder,
        method="test",
        classes=[str(k) for k in range(10)],
        preprocessing=network.preprocessing,
        example=EXAMPLE,
        name=network.name,
        source=network.source,
    )
    return folder


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.method}-{plan.combine}")
def test_reloads_bit_for_bit_on_a_fresh_base(plan: Plan, network: LoadedModel, tmp_path: Path) -> None:
    tuned = perturbed(network, plan)
    saved(tuned, network, tmp_path)
    fresh = load_model("digits-0-4").module
    inputs = torch.rand(7, 1, 8, 8)
    assert torch.equal(load_delta(fresh, tmp_path)(inputs), tuned(inputs))
    verify_delta(tuned, fresh, tmp_path, inputs)
    expected = {f"0/{name}" for name in tuned.trained()}
    assert set(read_delta(tmp_path).tensors) == expected


def test_an_ensemble_is_one_delta(network: LoadedModel, tmp_path: Path) -> None:
    parts = perturbed(network, Plan("linear-probe")), perturbed(network, Plan("layer", ("blocks.4",)), 1)
    model = Average(*parts).eval()
    saved(model, network, tmp_path)
    inputs = torch.rand(7, 1, 8, 8)
    loaded = load_delta(load_model("digits-0-4").module, tmp_path)
    assert torch.equal(loaded(inputs), model(inputs))
    mean = (parts[0](inputs).softmax(1) + parts[1](inputs).softmax(1)) / 2
    torch.testing.assert_close(model(inputs).exp(), mean)


def test_a_probe_and_what_was_trained_as_a_whole_are_multiplied(network: LoadedModel, tmp_path: Path) -> None:
    parts = perturbed(network, Plan("probe")), perturbed(network, Plan("adapt"), 1)
    saved(Average(*parts).eval(), network, tmp_path)
    inputs = torch.rand(7, 1, 8, 8)
    found = load_delta(load_model("digits-0-4").module, tmp_path)(inputs)
    rows = [part(inputs).log_softmax(1).detach() for part in parts]
    torch.testing.assert_close(found, (0.5 * rows[0] + 0.5 * rows[1]).log_softmax(1))
    np.testing.assert_allclose(
        averaged([one.numpy() for one in rows], weights_of(["probe", "adapt"])),
        found.detach().numpy(),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_powers_of_a_product_are_those_it_was_saved_with(network: LoadedModel, tmp_path: Path) -> None:
    """Deltas of earlier versions, which do not hold them, had others than the method has now."""
    parts, inputs = (perturbed(network, Plan("probe")), perturbed(network, Plan("adapt"), 1)), torch.rand(7, 1, 8, 8)
    for powers, held in (((0.9, 0.2), True), ((0.7, 0.4), False)):
        saved(Average(*parts, weights=powers).eval(), network, tmp_path)
        content = read_json(tmp_path / "delta.json")
        left = {key: value for key, value in content.items() if key != "sha256" and (held or key != "weights")}
        write_checked(tmp_path / "delta.json", left)
        found = load_delta(load_model("digits-0-4").module, tmp_path)(inputs)
        rows = [power * part(inputs).log_softmax(1) for part, power in zip(parts, powers, strict=True)]
        torch.testing.assert_close(found, (rows[0] + rows[1]).log_softmax(1))
    for wrong in ([0.5], [0.5, 0.2, 0.3], [0.5, -0.1], [0.5, "x"]):
        write_checked(tmp_path / "delta.json", left | {"weights": wrong})
        with pytest.raises(InputError, match="weight"):
            read_delta(tmp_path)


def test_changed_buffers_are_kept(network: LoadedModel, tmp_path: Path) -> None:
    tuned = perturbed(network, Plan("layer", ("blocks.4",)))
    tuned.base.get_submodule("blocks.0.bn1").running_mean.add_(0.5)
    saved(tuned, network, tmp_path)
    assert "0/base.blocks.0.bn1.running_mean" in read_delta(tmp_path).tensors
    inputs = torch.rand(3, 1, 8, 8)
    assert torch.equal(load_delta(load_model("digits-0-4").module, tmp_path)(inputs), tuned(inputs))


def test_verification_sees_a_delta_that_does_not_give_the_network_back(network: LoadedModel, tmp_path: Path) -> None:
    tuned = perturbed(network, Plan("layer", ("blocks.4",)))
    saved(tuned, network, tmp_path)
    with torch.no_grad():
        tuned.head.bias[0] += 1e-3
    with pytest.raises(InputError, match="does not give the tuned network back"):
        verify_delta(tuned, load_model("digits-0-4").module, tmp_path, torch.rand(3, 1, 8, 8))


def test_a_wrong_base_is_refused(network: LoadedModel, tmp_path: Path) -> None:
    saved(perturbed(network, Plan("linear-probe")), network, tmp_path)
    with pytest.raises(InputError, match="made from digits-0-4"):
        load_delta(load_model("digits-split").module, tmp_path)
    almost = load_model("digits-0-4").module
    with torch.no_grad():
        almost.conv.weight[0, 0, 0, 0] += 1e-6
    with pytest.raises(InputError, match="fingerprint"):
        load_delta(almost, tmp_path)


@pytest.mark.parametrize("file", ["delta.json", "delta.safetensors"])
def test_any_flipped_bit_is_found(file: str, network: LoadedModel, tmp_path: Path) -> None:
    saved(perturbed(network, Plan("layer", ("blocks.4",))), network, tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    for position in range(1, len(content), max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(damaged))
        with pytest.raises(InputError):
            read_delta(tmp_path)
    path.write_bytes(content)
    read_delta(tmp_path)


def test_a_newer_format_and_a_folder_without_delta_are_refused(network: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no delta"):
        read_delta(tmp_path)
    saved(perturbed(network, Plan("linear-probe")), network, tmp_path)
    content = json.loads((tmp_path / "delta.json").read_text())
    (tmp_path / "delta.json").write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(InputError, match="Update lowdim"):
        read_delta(tmp_path)


def test_a_delta_of_an_unknown_method_is_refused(network: LoadedModel, tmp_path: Path) -> None:
    saved(perturbed(network, Plan("linear-probe")), network, tmp_path)
    content = json.loads((tmp_path / "delta.json").read_text())
    content["parts"][0]["method"] = "later"
    del content["sha256"]
    write_json(tmp_path / "delta.json", {**content, "sha256": json_digest(content)})
    with pytest.raises(InputError, match="method 'later'"):
        read_delta(tmp_path)


class Options(nn.Module):
    """The same weights, whatever the option says."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation, self.head = nn.Linear(4, 8), activation, nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.activation(self.first(x)))


def remembered(base: nn.Module, folder: Path) -> TunedModel:
    tuned = TunedModel(base, Plan("linear-probe"), 2, torch.ones(2, 4))
    with torch.no_grad():
        tuned.head.weight.normal_()
    about = {"method": "linear-probe", "classes": "ab", "preprocessing": Preprocessing(kind="features")}
    save_delta(tuned, base, folder, example=torch.ones(2, 4), **about)  # type: ignore[arg-type]
    return tuned.eval()


def test_a_base_with_the_same_weights_and_other_outputs_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, other = Options(nn.ReLU()).eval(), Options(nn.GELU()).eval()
    other.load_state_dict(base.state_dict())
    tuned = remembered(base, tmp_path)
    assert read_delta(tmp_path).base["fingerprint"] == fingerprint(other)
    with pytest.raises(InputError, match="same weights, but other outputs"):
        load_delta(other, tmp_path)
    inputs = torch.rand(5, 4)
    assert torch.equal(load_delta(base, tmp_path)(inputs), tuned(inputs))


def test_rounding_of_another_machine_is_no_other_network(tmp_path: Path) -> None:
    base = Options(nn.ReLU()).eval()
    remembered(base, tmp_path)
    delta = read_delta(tmp_path)
    assert delta.logits is not None
    apply_delta(base, replace(delta, logits=[[value * 1.001 for value in row] for row in delta.logits]))
    for wrong in ([[value * 1.1 for value in row] for row in delta.logits], delta.logits[:1], [[], []]):
        with pytest.raises(InputError, match="other outputs"):
            apply_delta(base, replace(delta, logits=wrong))


def test_a_delta_without_outputs_still_loads(tmp_path: Path) -> None:
    base = Options(nn.ReLU()).eval()
    tuned = remembered(base, tmp_path)
    content = json.loads((tmp_path / "delta.json").read_text())
    del content["logits"], content["sha256"]
    write_json(tmp_path / "delta.json", {**content, "sha256": json_digest(content)})
    inputs = torch.rand(5, 4)
    assert torch.equal(load_delta(base, tmp_path)(inputs), tuned(inputs))


def test_outputs_that_are_no_numbers_are_not_remembered(tmp_path: Path) -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    base = Options(Root()).eval()
    remembered(base, tmp_path)
    assert read_delta(tmp_path).logits is None
    load_delta(base, tmp_path)


def test_saving_leaves_the_mode_and_asks_for_known_tokens_only(encoder: Encoder, tmp_path: Path) -> None:
    example = {"input_ids": torch.arange(12).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
    model = TunedModel(encoder, Plan("layer", ("layers.2",)), 4, example).train()
    save_delta(model, encoder, tmp_path, method="layer", classes="abcd", preprocessing=Preprocessing(), example=example)
    assert model.training and model.base.get_submodule("layers.2").training
    asked = example_of(read_delta(tmp_path))
    assert isinstance(asked, dict) and int(asked["input_ids"].max()) < 12
    load_delta(encoder, tmp_path)


def test_samples_are_prepared_as_for_tuning(network: LoadedModel, tmp_path: Path) -> None:
    delta = read_delta(saved(perturbed(network, Plan("linear-probe")), network, tmp_path))
    own = network.preprocessing
    assert tuned_preprocessing(delta, own) == (own, [])
    found, warnings = tuned_preprocessing(delta, replace(own, mean=(0.25,), image_size=(16, 16), resize=(20, 20)))
    assert found == own
    assert "mean" in warnings[0] and "[0.25]" in warnings[0] and "image_size" in warnings[0]
    settings = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, "resample": 2}
    newer = Preprocessing(image_size=(8, 8), processor={**settings, "resample": 3})
    assert tuned_preprocessing(delta, newer)[0].processor is None
    then = Preprocessing(image_size=(8, 8), processor=settings)
    found, warnings = tuned_preprocessing(replace(delta, preprocessing=then.as_dict()), newer)
    assert found == then
    assert "resample is 3, was 2. The" in warnings[0]
    tokenizer = object()
    text = Preprocessing(kind="text", max_length=64, tokenizer=tokenizer)
    stored = replace(delta, preprocessing={"kind": "text", "max_length": 32, "tokenizer": "Other"})
    found, warnings = tuned_preprocessing(stored, text)
    assert (found.max_length, found.tokenizer) == (32, tokenizer)
    assert "Other" in warnings[0]
    with pytest.raises(InputError, match="text"):
        tuned_preprocessing(delta, text)
    with pytest.raises(InputError, match="Update lowdim"):
        tuned_preprocessing(replace(delta, preprocessing={**delta.preprocessing, "gamma": 2.2}), own)


def edited(folder: Path, target: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy with other content and the right checksum."""
    shutil.copytree(folder, target)
    content = json.loads((target / "delta.json").read_text())
    del content["sha256"]
    edit(content)
    write_json(target / "delta.json", {**content, "sha256": json_digest(content)})
    return target


def test_whatever_is_forged_is_an_input_error_that_names_the_key(network: LoadedModel, tmp_path: Path) -> None:
    delta = saved(perturbed(network, Plan("layer", ("blocks.4",))), network, tmp_path / "delta")
    content = json.loads((delta / "delta.json").read_text())
    refused = 0
    for place in hostile.places(content):
        for index, wrong in enumerate((hostile.GONE, *hostile.WRONG)):
            target = edited(delta, tmp_path / f"{'-'.join(map(str, place))}-{index}", hostile.at(place, wrong))
            try:
                found = read_delta(target)
                tuned_preprocessing(found, network.preprocessing)
                load_model(**{"spec": "digits-0-4", **found.base["source"], "allow_pickle": False})
                apply_delta(network.module, found)
            except (InputError, UsageError) as error:
                refused += 1
                assert str(error).count("\n") == 0
                if wrong is hostile.GONE:
                    assert str(place[-1]) in str(error)
    assert refused > 150


@pytest.mark.parametrize(("name", "message"), hostile.OUT_OF_RANGE)
def test_values_out_of_range_are_named(name: str, message: str, network: LoadedModel, tmp_path: Path) -> None:
    delta = saved(perturbed(network, Plan("layer", ("blocks.4",))), network, tmp_path / "delta")
    content = json.loads((delta / "delta.json").read_text())
    target = edited(delta, tmp_path / "forged", dict(hostile.forgeries(content))[name])
    with pytest.raises((InputError, UsageError), match=message):
        apply_delta(network.module, read_delta(target))


def test_deltas_of_earlier_versions_load(network: LoadedModel, tmp_path: Path) -> None:
    tuned = perturbed(network, Plan("layer", ("blocks.4",)))
    delta = saved(tuned, network, tmp_path / "delta")

    def first(content: dict[str, Any]) -> None:
        del content["logits"], content["notes"], content["preprocessing"]["resize"]
        content["parts"][0] = {"method": "layer", "blocks": ["blocks.4"], "combine": None, "rank": 8}
        del content["base"]["source"]["offline"]

    def later(content: dict[str, Any]) -> None:
        content["parts"][0]["head"] = "zero"

    inputs = torch.rand(3, 1, 8, 8)
    for name, edit in (("first", first), ("later", later)):
        network_again = load_delta(load_model("digits-0-4").module, edited(delta, tmp_path / name, edit))
        assert torch.equal(network_again(inputs), tuned(inputs))


def test_features_of_another_width_are_an_input_error() -> None:
    tuned = TunedModel(nn.Sequential(nn.Identity()), Plan("linear-probe"), 2, torch.ones(2, 6))
    assert tuned(torch.ones(3, 6)).shape == (3, 2)
    for width in (1, 9):
        with pytest.raises(InputError, match=f"{width} columns, but the head was tuned on 6"):
            tuned(torch.ones(3, width))
        with pytest.raises(InputError, match=f"{width} columns, but the head was tuned on 6"):
            data = dataset_from_arrays(np.ones((4, width)), [0, 1, 0, 1])
            split_outputs(tuned, data["train"], Preprocessing(kind="features"))
