"""`measure`, `rank`, `advise` and `finetune` take the same feature of the same network, and what is saved and exported keeps it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.test_texts import GPT2, SEQ2SEQ, save
from torch import nn

import lowdim
from lowdim._files import read_json, write_checked
from lowdim.data import load_data
from lowdim.errors import InputError
from lowdim.finetuning import Plan, TunedModel, advise, finetune, load_delta, save_checkpoint
from lowdim.finetuning._delta import read_delta
from lowdim.finetuning._heads import heads_for, with_heads
from lowdim.models import find_feature, load_model
from lowdim.profiling import profile
from lowdim.ranking import Candidate, rank

FORMS = """
import warnings

import torch
from torch import nn
from torch.nn import functional as F

class Form(nn.Module):
    def __init__(self, kind, scored=None):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU())
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1), nn.ReLU()) for _ in range(2)))
        if kind == "cosine":
            self.weight = nn.Parameter(torch.randn(5, 12))
            self.flat = nn.Flatten()
        elif kind == "convolution":
            self.classifier = nn.Conv2d(12, 5, 1)
        elif kind == "activation in place":
            self.classifier, self.act = nn.Conv2d(12, 5, 1), nn.ReLU(inplace=True)
        elif kind == "two heads":
            self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])
            self.heads = nn.ModuleList([nn.Linear(12, 5), nn.Linear(12, 5)])
        elif kind == "two widths":
            self.heads = nn.ModuleList([nn.Linear(12, 5), nn.Linear(7, 5)])
        elif kind == "one axis":
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv1d(12, 12, 3, 1, 1), nn.ReLU()) for _ in range(2)))
            self.classifier = nn.Conv1d(12, 5, 1)
        elif kind == "adapter":
            parts = dict(base=nn.Linear(12, 5), down=nn.Linear(12, 2), up=nn.Linear(2, 5))
            self.classifier = Adapted(nn.ModuleDict(parts))
        elif kind == "labels by two":
            self.classifier = nn.Linear(12, 10)
        elif kind == "prototypes":
            self.flat, self.centres = nn.Flatten(), nn.Parameter(torch.randn(5, 12))
        elif kind != "encoder":
            self.classifier = nn.Linear(12, 5)
        if kind == "never run":
            self.projector = nn.Linear(5, 3)
        if kind == "pyramid":
            self.down = nn.Conv2d(12, 9, 2, 2)

    def forward(self, x):
        if self.kind == "one axis":
            return self.classifier(self.blocks(self.stem(x).flatten(2))).mean(2)
        x = self.blocks(self.stem(x))
        if self.kind == "pyramid":
            return [x, self.down(x)]
        if self.kind == "encoder":
            return x.flatten(2).transpose(1, 2)
        if self.kind == "convolution":
            return self.classifier(x).mean((2, 3))
        if self.kind == "activation in place":
            return self.act(self.classifier(x)).mean((2, 3))
        x = x.mean((2, 3))
        if self.kind == "cosine":
            return 9 * F.linear(F.normalize(self.flat(x)), F.normalize(self.weight))
        if self.kind == "two heads":
            return (self.heads[0](self.norms[0](x)) + self.heads[1](self.norms[1](2 * x))) / 2
        if self.kind == "two widths":
            return torch.stack([self.heads[0](x), self.heads[1](x[:, :7])]).mean(0)
        if self.kind == "prototypes":
            return -torch.cdist(self.flat(x), self.centres)
        if self.kind == "labels by two":
            return self.classifier(x).reshape(-1, 5, 2)
        return self.classifier(x)

