"""Checkpoints as people have them: wrapped, compiled, in shards, with several tables, without what follows from the rest."""

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from tests.models.test_texts import SEQ2SEQ, save
from torch import Tensor, nn

from lowdim.errors import InputError, UsageError
from lowdim.models import LoadedModel, fingerprint, load_model
from lowdim.models._weights import read_weights

SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.second(self.first(self.stem(images).mean(dim=(2, 3)))))


def net():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(SOURCE)
    return f"{tmp_path / 'nets.py'}:net"


@pytest.fixture
def module(spec: str) -> nn.Module:
    module = load_model(spec).module
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(1)
    return module


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def loaded(spec: str, weights: dict[str, Tensor], folder: Path, **options: Any) -> LoadedModel:
    save_file(weights, folder / "w.safetensors")
    return load_model(spec, weights=folder / "w.safetensors", **options)


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "net.",
        "module._orig_mod.",
        "model.net.",
        "encoder.",
        "_fsdp_wrapped_module.",
        "student.my_network.",
    ],
)
def test_prefixes_of_wrappers_are_taken_off_and_named(
    prefix: str, spec: str, module: nn.Module, tmp_path: Path
) -> None:
    model = loaded(spec, prefixed(state(module), prefix), tmp_path)
    assert model.fingerprint == fingerprint(module)
    (note,) = model.notes
    assert all(part in note for part in prefix.split(".") if part)


