"""What is kept of computed features, who finds it again, and what goes first."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import runner
from lowdim.data import load_data
from lowdim.features import (
    FeatureCache,
    FeatureStream,
    Forward,
    Rows,
    Shelf,
    SplitSource,
    TensorSource,
    collected,
    content_digest,
    network_content,
    with_views,
)
from lowdim.finetuning import Plan, TunedModel, advise, finetune
from lowdim.finetuning._store import HeadInput
from lowdim.models import find_feature, fingerprint, load_model
from lowdim.profiling import profile
from lowdim.ranking import candidates_of, rank


class Counting:
    """The numbers 0, 1, … as features of any names, and which of them were computed."""

    def __init__(self, *names, width=2):
        self.names, self.width, self.computed = names, width, []

    def __call__(self, start, stop):
        self.computed += range(start, stop)
        rows = torch.arange(start, stop).float().unsqueeze(1).expand(-1, self.width)
        return Rows.of({name: rows + 100 * place for place, name in enumerate(self.names)})


def shelf(cache, counting, *, content="content", samples=20):
    return Shelf(cache, content, counting.names, samples, counting)


def read(cache, counting, size, **options):
    found = shelf(cache, counting, **options)
    pieces = [found.rows(start, min(start + size, 20)) for start in range(0, 20, size)]
    return {name: torch.cat([piece.tensors[name] for piece in pieces]) for name in pieces[0].tensors}


def files(folder):
    return sorted(Path(folder).rglob("*.safetensors"))


@pytest.mark.parametrize(("written", "wanted"), [(4, 10), (10, 4), (7, 3), (20, 1), (1, 20)])
def test_batches_of_one_size_are_found_by_another(tmp_path, written, wanted):
    cache = FeatureCache(tmp_path, 1e6)
    expected = read(cache, Counting("a|avg"), written)
    again = Counting("a|avg")
    assert torch.equal(read(cache, again, wanted)["a|avg"], expected["a|avg"])
    assert again.computed == []


def test_some_of_the_features_kept_are_found_and_more_than_that_are_not(tmp_path):
    cache = FeatureCache(tmp_path, 1e6)
    read(cache, Counting("a|avg", "b|avg"), 5)
    some, more = Counting("b|avg"), Counting("a|avg", "c|avg")
    assert (read(cache, some, 4)["b|avg"][:, 0] == torch.arange(20) + 100).all()
    assert list(read(cache, some, 4)) == ["b|avg"]
    read(cache, more, 5)
    assert some.computed == []
    assert len(more.computed) == 20


def test_what_a_kill_left_is_completed_and_what_is_damaged_computed_again(tmp_path):
    cache = FeatureCache(tmp_path, 1e6)
    read(cache, Counting("a|avg"), 5)
    first, second, third, _ = files(tmp_path)
    first.unlink()
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(bytes(content))
    third.write_bytes(b"")
    (third.parent / ".tmp-rest").write_bytes(b"0")
    again = Counting("a|avg")
    assert (read(cache, again, 5)["a|avg"][:, 0] == torch.arange(20)).all()
    assert again.computed == list(range(15))


def test_a_shelf_that_vanishes_while_it_is_read_is_computed_again(tmp_path):
    cache, counting = FeatureCache(tmp_path, 1e6), Counting("a|avg")
    read(cache, counting, 5)
    reader = shelf(cache, counting)
    reader.rows(0, 5)
    for file in files(tmp_path):
        file.unlink()
    (file.parent / "shelf.json").unlink()
    assert reader.rows(5, 10).tensors["a|avg"][:, 0].tolist() == [5, 6, 7, 8, 9]
    assert counting.computed[20:] == [5, 6, 7, 8, 9]
    assert len(files(tmp_path)) == 1


def test_the_budget_holds_and_the_least_recently_used_go_first(tmp_path):
    """Three contents fit; the first is used again before the fourth comes, so the second goes."""
    size = sum(file.stat().st_size for file in _kept(tmp_path / "one", "x"))
    cache = FeatureCache(tmp_path / "all", 3.9 * size)
    for place, content in enumerate("abc"):
        read(cache, Counting("a|avg", width=500), 20, content=content)
        for label in (tmp_path / "all" / content).rglob("shelf.json"):
            os.utime(label, (place, place))
    used = Counting("a|avg", width=500)
    read(cache, used, 20, content="a")
    read(cache, Counting("a|avg", width=500), 20, content="d")
    assert used.computed == []
    assert {path.name for path in (tmp_path / "all").iterdir() if files(path)} == {"a", "c", "d"}
    assert sum(file.stat().st_size for file in (tmp_path / "all").rglob("*") if file.is_file()) <= cache.budget


def test_what_others_keep_in_the_folder_is_left_alone(tmp_path):
    """Someone names a folder with files of their own; ours are made room for, theirs are not touched."""
    theirs = [
        tmp_path / "photos/holiday/a.jpg",
        tmp_path / "x/0123456789abcdef/note.txt",
        tmp_path / "y/0123456789abcdef/shelf.json",
    ]
    for path in (*theirs, theirs[2].parent / "mine.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    cache = FeatureCache(tmp_path, 1500)
    for content in "abc":
        read(cache, Counting("a|avg"), 20, content=content)
    assert len(files(tmp_path)) < 3
    assert all(path.exists() for path in theirs)
    assert (tmp_path / "empty" / "folder").exists()


def _kept(folder, content):
    read(FeatureCache(folder, 1e9), Counting("a|avg", width=500), 20, content=content)
    return files(folder)


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out(tmp_path):
    cache = FeatureCache(tmp_path, 2000)
    read(cache, Counting("a|avg"), 20)
    large = Counting("a|avg", width=1000)
    read(cache, large, 5, content="large")
    read(cache, large, 5, content="large")
    assert len(large.computed) == 40
    assert len(files(tmp_path)) == 1


def test_bfloat16_comes_back_as_it_was_and_half_precision_is_streamed_in_single(tmp_path):
    cache, values = FeatureCache(tmp_path, 1e6), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        made = Shelf(
            cache, str(dtype)[6:], ["a|avg"], 4, lambda a, b, dtype=dtype: Rows.of({"a|avg": values[a:b].to(dtype)})
        )
        made.rows(0, 4)
        found = made.found(0, 4)
        assert torch.equal(found.tensors["a|avg"], values.to(dtype))
        assert found.types == {"a|avg": str(dtype)[6:]}


WRITER = """
import sys, torch
from lowdim.features import FeatureCache, Rows, Shelf
rank, folder = int(sys.argv[1]), sys.argv[2]
for turn in range(12):
    content = f"content{(rank + turn) % 5}"
    compute = lambda a, b: Rows.of({"x|avg": torch.arange(a, b).float().unsqueeze(1).expand(-1, 200)})
    shelf = Shelf(FeatureCache(folder and __import__("pathlib").Path(folder), 60_000), content, ["x|avg"], 40, compute)
    for start in range(0, 40, 8):
        assert shelf.rows(start, start + 8).tensors["x|avg"][:, 0].tolist() == list(range(start, start + 8))
