"""The frozen head as a method: saved, exported, for images, tokens and class tokens."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.finetuning.conftest import Encoder
from tests.finetuning.test_delta import saved
from torch import nn

from lowdim._files import load_tensors
from lowdim._job import Job
from lowdim.data import Dataset, dataset_from_arrays, load_data
from lowdim.finetuning import Plan, TunedModel, export_model, finetune, make_plan, read_delta
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._blocks import plan_of
from lowdim.finetuning._choice import choose_method, gather_evidence, probe_plan
from lowdim.finetuning._delta import apply_delta, example_of, save_delta
from lowdim.finetuning._evaluate import set_head, split_outputs
from lowdim.finetuning._plan import Options
from lowdim.finetuning.methods import method_named
from lowdim.models import LoadedModel, find_feature, load_model
from lowdim.probe import FrozenHead, fit_probe


def test_what_was_stored_is_what_the_network_gives(bench: Bench) -> None:
    fitted = bench.fit(probe_plan(bench))
    assert fitted.model.layers == ("blocks.3", "blocks.4", "blocks.5")
    logarithms, features = split_outputs(fitted.model, bench.train, bench.network.preprocessing)
    assert features is not None
    np.testing.assert_allclose(fitted.features(), features, atol=1e-5)
    np.testing.assert_allclose(fitted.log_probabilities(), logarithms, atol=1e-4)
    assert (logarithms.argmax(axis=1) == bench.labels).mean() > 0.9


def test_the_network_classifies_as_the_fit_did_however_large_its_biases_are(tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), np.arange(120) % 3
    rows = random.normal(size=(3, 5))[labels] + 0.3 * random.normal(size=(120, 5)) + 300
    rows = rows.astype(np.float32)
    data = replace(dataset_from_arrays(rows, labels, rows, labels), classes=("0", "1", "2", "without samples"))
    fitted = Bench(load_model("features"), data, Job(folder=tmp_path)).fit(Plan("linear-probe"))
    biases = fitted.model.head.bias.tolist()
    assert min(biases[:3]) < -30
    right = fit_probe(rows, labels, classes=4).probe.log_probabilities(rows)
    np.testing.assert_allclose(fitted.log_probabilities()[:, :3], right[:, :3], atol=0.01)
    assert fitted.log_probabilities()[:, 3].max() < -1000


def test_a_frozen_head_far_from_zero_is_the_heads_own(network: LoadedModel) -> None:
    model = TunedModel(network.module, make_plan(network.module, "linear-probe"), 3, torch.rand(4, 1, 8, 8))
    width = model.head.weight.shape[1]
    none = np.zeros((3, 3))
    head = FrozenHead(np.ones((3, width)), np.array([-80.0, -75.0, -np.inf]), 0.0, 0.0, 1.0, 0.0, none)
    set_head(model, head)
    rows = np.zeros((1, width))
    with torch.no_grad():
        found = model.head(torch.zeros(1, width)).log_softmax(dim=1).numpy()
    np.testing.assert_allclose(found[0, :2], head.log_probabilities(rows)[0, :2], rtol=1e-6)
    assert np.isfinite(found[0, 2]) and found[0, 2] < -1000


@pytest.mark.parametrize("target", ["torch", "onnx"])
def test_the_layers_are_in_the_delta_and_the_export(target: str, bench: Bench, tmp_path: Path) -> None:
    if target == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    model = bench.fit(probe_plan(bench)).model
    delta = read_delta(saved(model, bench.network, tmp_path / "delta"))
    again, inputs = apply_delta(bench.network.module, delta), torch.rand(5, 1, 8, 8)
    assert torch.equal(again(inputs), model(inputs))
    assert {name.partition("/")[2] for name in delta.tensors} == {"head.weight", "head.bias"}
    example = example_of(delta)
    cropped = replace(bench.network.preprocessing, crop=0.875)
    assert export_model(model, delta, cropped, tmp_path / "f", to=target, example=example) <= 1e-5  # type: ignore[arg-type]
    if target == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "f")
        assert session.get_modelmeta().custom_metadata_map["resized"] == "[9, 9]"


def test_mirror_images_are_averaged_in_prediction_too(network: LoadedModel) -> None:
    plan = make_plan(network.module, "probe")
    inputs = torch.rand(4, 1, 8, 8)
    both = TunedModel(network.module, plan, 3, inputs).eval()
    one = TunedModel(network.module, replace(plan, mirror=False), 3, inputs).eval()
    with torch.no_grad():
        torch.testing.assert_close(both.features(inputs), both.features(inputs.flip(3)))
        torch.testing.assert_close(both.features(inputs), (one.features(inputs) + one.features(inputs.flip(3))) / 2)


def test_classes_that_are_mirror_images_stay_apart(network: LoadedModel, tmp_path: Path) -> None:
    images = load_data("digits", shots=12, limit=50)
    threes = [index for index, label in enumerate(images["train"].labels) if images.classes[label] in "27"]
    split = images["train"].take(np.repeat(threes, 2))
    labels = np.arange(len(split)) % 2
    turned = replace(split, labels=labels, read=_Turned(split))
    data = replace(images, splits={"train": turned}, classes=("as is", "mirrored"))
    fitted = Bench(network, data, Job(folder=tmp_path)).fit(make_plan(network.module, "probe"))
    assert not fitted.model.plan.mirror
    assert fitted.head is not None and fitted.head.accuracy > 0.75


class _Turned:
    """Every second image mirrored."""

    def __init__(self, split: object) -> None:
        self.split = split

    def __call__(self, index: int) -> object:
        image = self.split.load(index)  # type: ignore[attr-defined]
        return image.transpose(0) if index % 2 else image


def test_tokens(encoder: Encoder) -> None:
    example = {
        "input_ids": torch.randint(0, 50, (3, 6)),
        "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 3 + [0] * 3]),
    }
    plan = plan_of(method_named("probe"), encoder, Options(), find_feature(encoder, example))
    model = TunedModel(encoder, plan, 4, example).eval()
    # The last block's output is the feature already; half of the three remain.
    assert model.layers == ("layers.1",)
    with torch.no_grad():
        features = model.features(example)
        assert features.shape == (3, 32)
        torch.testing.assert_close(features[:, :16].norm(dim=1), torch.ones(3))
        short = {name: tensor[2:, :3] for name, tensor in example.items()}
        torch.testing.assert_close(model.features(short), features[2:], atol=1e-5, rtol=1e-5)


def test_class_token_and_mean_of_each_block() -> None:
    timm = pytest.importorskip("timm")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=4, num_classes=7).eval()
    images = torch.randn(2, 3, 32, 32)
    model = TunedModel(vit, make_plan(vit, "probe"), 5, images).eval()
    assert model.layers == ("blocks.2", "blocks.3")
    with torch.no_grad():
        assert model.features(images).shape == (2, 192 * (1 + 2 * 2))


def test_a_layer_without_features_is_left_out() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(4))
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.blocks[1](self.blocks[0](x)) + self.blocks[2](x))

    network, inputs = Odd().eval(), torch.rand(3, 4)
    plan = replace(make_plan(network, "probe"), layers=("blocks.2", "blocks.3"))
    assert TunedModel(network, plan, 2, inputs).layers == ("blocks.2",)


@pytest.mark.parametrize("copies", [1, 2])
def test_one_sample_per_class_gives_a_head_that_nothing_is_expected_of(
    network: LoadedModel, tmp_path: Path, copies: int
) -> None:
    split = load_data("digits-5-9", limit=200)["train"]
    first = np.tile([int(np.flatnonzero(split.labels == label)[0]) for label in range(5)], copies)
    tuned = finetune(
        network,
        Dataset(name="five", kind="image", classes=tuple("56789"), splits={"train": split.take(first)}),
        method="probe",
    )
    assert tuned.accuracy["train"] == 1 and tuned.known is None
    tuned.save(tmp_path, network)
    assert read_delta(tmp_path).known is None


def test_what_is_known_of_the_samples_is_in_the_delta(bench: Bench, tmp_path: Path) -> None:
    fitted = bench.fit(probe_plan(bench))
    assert fitted.known is not None and fitted.head is not None
    network = bench.network
    save_delta(
        fitted.model,
        network.module,
        tmp_path,
        method="probe",
        classes=bench.class_names,
        preprocessing=network.preprocessing,
        example=bench.example,
        known=fitted.known,
    )
    again = read_delta(tmp_path).known
    assert again is not None
    assert again.threshold == fitted.known.threshold
    strange = [one.strangeness(fitted.features(), fitted.head.heldout) for one in (fitted.known, again)]
    np.testing.assert_allclose(strange[1], strange[0], rtol=1e-4, atol=1e-4)
    arrays, _ = load_tensors(tmp_path / "delta.safetensors")
    assert arrays["known/means"].shape == (10, fitted.features().shape[1])


def test_the_evidence_of_the_frozen_head_is_its_own(bench: Bench) -> None:
    fitted = bench.fit(probe_plan(bench))
    assert fitted.head is not None and bench.fit(probe_plan(bench)) is fitted
    gathered = gather_evidence(bench, baseline=False)
    np.testing.assert_array_equal(gathered.probe.correct, fitted.head.correct(bench.labels))
    assert gathered.probe.accuracy == fitted.head.accuracy and gathered.probe.seconds > 0


def test_no_rung_is_begun_after_the_time(data: Dataset, network: LoadedModel, tmp_path: Path) -> None:
    bench = Bench(network, data, Job(folder=tmp_path), changes={"epochs": 1})
    plan = make_plan(network.module, "layer", layer="blocks.1")
    gathered = gather_evidence(bench, plan, [plan], folds=3, baseline=False, until=0.0)
    assert gathered.block is None and not gathered.also
    assert choose_method(gathered)[0] is gathered.probe


def test_a_worse_block_is_not_trained_on_further_folds(data: Dataset, network: LoadedModel, tmp_path: Path) -> None:
    bench = Bench(network, data, Job(folder=tmp_path), changes={"epochs": 1, "rate": 1.0, "head_rate": 1.0})
    gathered = gather_evidence(bench, make_plan(network.module, "layer", layer="blocks.1"), folds=3, baseline=False)
    assert gathered.block is not None
    assert np.isfinite(gathered.block.correct).mean() == pytest.approx(1 / 3, abs=0.05)
    # What stands in the table agrees with the comparison of pairs.
    assert gathered.block.accuracy < gathered.probe.accuracy