@pytest.mark.parametrize("part", ["_orig_mod", "_checkpoint_wrapped_module"])
def test_wrapped_parts_are_found_wherever_they_are(part: str, spec: str, module: nn.Module, tmp_path: Path) -> None:
    weights = {name.replace("stem.", f"stem.{part}."): tensor for name, tensor in state(module).items()}
    assert loaded(spec, weights, tmp_path).fingerprint == fingerprint(module)


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from collections import OrderedDict\nfrom torch import nn\n"
        "def net():\n    return nn.Sequential(OrderedDict(model=nn.Linear(2, 3)))\n"
    )
    weights = {"model.weight": torch.ones(3, 2), "model.bias": torch.ones(3)}
    model = loaded(f"{tmp_path / 'own.py'}:net", weights, tmp_path)
    assert model.notes == ()
    torch.testing.assert_close(model.module.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("beside", ["criterion.weight", "head2.weight", "stem.2.weight"])
def test_nothing_is_left_over_or_missing_without_an_error(
    beside: str, spec: str, module: nn.Module, tmp_path: Path
) -> None:
    weights = state(module)
    for wrong in (
        {**weights, beside: torch.ones(2)},
        {**prefixed(weights, "model."), beside: torch.ones(2)},
        {name: tensor for name, tensor in weights.items() if name != "stem.1.running_var"},
        {name: tensor for name, tensor in weights.items() if name not in ("first.weight", "second.weight")},
    ):
        with pytest.raises(InputError, match="does not fit"):
            loaded(spec, wrong, tmp_path)


def test_counters_and_tied_weights_follow_from_the_rest(spec: str, module: nn.Module, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in state(module).items() if "num_batches" not in name}
    model = loaded(spec, weights, tmp_path)
    assert model.notes == ("counters that the file lacks: stem.1.num_batches_tracked",)
    save_model(module, str(tmp_path / "saved.safetensors"))
    model = load_model(spec, weights=tmp_path / "saved.safetensors")
    assert model.notes == ("tied weights that the file holds once: second.weight from first.weight",)
    assert model.fingerprint == fingerprint(module)
    averaged = {**prefixed(state(module), "module."), "n_averaged": torch.tensor(3)}
    model = loaded(spec, averaged, tmp_path)
    assert model.fingerprint == fingerprint(module)
    assert "counters left out: n_averaged" in model.notes


def test_tables_are_listed_and_chosen(spec: str, module: nn.Module, tmp_path: Path) -> None:
    raw, good = {name: tensor - 1 for name, tensor in state(module).items()}, state(module)
    file = tmp_path / "run.pth"
    torch.save({"state_dict": raw, "state_dict_ema": prefixed(good, "module."), "epoch": 3, "args": {"lr": 0.1}}, file)
    with pytest.raises(InputError, match=r"state_dict \(13 tensors\), state_dict_ema \(13 tensors\)\. Choose one"):
        load_model(spec, weights=file, allow_pickle=True)
    model = load_model(spec, weights=file, allow_pickle=True, weights_key="state_dict_ema")
    assert model.fingerprint == fingerprint(module) == load_model(**model.source).fingerprint
    with pytest.raises(UsageError, match=r"no weights under 'teacher'\. There are: state_dict, state_dict_ema"):
        load_model(spec, weights=file, allow_pickle=True, weights_key="teacher")
    for content in (
        {"teacher": {"model": good}, "epoch": 3},
        {"checkpoint": {"model": {"state_dict": good}}},
        {**good, "epoch": 3, "best": 0.7},
        {"model": good, "args": argparse.Namespace(lr=0.1)},
    ):
        torch.save(content, file)
        assert load_model(spec, weights=file, allow_pickle=True).fingerprint == fingerprint(module)


def test_a_network_beside_other_things_is_pointed_at(spec: str, module: nn.Module, tmp_path: Path) -> None:
    beside = {**prefixed(state(module), "model."), "criterion.weight": torch.ones(2)}
    with pytest.raises(InputError, match=r"holds the network under model, beside others: choose with `weights_key`"):
        loaded(spec, beside, tmp_path)
    assert loaded(spec, beside, tmp_path, weights_key="model").fingerprint == fingerprint(module)
    file = tmp_path / "run.ckpt"
    torch.save({"state_dict": beside, "epoch": 3}, file)
    for key in ("model", "state_dict.model"):
        model = load_model(spec, weights=file, allow_pickle=True, weights_key=key)
        assert model.fingerprint == fingerprint(module)
    with pytest.raises(UsageError, match=r"no weights under 'criterion\.model'"):
        load_model(spec, weights=file, allow_pickle=True, weights_key="criterion.model")
    torch.save({"model": state(module), "epoch": np.float64(3)}, file)
    with pytest.raises(InputError, match=r"holds numpy\S+ beside tensors and is not loaded.*Save its state dict alone"):
        load_model(spec, weights=file, allow_pickle=True)


def test_whole_numbers_are_no_weights(spec: str, module: nn.Module, tmp_path: Path) -> None:
    quantised = {
        name: (10 * tensor).to(torch.int8) if tensor.ndim > 1 else tensor for name, tensor in state(module).items()
    }
    with pytest.raises(InputError, match=r"other kind of numbers: \S+ is int8 in the file and float32"):
        loaded(spec, quantised, tmp_path)
    with pytest.raises(UsageError, match="Give one with `weights`"):
        load_model(spec, weights_key="teacher")


def test_a_key_chooses_among_names_too(spec: str, module: nn.Module, tmp_path: Path) -> None:
    both = {**prefixed(state(module), "teacher."), **prefixed(state(module), "student.")}
    with pytest.raises(InputError, match="does not fit"):
        loaded(spec, both, tmp_path)
    assert loaded(spec, both, tmp_path, weights_key="teacher").fingerprint == fingerprint(module)


def shards(weights: dict[str, Tensor], folder: Path) -> Path:
    places: dict[str, str] = {}
    for index, names in enumerate((list(weights)[::2], list(weights)[1::2])):
        file = f"model-{index + 1:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


def test_shards(spec: str, module: nn.Module, tmp_path: Path) -> None:
    index = shards(state(module), tmp_path)
    assert load_model(spec, weights=index).fingerprint == fingerprint(module)
    content = json.loads(index.read_text())
    for change, message in (
        ({"head.extra": "model-00001-of-00002.safetensors"}, "lack head.extra"),
        ({"head.bias": "absent.safetensors"}, r"names absent\.safetensors, which is not beside it"),
        ({"head.bias": "../outside.safetensors"}, "does not name files beside it"),
        ({"head.bias": 3}, "does not name files beside it"),
    ):
        index.write_text(json.dumps({"weight_map": {**content["weight_map"], **change}}))
        with pytest.raises(InputError, match=message):
            load_model(spec, weights=index)
    index.write_text("[]")
    with pytest.raises(InputError, match="no index"):
        load_model(spec, weights=index)


def test_shards_of_pickles_need_permission(spec: str, module: nn.Module, tmp_path: Path) -> None:
    names, weights = sorted(state(module)), state(module)
    files = {name: f"pytorch_model-0000{1 + (name < 'head.weight')}-of-00002.bin" for name in names}
    for file in set(files.values()):
        torch.save({name: weights[name] for name in names if files[name] == file}, tmp_path / file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    with pytest.raises(UsageError, match="permit it with `allow_pickle=True`"):
        load_model(spec, weights=index)
    assert load_model(spec, weights=index, allow_pickle=True).fingerprint == fingerprint(module)


def test_an_adapter_is_no_network(spec: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="It is an adapter: merge it"):
        loaded(spec, {"base_model.model.head.lora_A.weight": torch.ones(2, 2)}, tmp_path)


# --- Libraries' networks.


def test_timm_networks_from_wrapped_files(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t", num_classes=3)
    weights = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    model = loaded("timm:resnet10t", prefixed(weights, "module._orig_mod."), tmp_path)
    torch.testing.assert_close(model.module.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert len(model.notes) == 2


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model."])
def test_folders_of_transformers_with_wrapped_names(prefix: str, tmp_path: Path) -> None:
    network = save(tmp_path, "bert", head=True)
    save_file(prefixed(state(network), prefix), tmp_path / "model.safetensors", {"format": "pt"})
    model = load_model(f"hf:{tmp_path}")
    torch.testing.assert_close(model.module.state_dict(), network.state_dict(), rtol=0, atol=0)
    assert prefix in model.notes[0]


def test_folders_of_transformers_with_tied_weights_and_shards(tmp_path: Path) -> None:
    network = save(tmp_path, "t5", **SEQ2SEQ)
    save_model(network, str(tmp_path / "model.safetensors"), {"format": "pt"})
    expected = network.encoder.state_dict()
    torch.testing.assert_close(load_model(f"hf:{tmp_path}").module.state_dict(), expected, rtol=0, atol=0)
    weights = {name: tensor for name, tensor in state(network).items() if not name.endswith("embed_tokens.weight")}
    (tmp_path / "model.safetensors").unlink()
    shards(prefixed(weights, "_orig_mod."), tmp_path)
    torch.testing.assert_close(load_model(f"hf:{tmp_path}").module.state_dict(), expected, rtol=0, atol=0)


class Whole(nn.Module):
    """A network that is saved as it is, code and all."""


def test_a_whole_network_in_a_pickle_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(Whole(), tmp_path / "whole.pt")
    with pytest.raises(InputError) as error:
        read_weights(tmp_path / "whole.pt", allow_pickle=True)
    said = str(error.value)
    assert "Whole beside tensors and is not loaded" in said and "torch.save(network.state_dict(), ...)" in said
    assert "\n" not in said and "\x1b" not in said and "weights_only" not in said


def test_weights_that_are_no_numbers_are_said(spec: str, module: nn.Module, tmp_path: Path) -> None:
    weights = state(module)
    weights["head.weight"] = weights["head.weight"].clone()
    weights["head.weight"][0, 0] = torch.nan
    notes = loaded(spec, weights, tmp_path).notes
    assert [note.partition(" in the weights of ")[0] for note in notes] == ["NaN or infinite numbers"]
    assert notes[0].endswith(": head.weight")


def test_what_is_given_for_weights_is_named(spec: str, module: nn.Module, tmp_path: Path) -> None:
    """A folder of shards, a program, code in a pickle of any protocol: what to give instead, and nothing of what PyTorch advises."""
    with pytest.raises(InputError, match=r"is a folder: give .*model\.safetensors\.index\.json"):
        load_model(spec, weights=shards(state(module), tmp_path).parent)
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Path, protocol=5))
    for name, what in (("program", "is a TorchScript program"), ("code", "could run code")):
        with pytest.raises(InputError, match=what) as raised:
            load_model(spec, weights=tmp_path / f"{name}.pt", allow_pickle=True)
        assert "PyTorch 2.6" not in str(raised.value)
    with pytest.raises(UsageError, match="holds weights, and not the code that they are for"):
        load_model(str(tmp_path / "program.pt"))