class Adapted(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        return self.parts["base"](x) + self.parts["up"](self.parts["down"](x))

def form(kind):
    network = Form(kind).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "compiled":
            network = torch.compile(network, backend="eager")
            network(torch.zeros(2, 1, 8, 8))
        if kind == "compiled in parts":
            network.blocks = torch.compile(network.blocks, backend="eager")
            network(torch.zeros(2, 1, 8, 8))
        if kind == "traced":
            network = torch.jit.trace(network, torch.zeros(2, 1, 8, 8))
    return network

pretrained_cfg = {"mean": (0.0,), "std": (1.0,), "input_size": (1, 8, 8)}
"""
EXPECTED = {
    "linear": ("classifier:input", 12),
    "never run": ("classifier:input", 12),
    "convolution": ("classifier:input", 12),
    "activation in place": ("classifier:input", 12),
    "cosine": ("flat", 12),
    "two heads": ("heads.0:input+heads.1:input", 12),
    "two widths": ("heads.0:input&heads.1:input", 19),
    "pyramid": ("down", 9),
    "encoder": ("output", 12),
    "one axis": ("classifier:input", 12),
    "adapter": ("classifier:input", 12),
    "labels by two": ("classifier:input", 12),
    "prototypes": ("flat", 12),
    "compiled": ("classifier:input", 12),
    "compiled in parts": ("classifier:input", 12),
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("forms") / "forms.py"
    file.write_text(FORMS)
    return f"{file}:form"


@pytest.fixture
def _no_learning_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which `advise` draws when it has long chosen the feature."""
    monkeypatch.setattr("lowdim.finetuning._advise._learning_curve", lambda *_: ([], None))


@pytest.mark.usefixtures("_no_learning_curve")
@pytest.mark.parametrize("kind", EXPECTED)
def test_all_commands_take_the_same(spec: str, kind: str, tmp_path: Path) -> None:
    data = load_data("digits-0-4", shots=3, limit=30)
    network = load_model(spec, arguments={"kind": kind})
    measured = profile(network, data, splits=["train"]).feature
    candidate = Candidate(name="one", model=spec, options={"arguments": {"kind": kind}})
    ranked = rank([candidate], data, probe=False).places[0].evaluation
    advised = advise([lambda: network], data, tmp_path / "advise", shots=[], outliers=0).features[spec]
    tuned = finetune(network, data, method="layer", layer="stem", epochs=1)
    assert measured == ranked.feature == advised == tuned.as_dict()["feature"]
    assert (measured["layer"], measured["width"]) == (ranked.layer, ranked.width) == EXPECTED[kind]
    tuned.save(tmp_path / "delta", network)
    again = load_delta(load_model(spec, arguments={"kind": kind}).module, tmp_path / "delta")
    inputs = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(inputs), tuned.model(inputs), rtol=0, atol=0)


TEXT_FORMS = {
    "BERT": ("bert", {}, "encoder.layer.1", "avg"),
    "BERT with a head": ("bert", {"head": True}, "classifier:input", "avg"),
    "GPT-2 with a head": ("gpt2", {"head": True, "pad": False, **GPT2}, "score:input", "last"),
    "T5": ("t5", SEQ2SEQ, "final_layer_norm", "avg"),
    "sentence encoder": ("bert", {}, "encoder.layer.1", "cls"),
}


@pytest.mark.usefixtures("_no_learning_curve")
@pytest.mark.parametrize("form", TEXT_FORMS)
def test_all_commands_take_the_same_of_texts(form: str, tmp_path: Path) -> None:
    family, options, layer, pool = TEXT_FORMS[form]
    save(tmp_path / "net", family, **options)
    if form == "sentence encoder":
        (tmp_path / "net" / "1_Pooling").mkdir()
        (tmp_path / "net" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    lines = [f"{'how many' if k % 2 else 'a b'} {'cats ' * (1 + k % 5)}b{' a' * (k // 10)},{k % 2}" for k in range(30)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]))
    data, spec = load_data(str(tmp_path / "texts.csv")), f"hf:{tmp_path / 'net'}"
    network = load_model(spec)
    measured = profile(network, data, splits=["train"]).feature
    ranked = rank([Candidate(name="one", model=spec)], data, probe=False).places[0].evaluation.feature
    advised = advise([lambda: network], data, tmp_path / "advise", shots=[], outliers=0).features[spec]
    tuned = finetune(network, data, method="linear-probe").as_dict()["feature"]
    assert measured == ranked == advised == tuned
    assert (measured["layer"], measured["pool"], measured["width"]) == (layer, pool, 16)


@pytest.mark.parametrize("kind", ["linear", "convolution", "two heads", "two widths", "one axis", "adapter"])
def test_a_new_head_stands_where_the_old_ones_stood(spec: str, kind: str, tmp_path: Path) -> None:
    base = load_model(spec, arguments={"kind": kind})
    inputs = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tuned = TunedModel(base.module, Plan("linear-probe"), 3, inputs).eval()
    with torch.no_grad():
        tuned.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    save_checkpoint(
        tuned, base.module, tmp_path / "w.safetensors", classes="abc", preprocessing=base.preprocessing, example=inputs
    )
    with torch.no_grad():
        there = with_heads(base.module, heads_for(base.module, tuned.feature, tuned.head))(inputs)
        torch.testing.assert_close(there, tuned(inputs))


