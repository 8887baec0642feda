"""Training: the same bits after an interruption, a NaN that stops it, stored prefixes that change nothing."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import runner
from lowdim._files import load_tensors
from lowdim._job import Job
from lowdim.data import Dataset, load_data
from lowdim.errors import InputError, NonFiniteError, ResourceError, UsageError
from lowdim.features import FeatureCache
from lowdim.finetuning import Plan, Recipe, TunedModel, _train, finetune
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._store import Store
from lowdim.finetuning._train import train
from lowdim.models import LoadedModel, load_model

RECIPE = Recipe(rate=3e-3, head_rate=3e-3, epochs=4, batch_size=16)
BLOCK = Plan("scl", ("blocks.4",), "pad_add")


class Stop(Exception):
    pass


def weights(model: TunedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.trained().items()}


def test_training_lowers_the_loss_and_learns(bench: Bench) -> None:
    fitted = bench.fit(BLOCK, recipe=Recipe(rate=3e-3, head_rate=3e-3, epochs=30, batch_size=16, from_probe=False))
    assert fitted.history.loss[-1] < 0.3 * fitted.history.loss[0]
    assert (fitted.log_probabilities().argmax(axis=1) == bench.labels).mean() > 0.9


@pytest.mark.parametrize(
    ("stop_at", "plan"), [(1, BLOCK), (5, BLOCK), (9, BLOCK), (5, Plan("full", batch_norm="batch"))]
)
def test_an_interrupted_run_continues_with_the_same_bits(
    stop_at: int,
    plan: Plan,
    bench: Bench,
    network: LoadedModel,
    data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lowdim.finetuning._train.SAVE_EVERY", 0.0)
    monkeypatch.setattr("lowdim.finetuning._train.SHORT", 0.0)

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == stop_at:
            raise Stop

    bench.job = replace(bench.job, progress=stop)
    with pytest.raises(Stop):
        bench.fit(plan, recipe=RECIPE)
    bench.job = replace(bench.job, progress=None)
    resumed = bench.fit(plan, recipe=RECIPE)
    whole = Bench(network, data, Job(folder=tmp_path / "whole")).fit(plan, recipe=RECIPE)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert whole.history.loss == resumed.history.loss


@pytest.mark.parametrize("follows", [False, True])
def test_statistics_follow_the_batches_only_where_asked(
    follows: bool, network: LoadedModel, data: Dataset, tmp_path: Path
) -> None:
    tuned = finetune(network, data, method="full", epochs=2, batch_norm="batch" if follows else "frozen")
    before = network.module.state_dict()
    after = tuned.model.get_submodule("base").state_dict()
    names = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert names
    assert all(torch.equal(before[name], after[name]) is not follows for name in names)
    assert tuned.save(tmp_path / "delta", network)["verified"] is True
    for method in ("layer", "auto"):
        with pytest.raises(UsageError, match='`batch_norm="batch"` goes with'):
            finetune(network, data, method=method, batch_norm="batch")  # type: ignore[arg-type]


def test_seeds_decide(bench: Bench, network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    first = bench.fit(BLOCK, recipe=RECIPE)
    again = Bench(network, data, Job(folder=tmp_path / "again")).fit(BLOCK, recipe=RECIPE)
    bench.job = replace(bench.job, seed=1)
    other = bench.fit(BLOCK, recipe=RECIPE)
    assert all(torch.equal(t, weights(again.model)[n]) for n, t in weights(first.model).items())
    assert not torch.equal(first.model.head.weight, other.model.head.weight)


class Dropping(nn.Module):
    """With dropout before its head."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(share))
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