"""


def test_processes_that_write_read_and_evict_at_once_read_what_is_right(tmp_path):
    """Three processes, five contents, room for one."""
    cache = tmp_path / "cache"
    jobs = [runner.Script(WRITER, rank, cache, folder=tmp_path, log=f"{rank}") for rank in range(3)]
    for done in [job.done(120) for job in jobs]:
        assert done.returncode == 0, done.stderr
    assert sum(file.stat().st_size for file in files(cache)) <= 60_000


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def _times(factor, module, args, output):
    return factor * output


class Configured(nn.Linear):
    """What decides its features stands in attributes, not in weights or code."""

    def __init__(self, *settings):
        super().__init__(4, 2)
        self.settings = settings

    def forward(self, x):
        return helper(super().forward(x) * self.settings[0])


def helper(x):
    return x + CONSTANT


CONSTANT = 1.0


def test_the_code_that_a_network_calls_is_part_of_it(monkeypatch):
    before = network_content(Configured(1.0), "")
    monkeypatch.setitem(globals(), "CONSTANT", 2.0)
    other = network_content(Configured(1.0), "")
    monkeypatch.setitem(globals(), "helper", lambda x: x - CONSTANT)
    assert len({one[1] for one in (before, other, network_content(Configured(1.0), ""))}) == 3


def test_a_content_is_named_by_all_that_decides_it():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    class Tripled(nn.Sequential):
        def forward(self, x):
            return 3 * super().forward(x)

    plain = network()
    layers = list(plain)
    activations = nn.Sequential(layers[0], nn.Tanh(), layers[2])  # the same weights
    networks = [plain, activations, Doubled(*layers), Tripled(*layers)]
    contents = [network_content(module, fingerprint(module)) for module in networks]
    assert contents[0] == network_content(network(), fingerprint(network()))
    assert len({tuple(content) for content in contents}) == 4
    settings = [Configured(1.0), Configured(1.0, "max"), Configured(1.0, "mean", SimpleNamespace(p=2)), Configured(2.0)]
    settings += [Configured(1.0, lambda x: x + 1), Configured(1.0, lambda x: x + 2), Configured(torch.tensor(3.0))]
    for change in (1.0, 2.0):
        settings.append(Configured(1.0))
        settings[-1].register_buffer("mean", torch.tensor(change), persistent=False)
        settings.append(Configured(1.0))
        settings[-1].register_forward_hook(partial(_times, change))
    assert len({network_content(one, "")[1] for one in settings}) == len(settings)
    assert network_content(Configured(1.0), "") == network_content(settings[0], "")
    x, y = torch.arange(12.0).reshape(3, 4), torch.tensor([0, 1, 1])
    sources = [
        TensorSource(x, y),
        TensorSource(x + 1, y),
        TensorSource(x.double(), y),
        TensorSource(x.reshape(3, 2, 2), y),
    ]
    assert len({content_digest(contents[0], source) for source in sources}) == 4
    assert content_digest(contents[0], sources[0]) == content_digest(contents[0], TensorSource(x, y.flip(0)))


def test_a_stream_replays_what_was_computed_whatever_its_batches(tmp_path):
    module, x = network(), torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    source = TensorSource(x, torch.arange(20) % 3)

    def batches(size, layers):
        forward = Forward(module, [(layer, "avg") for layer in layers], torch.device("cpu"))
        stream = FeatureStream(
            forward, source, source.labels, cache=FeatureCache(tmp_path, 1e6), content="c", batch_size=size
        )
        return list(stream)

    first = batches(7, ["0", "1"])
    again = batches(20, ["1"])
    assert torch.equal(torch.cat([batch.features["1", "avg"] for batch in first]), again[0].features["1", "avg"])
    assert torch.equal(torch.cat([batch.scores for batch in first]), again[0].scores)
    assert list(again[0].features) == [("1", "avg")]


def test_collected_features_come_in_the_order_in_which_they_were_asked_for(tmp_path):
    """Whoever takes the first layer for the feature must not get the one that runs first."""
    source = TensorSource(torch.randn(6, 4), torch.arange(6) % 3)
    forward = Forward(network(), [("1", "avg"), ("0", "avg")], torch.device("cpu"))
    for _ in range(2):  # computed, then found
        stream = FeatureStream(
            forward, source, source.labels, cache=FeatureCache(tmp_path, 1e6), content="c", batch_size=4
        )
        assert list(collected(stream)) == [("1", "avg"), ("0", "avg")]


def test_views_are_numbered_after_the_plain_images():
    split = load_data("digits", limit=30)["train"]
    viewed, preprocessing = with_views(split, 3, seed=0), load_model("digits").preprocessing
    assert len(viewed) == 90
    assert list(viewed.items) == 3 * list(split.items)
    first, other = SplitSource(split, preprocessing), SplitSource(viewed, preprocessing)
    positions = np.arange(5)
    assert torch.equal(first.inputs(positions), other.inputs(positions))
    assert not torch.equal(first.inputs(positions), other.inputs(positions + 30))
    assert torch.equal(
        other.inputs(positions + 60), SplitSource(with_views(split, 3, 0), preprocessing).inputs(positions + 60)
    )
    assert first.digest() != other.digest() != SplitSource(with_views(split, 3, 1), preprocessing).digest()


def pictures(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """An encoder without a classifier, in half precision; its tokens are 200 where they are not padding."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float16))

    def forward(self, input_ids, attention_mask):
        return 200 * self.scale * attention_mask.half().unsqueeze(2), None