def test_where_there_is_no_place_a_checkpoint_is_refused(spec: str) -> None:
    base = load_model(spec, arguments={"kind": "cosine"}).module
    with pytest.raises(InputError, match="no head whose place"):
        heads_for(base, find_feature(base, torch.randn(2, 1, 8, 8)), nn.Linear(12, 3))


def test_a_traced_network_is_one_clear_error(spec: str) -> None:
    with pytest.raises(InputError, match="traced or scripted"):
        load_model(spec, arguments={"kind": "traced"})


def test_a_block_after_the_feature_cannot_be_trained(spec: str) -> None:
    network = load_model(spec, arguments={"kind": "linear"}, feature="stem")
    with pytest.raises(InputError, match="comes after the feature"):
        finetune(network, load_data("digits-0-4", shots=3, limit=20), method="layer", layer="blocks.1")


def test_a_delta_says_where_its_feature_is(spec: str, tmp_path: Path) -> None:
    network = load_model(spec, arguments={"kind": "linear"}, feature="blocks.0", pool="flatten")
    tuned = finetune(network, load_data("digits-0-4", shots=3, limit=20), method="linear-probe")
    tuned.save(tmp_path, network)
    found = read_delta(tmp_path).feature
    assert found is not None
    assert (found.layer, found.pool, found.width) == ("blocks.0", "flatten", 432)
    assert load_delta(network.module, tmp_path)(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


def test_a_delta_of_an_earlier_version_finds_its_head_by_names(spec: str, tmp_path: Path) -> None:
    network = load_model(spec, arguments={"kind": "linear"})
    tuned = finetune(network, load_data("digits-0-4", shots=3, limit=20), method="layer", layer="blocks.0", epochs=1)
    tuned.save(tmp_path, network)
    content = {
        name: value for name, value in read_json(tmp_path / "delta.json").items() if name not in ("feature", "sha256")
    }
    write_checked(tmp_path / "delta.json", content)
    again, inputs = load_delta(network.module, tmp_path), torch.randn(3, 1, 8, 8)
    assert again.feature.why == "found by the names of modules"
    with torch.no_grad():
        torch.testing.assert_close(again(inputs), tuned.model(inputs), rtol=0, atol=0)


def test_a_layer_that_is_never_reached_is_an_error(spec: str) -> None:
    network = load_model(spec, arguments={"kind": "never run"})
    with pytest.raises(InputError, match="projector never runs"):
        profile(network, load_data("digits-0-4", limit=40), layers="projector")


def test_the_samples_are_named_on_which_a_network_fails() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if float(x.max()) > 8:
                raise KeyError("too bright")
            return self.head(x)

    rows = torch.arange(20.0).reshape(10, 2)
    with pytest.raises(
        InputError, match=r"At samples 4 to 7: The network fails on inputs of shape 4 x 2: KeyError: 'too bright'"
    ):
        profile(Picky(), (rows, torch.from_numpy(np.arange(10) % 2)), batch_size=4)


class AsksItsHead(nn.Module):
    """Asks its classifier for its precision, place and width, as published code does."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.body(inputs).relu().to(self.head.weight.device, self.head.weight.dtype)
        assert next(self.head.parameters()).dtype == hidden.dtype
        return self.head(hidden.reshape(-1, self.head.in_features)) * self.head.weight.abs().max().sign()


@pytest.mark.parametrize("method", ["linear-probe", "full"])
def test_a_network_that_asks_its_classifier(method: str, tmp_path: Path) -> None:
    network = AsksItsHead().eval()
    inputs, labels = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    given = {} if method == "linear-probe" else {"epochs": 1}
    tuned = lowdim.finetune(network, (inputs, labels), method=method, out=tmp_path / "run", **given)
    again = lowdim.load_delta(network, tmp_path / "run" / "delta")
    assert again(inputs).shape == (20, 2)
    assert tuned.exit_code == 0
    assert not any("head.weight" in name for name in again.state_dict() if name.startswith("base"))
