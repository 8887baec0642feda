import copy
import json
import threading

import numpy as np
import pytest
import torch
from torch import nn

import oracles
from lowdim._processes import Processes
from lowdim.data import dataset_from_arrays
from lowdim.errors import InputError, NonFiniteError, UsageError
from lowdim.features import FeatureCache, FeatureStream, Forward, TensorSource
from lowdim.metrics import METRICS, Metric
from lowdim.profiling import CollapseMonitor, profile, separation_law
from lowdim.profiling import _passes as passes
from lowdim.profiling._passes import halves, subsample
from lowdim.report.profile import layer_table
from problems import blobs


def network(width=6, classes=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(inplace=True), nn.Linear(10, classes)
        ).double()


def problem(per_class=(5, 8, 11, 16), width=6, seed=0, noise=0.5):
    features, labels = blobs(len(per_class), width, per_class, seed=seed, noise=noise)
    return torch.from_numpy(features), torch.from_numpy(labels)


def by_hand(module, inputs):
    """Features of the layers 1, 3 and 4:input (the same as 3 after its ReLU) and the scores."""
    with torch.no_grad():
        first = module[1](module[0](inputs))
        second = torch.relu(module[2](first))
        return {"1": first.numpy(), "3": second.numpy(), "4:input": second.numpy()}, module[4](second).numpy()


def assert_layer(layer, features, labels, classes, weighting="pooled", unbiased=False):
    arguments = features, labels, classes
    rel = {"rel": 1e-9}
    assert layer.nc1 == pytest.approx(oracles.nc1(*arguments, weighting, unbiased), **rel)
    assert layer.separation == pytest.approx(oracles.separation(*arguments, weighting, unbiased), **rel)
    assert layer.cdnv == pytest.approx(oracles.cdnv(*arguments), **rel)
    assert layer.discrimination == pytest.approx(oracles.discrimination(*arguments), **rel)
    assert layer.nc2["equinorm"] == pytest.approx(oracles.equinorm(*arguments), **rel)
    assert layer.nc2["equiangularity"] == pytest.approx(oracles.equiangularity(*arguments), **rel)
    assert layer.nc2["etf_distance"] == pytest.approx(oracles.etf_distance(*arguments), **rel)
    assert layer.effective_rank == pytest.approx(oracles.effective_rank(features - features.mean(axis=0)), **rel)
    half = np.zeros(len(labels), dtype=int)
    for k in range(classes):
        half[np.flatnonzero(labels == k)[1::2]] = 1
    parts = [(features[half == p], labels[half == p], features[half != p], labels[half != p], classes) for p in (0, 1)]
    expected = np.mean([oracles.nc1_heldout(*part, weighting=weighting) for part in parts])
    assert layer.nc1_heldout == pytest.approx(expected, **rel)
    counts = np.bincount(labels)
    assert (layer.samples, layer.min_per_class, layer.max_per_class) == (len(labels), counts.min(), counts.max())
    assert (layer.width, layer.weighting, layer.unbiased) == (features.shape[1], weighting, unbiased)
    spectrum = np.linalg.eigvalsh(oracles.between_scatter(*arguments))[::-1][: layer.rank]
    np.testing.assert_allclose(layer.spectrum, spectrum / spectrum.sum(), rtol=1e-7)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_training_samples_and_their_copies_are_left_out_of_the_mean_of_their_class(batch_size):
    """Against means computed anew for every sample; what is alone in its class is not told."""
    module = network()
    inputs, labels = problem((1, 6, 9, 12), noise=1.5)
    inputs[3:5] = inputs[2]  # three copies of one in the second class
    found = profile(module, {"train": (inputs, labels), "test": problem((3, 3, 3, 3), seed=1)}, batch_size=batch_size)
    for name, features in by_hand(module, inputs)[0].items():
        right = []
        for row, own in zip(features, labels.tolist(), strict=True):
            kept = (features != row).any(axis=1) | (labels.numpy() != own)
            if (labels.numpy()[kept] == own).any():
                means = {
                    k: features[kept & (labels.numpy() == k)].mean(axis=0)
                    for k in range(4)
                    if (labels.numpy()[kept] == k).any()
                }
                right.append(min(means, key=lambda k: ((row - means[k]) ** 2).sum()) == own)
        of_train, of_test = (
            next(one for one in found.layers if (one.name, one.split) == (name, s)) for s in ("train", "test")
        )
        assert len(right) == 27
        assert of_train.ncc_left_out == pytest.approx(np.mean(right))
        assert of_train.ncc_left_out < of_train.ncc_accuracy
        assert of_test.ncc_left_out is None


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_number_is_its_definition_on_train_and_test(batch_size):
    module = network()
    data = {"train": problem(), "test": problem((4, 9, 6, 7), seed=1)}
    found = profile(module, data, batch_size=batch_size)
    train_means = {}
    for split, (inputs, labels) in data.items():
        features, scores = by_hand(module, inputs)
        labels = labels.numpy()
        layers = [layer for layer in found.layers if layer.split == split]
        assert [layer.name for layer in layers] == ["1", "3", "4:input"]
        for layer in layers:
            assert_layer(layer, features[layer.name], labels, 4)
            if split == "train":
                train_means[layer.name] = oracles.class_means(features[layer.name], labels, 4)
            nearest = oracles.nearest_mean(features[layer.name], train_means[layer.name])
            assert layer.ncc_accuracy == pytest.approx(np.mean(nearest == labels))
        assert found.accuracy[split] == pytest.approx(np.mean(scores.argmax(axis=1) == labels))
        head = found.head_by_split[split]
        nearest = oracles.nearest_mean(features["4:input"], train_means["4:input"])
        assert head["nc4"] == pytest.approx(np.mean(nearest != scores.argmax(axis=1)))
        weight = module[4].weight.detach().numpy()
        assert head["nc3"] == pytest.approx(oracles.nc3(weight, features["4:input"], labels, 4), rel=1e-9)
        slope = np.polyfit(range(3), [np.log(layer.separation) for layer in layers], 1)[0]
        assert found.law[split].slope == pytest.approx(slope, rel=1e-9)
    assert found.head == found.head_by_split["train"]