def timm_network(name, **options):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (load_model("digits").module, pictures(3, 1, 8, 8)),
        lambda: (timm_network("vit_tiny_patch16_224", img_size=32, depth=1), pictures(3, 3, 32, 32)),
        lambda: (timm_network("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0), pictures(3, 3, 32, 32)),
        lambda: (timm_network("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), pictures(2, 3, 224, 224)),
        lambda: (Tokens(), {"input_ids": torch.ones(3, 512, dtype=torch.int64), "attention_mask": torch.ones(3, 512)}),
    ],
)
def test_the_head_sees_what_is_kept_for_it(make):
    """Kept under the name that `rank` gives it, and the same as in the tuned network."""
    module, inputs = make()
    model = TunedModel(module.eval(), Plan("linear-probe"), 2, inputs)
    feature = find_feature(module, inputs)
    head_input = HeadInput(module, feature, torch.device("cpu"))
    with torch.no_grad():
        expected = model.features(inputs)
    value = head_input(inputs)[head_input.name].float()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    if isinstance(module, Tokens):
        assert (expected == 200).all()
    else:
        assert head_input.name == f"{feature.layer}|{feature.pool}"


def test_what_one_command_computed_the_others_find(tmp_path, monkeypatch):
    """`advise`, then `finetune`, `rank` and `measure` of the same network on the same data: the network runs over the training
    samples once."""
    model, data = load_model("digits-0-4"), load_data("digits", shots=6, limit=200)
    ran = []
    original = Forward.__call__
    monkeypatch.setattr(Forward, "__call__", lambda self, x: ran.append(len(x)) or original(self, x))
    train = len(data["train"])
    advise([lambda: model], data, folder=tmp_path / "advise", cache=tmp_path / "cache")
    assert sum(ran) >= train
    ran.clear()
    tuned = finetune(model, data, method="linear-probe", folder=tmp_path / "finetune", cache=tmp_path / "cache")
    assert ran == []
    ranking = rank(candidates_of(["digits-0-4"]), data, probe=False, folder=tmp_path / "rank", cache=tmp_path / "cache")
    found = profile(model, data, layers="head:input", splits=["train"], cache=tmp_path / "cache")
    assert ran == []
    # Batches of another size differ by rounding in float32.
    alone = rank(candidates_of(["digits-0-4"]), data, probe=False)
    for name, value in alone.places[0].evaluation.scores.items():
        assert ranking.places[0].evaluation.scores[name] == pytest.approx(value, rel=1e-4), name
    assert found.layers[0].nc1 == pytest.approx(tuned.nc1["train"], rel=1e-6)