def test_the_seed_and_the_step_decide_what_is_dropped(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    """Whatever else in the process draws random numbers between two runs."""
    fits: list[dict[str, Tensor]] = []
    for number, share in enumerate((0.5, 0.5, 0.0)):
        torch.manual_seed(0)
        base = replace(network, module=Dropping(share).eval())
        torch.manual_seed(number)
        fits.append(
            weights(Bench(base, data, Job(folder=tmp_path / str(number))).fit(Plan("full"), recipe=RECIPE).model)
        )
    first, again, whole = fits
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not all(torch.equal(tensor, whole[name]) for name, tensor in first.items())


def test_a_folder_keeps_other_recipes_data_and_networks_apart(bench: Bench, data: Dataset) -> None:
    folder = bench.folder.parent
    first = bench.fit(BLOCK, recipe=RECIPE)
    longer = bench.fit(BLOCK, recipe=replace(RECIPE, epochs=6))
    assert (len(first.history.loss), len(longer.history.loss)) == (4, 6)
    fewer = bench.fit(BLOCK, recipe=RECIPE, indices=np.arange(0, 60, 2))
    assert not torch.equal(first.model.head.weight, fewer.model.head.weight)
    for network, images in ((load_model("digits"), data), (bench.network, load_data("digits", shots=6, seed=1))):
        shared, own = (Bench(network, images, Job(folder=place)) for place in (folder, folder.parent / "own"))
        assert shared.folder != bench.folder
        for plan in (BLOCK, Plan("linear-probe")):
            assert np.array_equal(shared.fit(plan, recipe=RECIPE).features(), own.fit(plan, recipe=RECIPE).features())


def test_the_stored_prefix_changes_no_bit(bench: Bench, network: LoadedModel, tmp_path: Path) -> None:
    stored = bench.fit(BLOCK, recipe=RECIPE)
    assert stored.store.stored and stored.store.bytes > 0
    direct = Bench(network, _dataset(bench), Job(folder=tmp_path / "direct", cache_budget=0)).fit(BLOCK, recipe=RECIPE)
    assert not direct.store.stored and direct.store.bytes == 0
    for name, tensor in weights(stored.model).items():
        torch.testing.assert_close(tensor, weights(direct.model)[name], rtol=1e-4, atol=1e-5)


def _dataset(bench: Bench) -> object:
    assert len(bench.train) == 60
    return load_data("digits", shots=6, limit=200)


def test_a_damaged_shard_is_computed_again(bench: Bench, tmp_path: Path) -> None:
    model = TunedModel(bench.network.module, BLOCK, 10, bench.example)
    model.split(bench.example)

    def make() -> Store:
        part = model.frozen_part()
        assert part is not None
        return Store(
            bench.train,
            bench.network.preprocessing,
            compute=lambda inputs: {"value|all": part(inputs)},
            names=["value|all"],
            cache=FeatureCache(tmp_path / "s", 1e9),
        )

    before = make().batch([3, 59, 0])
    (file,) = (tmp_path / "s").rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    after = make().batch([3, 59, 0])
    assert before.value is not None and after.value is not None
    assert torch.equal(before.value, after.value)


def test_views_differ_and_the_first_is_plain(bench: Bench, tmp_path: Path) -> None:
    def store(views: int, name: str) -> Store:
        cache = FeatureCache(tmp_path / name, 1e9)
        return Store(bench.train, bench.network.preprocessing, compute=None, cache=cache, views=views)

    several, plain = store(3, "several"), store(1, "plain")
    positions = np.arange(10)
    pictures = [several.batch(positions, view).inputs for view in range(3)]
    assert torch.equal(pictures[0], plain.batch(positions).inputs)  # type: ignore[arg-type]
    assert not torch.equal(pictures[1], pictures[0]) and not torch.equal(pictures[1], pictures[2])  # type: ignore[arg-type]


def test_nan_in_the_first_epoch_is_an_error(bench: Bench) -> None:
    with pytest.raises(NonFiniteError, match="usable network"):
        bench.fit(BLOCK, recipe=Recipe(rate=float("inf"), head_rate=1e-3, epochs=2, batch_size=16))


def test_nan_later_keeps_the_last_good_epoch(bench: Bench) -> None:
    good = bench.fit(BLOCK, recipe=RECIPE)
    model = TunedModel(bench.network.module, BLOCK, 10, bench.example)
    model.split(bench.example)
    store = bench.store(model)
    kept: dict[str, torch.Tensor] = {}

    def poison(epoch: int, history: object) -> None:
        if epoch == 1:
            kept.update(weights(model))
        if epoch == 2:
            with torch.no_grad():
                model.head.bias.fill_(float("nan"))

    history = train(model, store, RECIPE, Job(), on_epoch=poison)
    assert "epoch 3" in history.stopped and len(history.loss) == 2
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights(model).items())
    assert len(good.history.loss) == 4