@pytest.mark.parametrize(
    ("weighting", "unbiased"), [("class_balanced", False), ("pooled", True), ("class_balanced", True)]
)
def test_variants_reach_every_value(weighting, unbiased):
    module, data = network(), problem()
    found = profile(module, data, weighting=weighting, unbiased=unbiased)
    features, _ = by_hand(module, data[0])
    for layer in found.layers:
        assert_layer(layer, features[layer.name], data[1].numpy(), 4, weighting, unbiased)


def test_size_weighting_is_carried_through():
    found = profile(network(), problem(), weighting="size_weighted")
    assert {layer.weighting for layer in found.layers} == {"size_weighted"}
    plain = profile(network(), problem())
    assert all(one.nc1 != pytest.approx(two.nc1, rel=1e-3) for one, two in zip(found.layers, plain.layers, strict=True))
    assert not [warning for warning in found.warnings if "another weighting" in warning]


def same(first, second, rtol=1e-12):
    """Compares two profiles number by number."""
    compare(first.as_dict(), second.as_dict(), rtol)


def compare(one, two, rtol, where=""):
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            compare(one[key], two[key], rtol, f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            compare(a, b, rtol, f"{where}[{index}]")
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=rtol, abs=1e-15), where
    else:
        assert one == two, where


def test_no_budget_and_no_folder_change_nothing(tmp_path):
    module, data = network(), problem()
    expected = profile(module, data, outliers=5)
    same(expected, profile(module, data, outliers=5, cache_budget=0), 0)
    same(expected, profile(module, data, outliers=5, folder=tmp_path), 0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    same(expected, profile(module, data, outliers=5, folder=tmp_path), 0)


def test_a_folder_keeps_other_networks_and_data_apart(tmp_path):
    module, data = network(), problem()
    before = profile(module, data, folder=tmp_path)
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    same(profile(module, data), profile(module, data, folder=tmp_path), 0)
    assert before.layers[0].nc1 != profile(module, data, folder=tmp_path).layers[0].nc1
    other = (2 * data[0], data[1])
    same(profile(module, other), profile(module, other, folder=tmp_path), 0)


def test_what_a_killed_run_left_is_used_and_layers_keep_their_order(tmp_path):
    """Layers whose names do not sort in the order of computation; a third of the batches is there already."""

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.zebra, self.middle, self.apple = nn.Linear(6, 9), nn.Linear(9, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.apple(torch.relu(self.middle(torch.relu(self.zebra(x)))))

    torch.manual_seed(0)
    module, data = Backwards().double(), problem()
    options = {"layers": ["apple", "middle", "zebra"], "batch_size": 8}
    expected = profile(module, data, folder=tmp_path / "a", **options)
    assert [layer.name for layer in expected.layers] == ["zebra", "middle", "apple"]
    files = sorted((tmp_path / "a").rglob("*.safetensors"))
    for file in files[1::2]:
        file.unlink()
    same(expected, profile(module, data, folder=tmp_path / "a", **options), 0)


class Together(Processes):
    """Processes that are threads: the arithmetic of a job without its launch."""

    def gather(self, value):
        board, barrier = BOARD
        board[self.index] = copy.deepcopy(value)
        barrier.wait(60)
        values = copy.deepcopy(board)
        barrier.wait(60)
        return values


BOARD = None


def together(count, module, data, **options):
    global BOARD
    BOARD = [None] * count, threading.Barrier(count)
    results = [None] * count

    def run(rank):
        results[rank] = profile(copy.deepcopy(module), data, processes=Together(rank, count), **options)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_sample_is_read_by_exactly_one_process(count, tmp_path):
    labels = np.zeros(50, dtype=np.int64)
    for samples in range(51):
        source = TensorSource(torch.zeros(samples, 1), torch.from_numpy(labels[:samples]))
        forward = Forward(nn.Identity(), [], torch.device("cpu"))
        for batch_size in (1, 2, 7, 64):
            options = {"batch_size": batch_size, "cache": FeatureCache(tmp_path, 0), "content": "nothing"}
            read = [
                batch.positions
                for rank in range(count)
                for batch in FeatureStream(forward, source, source.labels, processes=Processes(rank, count), **options)
            ]
            assert sorted(np.concatenate([*read, []])) == list(range(samples))


SOME = {2: (2, 3, 13), 3: (2, 4, 5, 30), 4: (3, 8, 13, 50)}
"""Fewer samples than processes, shares of unequal size, batches of one, two and three."""


@pytest.mark.parametrize(
    ("count", "numbers"),
    [
        *SOME.items(),
        *(pytest.param(n, range(2, 51), marks=pytest.mark.slow) for n in (2, 3, 4)),
    ],
)
def test_any_number_of_processes_gives_the_numbers_of_one(count, numbers):
    """Batches of one to three samples, so that shares are uneven and some processes get nothing."""
    module, generator = network(), np.random.default_rng(0)
    inputs, labels = problem((20, 20, 20, 20))
    for samples in numbers:
        rows = torch.from_numpy(np.concatenate([[0], generator.permutation(np.arange(1, 80))[: samples - 1]]))
        data = inputs[rows], labels[rows] if samples > 4 else torch.arange(samples) % 2
        options = {"batch_size": 1 + samples % 3, "layers": ["1", "4:input"], "outliers": 3}
        if len(data[1].unique()) < 2:
            continue
        alone = profile(module, data, **options)
        assert alone.data[0]["samples"] == samples
        for found in together(count, module, data, **options):
            same(alone, found)


def test_half_the_run_with_another_number_of_processes(tmp_path):
    module, data = network(), problem()
    options = {"batch_size": 4, "folder": tmp_path}
    alone = profile(module, data, batch_size=4)
    together(3, module, data, **options)
    for file in sorted(tmp_path.rglob("*.safetensors"))[2:]:
        file.unlink()
    for found in together(2, module, data, **options):
        same(alone, found)


def test_a_sample_that_is_not_finite_is_left_out_and_reported():
    """NaN in one sample of class 2 changes nothing for the others."""
    module, (inputs, labels) = network(), problem()
    row = int(torch.nonzero(labels == 2)[0])
    for value in (float("nan"), float("inf")):
        bad = inputs.clone()
        bad[row, 0] = value
        found = profile(module, (bad, labels))
        keep = torch.arange(len(labels)) != row
        features, scores = by_hand(module, inputs[keep])
        for layer in found.layers:
            assert layer.nc1 == pytest.approx(oracles.nc1(features[layer.name], labels[keep].numpy(), 4), rel=1e-9)
            assert layer.samples == len(labels) - 1
        assert [warning for warning in found.warnings if "1 of 40 samples have NaN" in warning] == [
            f"train: 1 of 40 samples have NaN, infinite or overflowing features and are left out at every layer: row {row}."
        ]
        right = (scores.argmax(axis=1) == labels[keep].numpy()).sum()
        assert found.accuracy["train"] == pytest.approx(right / 39), "scores of NaN are neither right nor wrong"


def test_a_network_that_makes_numbers_of_nan_hides_nothing():
    """Infinite inputs saturate to ordinary features; they are no measurements all the same."""
    (inputs, labels), module = problem(), nn.Sequential(nn.Tanh(), nn.Linear(6, 4).double())
    bad = inputs.clone()
    bad[[1, 5], 2] = float("inf")
    keep = torch.tensor([row not in (1, 5) for row in range(len(labels))])
    options = {"layers": ["0"], "seed": 3}
    found, expected = (
        profile(module, (bad, labels), **options),
        profile(module, (inputs[keep], labels[keep]), **options),
    )
    assert found.layers[0].samples == 38
    assert found.layers[0].nc1 == pytest.approx(expected.layers[0].nc1, rel=1e-12)


def test_nothing_left_is_an_error():
    inputs, labels = problem()
    with pytest.raises(NonFiniteError, match="No sample of the train split has finite features at any layer"):
        profile(network(), (inputs * float("nan"), labels))


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e300, 1e-300])
def test_measures_do_not_depend_on_the_scale_of_saved_features(scale):
    inputs, labels = problem()
    parts = {"train": (inputs.double(), labels), "test": (inputs.flip(0).double() + 0.1, labels.flip(0))}
    plain = profile(nn.Sequential(nn.Identity()), parts, layers=["0"], outliers=3)
    scaled = {name: (x * scale, y) for name, (x, y) in parts.items()}
    found = profile(nn.Sequential(nn.Identity()), scaled, layers=["0"], outliers=3)
    for one, other in zip(plain.layers, found.layers, strict=True):
        for name in (
            "nc1",
            "nc1_heldout",
            "nc1_chance",
            "separation",
            "ncc_accuracy",
            "cdnv",
            "effective_rank",
            "rank",
        ):
            assert other.values[name] == pytest.approx(one.values[name], rel=1e-9), name
    assert [one.position for one in found.outliers] == [one.position for one in plain.outliers]
    assert any("divided by 2^" in warning for warning in found.warnings)


def test_one_huge_sample_is_reported():
    module, (inputs, labels) = network(), problem()
    inputs = inputs.clone()
    inputs[3] = 1e30
    found = profile(module, (inputs, labels))
    assert any("span 1 of 3 possible directions" in warning and "huge sample" in warning for warning in found.warnings)
    assert any("sampling noise" in warning for warning in found.warnings)


def test_problems_without_a_value_are_reported_not_invented():
    inputs, labels = problem()
    with pytest.raises(InputError, match="samples of one class"):
        profile(network(), (inputs, torch.zeros_like(labels)))
    with pytest.raises(InputError, match="has no samples"):
        profile(network(), (inputs[:0], labels[:0]))
    one_each = torch.stack([inputs[labels == k][0] for k in range(4)])
    found = profile(network(), (one_each, torch.arange(4)))
    for layer in found.layers:
        assert (layer.nc1, layer.nc1_heldout, layer.nc1_chance, layer.separation, layer.cdnv) == (None,) * 5
    assert any("single sample" in warning for warning in found.warnings)
    assert found.law == {}
    assert found.classes == []
    constant = profile(network(), (torch.ones_like(inputs), labels))
    for layer in constant.layers:
        assert (layer.nc1, layer.nc1_chance, layer.nc1_heldout, layer.separation, layer.nc2) == (None,) * 5
        assert layer.effective_rank == 0
        assert layer.cdnv is None
    assert any("constant" in warning for warning in constant.warnings)
    json.dumps(found.as_dict(), allow_nan=False)
    json.dumps(constant.as_dict(), allow_nan=False)