@pytest.mark.parametrize(("rate", "epochs"), [(float("inf"), 5), (1e20, 5), (float("inf"), 1)])
def test_an_epoch_that_left_a_broken_network_is_not_a_good_one(bench: Bench, rate: float, epochs: int) -> None:
    single = Recipe(rate=rate, head_rate=rate, epochs=epochs, batch_size=64)  # an epoch is one step
    with pytest.raises(NonFiniteError, match="usable network"):
        bench.fit(BLOCK, recipe=single)


def test_a_batch_that_does_not_fit_is_an_error_with_one_that_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Store.batch

    def batch(store: Store, positions: np.ndarray, view: int = 0) -> object:
        if len(positions) > 7 and store.labels is bench.labels and torch.is_grad_enabled():
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return original(store, positions, view)

    monkeypatch.setattr(Store, "batch", batch)
    with pytest.raises(ResourceError, match="A batch of 20 does not fit into memory; 5 does: `batch_size=2`"):
        bench.fit(Plan("layer", ("blocks.4",)), recipe=replace(RECIPE, batch_size=20, from_probe=False))


def test_lora_starts_from_the_seed_and_leaves_the_generator_alone(network: LoadedModel, data: Dataset) -> None:
    pytest.importorskip("peft")
    before = torch.get_rng_state()
    runs = [finetune(network, data, method="lora", epochs=1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (run.model.state_dict() for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_class_weights_reach_the_probe_and_the_block(network: LoadedModel) -> None:
    data = load_data("digits", shots=6, limit=200)
    data = replace(data, splits={"train": data["train"].take(np.arange(20, 60))})
    counts = np.bincount(data["train"].labels, minlength=10)
    assert counts.min() < counts.max()
    for method in ("linear-probe", "layer"):
        plain, weighted = (
            finetune(network, data, method=method, epochs=2, class_weights=on)  # type: ignore[arg-type]
            for on in (False, True)
        )
        assert not torch.equal(plain.model.head.weight, weighted.model.head.weight)


def test_blocks_are_trained_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.later, self.earlier = nn.Linear(6, 6), nn.Linear(4, 6)
            self.head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.later(torch.relu(self.earlier(x)))))

    torch.manual_seed(0)
    x = torch.randn(30, 4)
    model = TunedModel(Swapped().eval(), Plan("scl", ("later", "earlier"), "pad_add"), 3, x)
    assert model.blocks == ("earlier", "later")
    plain = model.features(x)
    model.split(x)
    part = model.frozen_part()
    assert part is not None
    torch.testing.assert_close(model.features(x, part(x)), plain)


def test_a_block_called_features_is_no_store_of_features(tmp_path: Path) -> None:
    class Vgg(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
            self.classifier = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.features(x))

    torch.manual_seed(0)
    network = replace(load_model("digits"), module=Vgg().eval(), classes=None)
    tuned = finetune(network, load_data("digits", shots=6, limit=200), method="ensemble", layer="features", epochs=2)
    assert tuned.method == "ensemble"


def test_the_head_starts_at_the_softened_probe_or_at_zero(bench: Bench) -> None:
    probe = bench.fit(Plan("linear-probe")).log_probabilities()

    def first_loss(**start: Any) -> float:
        recipe = Recipe(rate=1e-3, head_rate=1e-3, epochs=1, batch_size=len(bench.labels), **start)  # one step
        return bench.fit(Plan("layer", ("blocks.4",)), recipe=recipe).history.loss[0]

    for temperature in (1.0, 3.0):
        soft = probe / temperature - np.logaddexp.reduce(probe / temperature, axis=1, keepdims=True)
        expected = -soft[np.arange(len(probe)), bench.labels].mean()
        assert first_loss(temperature=temperature) == pytest.approx(expected, rel=1e-4)
    assert first_loss(from_probe=False) == pytest.approx(np.log(bench.classes), rel=1e-6)


def test_class_weights_make_the_rare_class_count(bench: Bench) -> None:
    labels = bench.labels.copy()
    indices = np.concatenate([np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels == 1)])
    weight = bench._weights(indices)
    assert weight[0] == 6 * weight[1] and weight[2:].sum() == 0