def test_bad_labels_and_layers_are_refused():
    inputs, labels = problem()
    for bad in (labels.double(), labels[:-1], labels.unsqueeze(1)):
        with pytest.raises(InputError, match="one integer label per input"):
            profile(network(), (inputs, bad))
    with pytest.raises(InputError, match="negative labels"):
        profile(network(), (inputs, labels - 1))
    with pytest.raises(UsageError, match="No layer matches 'layer9'"):
        profile(network(), (inputs, labels), layers="layer9")

    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x.sum(dim=0, keepdim=True))

    with pytest.raises(InputError, match="gives 1 rows for"):
        profile(Sums(), (inputs, labels), layers="inner")


def test_labels_with_gaps_are_the_classes_that_are_there():
    module, (inputs, labels) = network(classes=7), problem()
    gapped = torch.tensor([0, 2, 3, 6])[labels]
    found = profile(module, (inputs, gapped), outliers=40)
    plain = profile(network(), (inputs, labels), outliers=40)
    features, scores = by_hand(module, inputs)
    assert found.layers[0].nc1 == pytest.approx(oracles.nc1(features["1"], labels.numpy(), 4), rel=1e-9)
    assert found.accuracy["train"] == pytest.approx(np.mean(scores.argmax(axis=1) == gapped.numpy()))
    assert "left out: '1', '4', '5'" in found.warnings[0]
    assert {entry.name for entry in found.classes} == {"0", "2", "3", "6"}
    assert [entry.position for entry in found.outliers] == [entry.position for entry in plain.outliers]
    assert {entry.class_ for entry in found.outliers} <= {"0", "2", "3", "6"}


def test_a_head_for_other_classes_says_nothing():
    found = profile(network(classes=9), problem())
    assert (found.accuracy, found.head) == ({}, {})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_measured_and_named(dtype):
    module, (inputs, labels) = network().to(dtype), problem()
    found = profile(module, (inputs.to(dtype), labels), batch_size=40)
    with torch.no_grad():
        features = torch.relu(module[0](inputs.to(dtype))).double().numpy()
    assert found.layers[0].dtype == str(dtype).removeprefix("torch.")
    assert found.layers[0].nc1 == pytest.approx(oracles.nc1(features, labels.numpy(), 4), rel=1e-6)


def test_fewer_samples_than_features_and_more_classes_than_dimensions():
    features, labels = blobs(6, 50, 3)
    wide = profile(nn.Sequential(nn.Identity()), (torch.from_numpy(features), torch.from_numpy(labels)), layers="0")
    assert wide.layers[0].rank == 5
    assert wide.layers[0].nc1 == pytest.approx(oracles.nc1(features, labels, 6), rel=1e-9)
    for width in (1, 3):
        features, labels = blobs(6, width, 9)
        many = profile(nn.Sequential(nn.Identity()), (torch.from_numpy(features), torch.from_numpy(labels)), layers="0")
        assert many.layers[0].rank == width
        assert many.layers[0].nc1 == pytest.approx(oracles.nc1(features, labels, 6), rel=1e-9)


@pytest.mark.parametrize("probed", [True, False])
def test_a_wrong_label_is_found_first(probed: bool, monkeypatch: pytest.MonkeyPatch):
    """Five planted wrong labels in well separated classes are the five most suspicious samples."""
    if not probed:
        monkeypatch.setattr(passes, "_PROBED", 0)
    features, labels = blobs(4, 10, 30, noise=0.2, spread=2.0)
    truth = labels.copy()
    wrong = np.array([3, 17, 50, 77, 110])
    labels[wrong] = (labels[wrong] + 1) % 4
    data = dataset_from_arrays(features, labels, features, truth, name="planted")
    found = profile(nn.Sequential(nn.Identity()), data, layers="0", outliers=5)
    assert sorted(entry.position for entry in found.outliers) == wrong.tolist()
    for entry in found.outliers:
        assert entry.split == "train"
        assert entry.item == f"train[{entry.position}]"
        assert (entry.class_, entry.nearest_class) == (str(labels[entry.position]), str(truth[entry.position]))
    excess = [entry.excess for entry in found.outliers]
    if probed:
        own = [entry.probability for entry in found.outliers]
        assert excess == [None] * 5
        assert own == sorted(own)
        assert own[-1] < 0.5  # tests/test_suspects.py says which probability it is
    else:
        assert excess == sorted(excess, reverse=True)
    assert profile(nn.Sequential(nn.Identity()), data, layers="0").outliers == []