def test_one_class_is_refused(network: LoadedModel, tmp_path: Path) -> None:
    data = load_data("digits", shots=6)
    only = data["train"].take(np.flatnonzero(data["train"].labels == 3))
    with pytest.raises(InputError, match="one class only"):
        Bench(network, replace(data, splits={"train": only}), Job(folder=tmp_path))


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from lowdim._job import Job
from lowdim.data import load_data
from lowdim.finetuning import Plan, Recipe
from lowdim.finetuning import _train
from lowdim.finetuning import _train
from lowdim.finetuning._bench import Bench
from lowdim.models import load_model
_train.SAVE_EVERY = 0.05
_train.SHORT = 0.0
bench = Bench(load_model("digits-0-4"), load_data("digits", shots=20), Job(folder=Path(sys.argv[1])))
print("ready", flush=True)
fitted = bench.fit(Plan("scl", ("blocks.1",), "pad_add"), recipe=Recipe(rate=3e-3, head_rate=3e-3, epochs=12, batch_size=16))
torch.save({name: p.detach() for name, p in fitted.model.trained().items()}, sys.argv[2])
"""


def _run_with_kills(folder: Path, kills: int, seed: int) -> dict[str, torch.Tensor]:
    """The weights of a run killed at random moments and started again; no epoch that had been saved is lost."""
    generator = np.random.default_rng(seed)
    result = folder / "weights.pt"
    step = 0
    for kill in range(kills):
        process = runner.Script(SCRIPT, folder / "bench", result, folder=folder, log=f"killed-{kill}")
        process.wait_for("ready")
        process.join(float(generator.uniform(0, 1.0)))
        process.kill()
        for state in (folder / "bench").glob("*/scl-*.safetensors"):
            now = json.loads(load_tensors(state)[1]["loop"])["step"]
            assert now >= step
            step = now
    done = runner.Script(SCRIPT, folder / "bench", result, folder=folder).done(300)
    assert done.returncode == 0, done.stderr
    return torch.load(result, weights_only=True)


def test_a_killed_run_continues_bit_for_bit(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = _run_with_kills(tmp_path / "whole", 0, 0)
    killed = _run_with_kills(tmp_path / "killed", 2, 1)
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = _run_with_kills(tmp_path / "whole", 0, 0)
    killed = _run_with_kills(tmp_path / "killed", 20, 2)
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("lasting", [True, False])
def test_states_are_written_where_somebody_may_continue(
    lasting: bool, network: LoadedModel, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(_train, "SHORT", 0.0)
    monkeypatch.setattr(_train._Loop, "save", lambda self, path: saved.append(self.step))
    recipe = replace(RECIPE, epochs=3)
    Bench(network, data, Job(folder=tmp_path, lasting=lasting)).fit(Plan("layer", ("blocks.1",)), recipe=recipe)
    assert len(saved) == (3 if lasting else 1)
    with Job().in_folder() as one, Job(folder=tmp_path).in_folder() as other:
        assert (one.lasting, other.lasting) == (False, True)


class Volume(nn.Module):
    """An image as a volume of one slice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv3d(1, 4, (1, 3, 3)), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x[:, :, None]).mean(dim=(2, 3, 4)))


def test_weights_of_five_dimensions_are_trained(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    volumes = replace(network, module=Volume().eval())
    fitted = Bench(volumes, data, Job(folder=tmp_path)).fit(Plan("layer", ("blocks.0",)), recipe=RECIPE)
    assert not torch.equal(fitted.model.base.blocks[0].weight, volumes.module.blocks[0].weight)


def test_a_network_in_another_memory_layout_gives_the_same_bits(network: LoadedModel, data: Dataset) -> None:
    other = replace(network, module=copy.deepcopy(network.module).to(memory_format=torch.channels_last))
    first, second = (finetune(base, data, method="scl", epochs=1) for base in (network, other))
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    inputs = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(first.model(inputs), second.model(inputs))