def test_a_network_trained_on_classes_in_the_order_of_their_letters_is_told():
    """Twelve folders 0 … 11, and a network that is right on every sample, whose outputs are 0, 1, 10, 11, 2, …"""
    names = [str(number) for number in range(12)]
    labels = np.repeat(np.arange(12), 5)
    features = np.eye(12)[labels] + 0.1 * np.random.default_rng(0).standard_normal((60, 12))
    data = dataset_from_arrays(features, labels, classes=names)
    head = nn.Linear(12, 12, bias=False).double()
    for outputs, warned in ((sorted(names), True), (names, False)):
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(np.eye(12)[[int(name) for name in outputs]]))
        found = profile(nn.Sequential(head), data, splits=["train"])
        assert (found.accuracy["train"] == 1) == (not warned)
        said = [warning for warning in found.warnings if "order of their letters" in warning]
        assert bool(said) == warned
        assert all("16.7 % with" in warning and "100.0 % in the order of their letters" in warning for warning in said)


def test_a_network_trained_on_classes_in_the_order_of_the_numbers_in_their_names_is_told():
    """Folders class_0 … class_11 are read by their letters; the outputs of the network are 0, 1, 2, …"""
    names = sorted(f"class_{number}" for number in range(12))
    labels = np.repeat(np.arange(12), 5)
    data = dataset_from_arrays(np.eye(12)[labels], labels, classes=names)
    head = nn.Linear(12, 12, bias=False).double()
    for outputs, warned in ((sorted(names, key=lambda name: int(name[6:])), True), (names, False)):
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(np.eye(12)[[names.index(name) for name in outputs]]))
        found = profile(nn.Sequential(head), data, splits=["train"])
        assert (found.accuracy["train"] == 1) == (not warned)
        said = [
            warning for warning in found.warnings if "100.0 % in the order of the numbers in their names" in warning
        ]
        assert len(said) == warned
        assert all("16.7 % with the classes in the order of their letters" in warning for warning in said)


def test_classes_name_the_trouble():
    features, labels = blobs(4, 10, 40, noise=0.2, spread=3.0)
    noisy = labels == 2
    features[noisy] += 2 * np.random.default_rng(1).standard_normal((40, 10))
    found = profile(nn.Sequential(nn.Identity()), (torch.from_numpy(features), torch.from_numpy(labels)), layers="0")
    assert found.classes[0].name == "2"
    assert found.classes[0].nc1_share > 0.9
    assert sum(entry.nc1_share for entry in found.classes) == pytest.approx(1)
    means = oracles.class_means(features, labels, 4)
    variances = oracles.class_variances(features, labels, 4)
    for entry in found.classes:
        k = int(entry.name)
        distances = np.linalg.norm(means - means[k], axis=1)
        near = int(np.argsort(distances)[1])
        assert entry.nearest_class == str(near)
        assert entry.cdnv == pytest.approx((variances[k] + variances[near]) / (2 * distances[near] ** 2), rel=1e-9)
        hits = oracles.nearest_mean(features[labels == k], means) == k
        assert entry.ncc_accuracy == pytest.approx(hits.mean())


def test_the_model_is_left_as_it_was_also_after_an_error():
    module, data = network().train(), problem()
    module[0].weight.requires_grad_(False)
    module(data[0]).sum().backward()
    before = copy.deepcopy([parameter.grad for parameter in module.parameters()])
    profile(module, data)
    with pytest.raises(InputError):
        profile(module, (data[0], torch.zeros_like(data[1])))
    assert module.training
    assert all(not child._forward_hooks for child in module.modules())
    for old, parameter in zip(before, module.parameters(), strict=True):
        assert (old is None) == (parameter.grad is None)
        assert old is None or torch.equal(old, parameter.grad)


def test_global_randomness_is_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(2).tolist(), np.random.rand(2).tolist()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    profile(network(), problem())
    torch.manual_seed(3)
    profile(network(), problem(), seed=5)
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist()) == expected  # noqa: NPY002


def test_the_sample_for_the_chance_level_holds_no_more_than_its_rows(monkeypatch):
    """A kept row that shares its batch's memory would keep every batch: memory would grow with the samples."""
    monkeypatch.setattr(passes, "SAMPLE", 8)
    kept = []
    original = passes._merge
    monkeypatch.setattr(passes, "_merge", lambda parts: kept.extend(parts) or original(parts))
    found = profile(network(), problem((50, 50, 50, 50)), batch_size=32)
    rows = [row for moments in kept[0].values() for row in moments.sample.values()]
    assert len(rows) == 3 * 8
    assert all(row.untyped_storage().nbytes() == row.numel() * 8 for row in rows)
    assert found.layers[0].chance_samples == 8


def test_every_sample_twice_has_the_chance_level_of_once():
    inputs, labels = problem(noise=3.0)
    once, twice = (profile(network(), (inputs.repeat(times, 1), labels.repeat(times))) for times in (1, 2))
    for one, other in zip(once.layers, twice.layers, strict=True):
        for name in ("nc1", "nc1_heldout", "nc1_chance", "noise_share", "effective_rank"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9), name
        assert other.samples == 2 * one.samples
    assert twice.data[0]["independent"] == 40 == once.data[0]["samples"]
    assert any("40 of 80 samples of the train split are copies" in warning for warning in twice.warnings)


def test_a_new_metric_is_one_record(monkeypatch):
    """It stands in results and in the table of the page; where it has no value, the reader is told why."""

    def largest(sums):
        if sums.statistics.width == 12:
            raise InputError("twelve is too many.")
        return float(sums.statistics.means.max())

    metrics = [*METRICS, Metric("largest", 1, "largest mean", "Of all class means.", largest)]
    monkeypatch.setattr("lowdim.profiling._builder.METRICS", metrics)
    monkeypatch.setattr("lowdim.report.profile.METRICS", metrics)
    module, data = network(), problem()
    found = profile(module, data)
    features, _ = by_hand(module, data[0])
    means = oracles.class_means(features["3"], data[1].numpy(), 4)
    assert [layer.largest for layer in found.layers] == [None, *2 * [pytest.approx(means.max())]]
    assert found.as_dict()["layers"][1]["largest"] == found.layers[1].largest
    assert "train, 1 (avg): twelve is too many." in found.warnings
    table = layer_table(found.as_dict())
    assert [row[table.columns.index("largest mean")] for row in table.rows] == [layer.largest for layer in found.layers]
    with pytest.raises(AttributeError, match="nothing"):
        _ = found.layers[0].nothing
    assert copy.deepcopy(found.layers[0]) == found.layers[0]


def test_halves_and_subsamples_are_stratified():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [4, 5, 91]))
    half = halves(labels)
    for k, size in enumerate((4, 5, 91)):
        assert abs(2 * half[labels == k].sum() - size) <= 1
    for seed in range(5):
        rows = subsample(labels, 25, np.random.default_rng(seed))
        assert len(set(rows)) == 25
        assert (np.diff(rows) > 0).all()
        assert (np.abs(np.bincount(labels[rows], minlength=3) - np.array([1, 1.25, 22.75])) <= 1).all()
    np.testing.assert_array_equal(subsample(labels, 100, np.random.default_rng(0)), np.arange(100))


def test_the_law_is_the_least_squares_line():
    values = [8.0, 3.0, 1.5, 0.4]
    law = separation_law(values)
    x, y = np.arange(4), np.log(values)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert law.slope == pytest.approx(slope)
    assert law.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert law.intercept == pytest.approx(y.mean() - slope * x.mean())
    for bad in ([1.0, 2.0], [1.0, None, 2.0], [1.0, 0.0, 2.0], [1.0, float("nan"), 2.0], [1.0, float("inf"), 2.0]):
        assert separation_law(bad) is None
    assert separation_law([2.0, 2.0, 2.0]) is None


def test_progress_reaches_the_end():
    seen = []
    profile(network(), {"train": problem(), "test": problem()}, batch_size=7, progress=lambda *step: seen.append(step))
    assert [done for done, _ in seen] == list(range(1, 25))
    assert {total for _, total in seen} == {24}


def test_the_monitor_follows_a_training_loop():
    module, (inputs, labels) = network(), problem()
    monitor = CollapseMonitor((inputs, labels), every=10, layers=["4:input"])
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for step in range(31):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module.train()(inputs), labels).backward()
        optimizer.step()
        result = monitor(module, step)
        assert (result is not None) == (step % 10 == 0)
        assert module.training
    assert [step for step, _ in monitor.history] == [0, 10, 20, 30]
    nc1 = [result.layers[0].nc1 for _, result in monitor.history]
    assert nc1[-1] < 0.5 * nc1[0]
