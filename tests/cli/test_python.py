"""Every command as a function of the same name, with strings or with objects."""

import inspect
import pydoc
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.numpy import save_file
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from typer.main import get_command

import lowdim
from lowdim.cli import app
from lowdim.cli.measure import _surprising_head
from lowdim.data import as_dataset
from lowdim.errors import LowdimError, UsageError

COMMANDS = set(get_command(app).commands) - {"demo"}  # pyright: ignore[reportAttributeAccessIssue]


def blobs(count=60, width=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (generator.standard_normal((count, width)) + 3 * np.eye(3, width)[labels]).astype(np.float32), labels


def network(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_function_with_its_parameters(name):
    function = getattr(lowdim, name)
    command = get_command(app).commands[name]  # pyright: ignore[reportAttributeAccessIssue]
    asked = {parameter.name for parameter in command.params} - {"help", "json", "format"}
    assert set(inspect.signature(function).parameters) == asked
    assert function.__doc__ and name in lowdim.__all__


def test_measure_of_names_gives_what_the_page_shows():
    found = lowdim.measure("digits", "digits", limit=60)
    assert found.headline.startswith("The classes separate best at")
    assert len(repr(found).splitlines()) <= 10
    assert list(found.to_frame()["layer"])[:2] == ["blocks.0", "blocks.1"]
    assert found.plot().axes and found.plot("ncc").axes
    assert found["accuracy"] == found.accuracy, "the library's object is behind it"
    assert "<svg" in found._repr_html_() and found.headline.split(":")[0] in found._repr_html_()
    with pytest.raises(UsageError, match="There is no figure 'nothing'; there are ncc, collapse"):
        found.plot("nothing")


def test_no_folder_is_left_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lowdim.measure("digits", "digits", limit=60).folder is None
    assert list(tmp_path.iterdir()) == []
    page = lowdim.measure("digits", "digits", limit=60, out=tmp_path / "run").save_page("page.html")
    assert (tmp_path / "run" / "report.html").is_file() and "<svg" not in page.read_text()[:200]
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    "form",
    [
        "arrays",
        "lists",
        "tensors",
        "one-hot",
        "loader",
        "samples",
        "dictionaries",
        "frame",
        "splits",
        "pairs",
        "loaders",
        "data sets",
    ],
)
def test_measure_takes_modules_and_data_in_any_form(form):
    x, y = blobs()
    pairs = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    frame = pd.DataFrame(x, columns=list("abcd")).assign(kind=pd.Series(y).map(str))
    data = {
        "arrays": (x, y),
        "lists": (x.tolist(), y.tolist()),
        "tensors": (torch.from_numpy(x), torch.from_numpy(y)),
        "loader": DataLoader(pairs, batch_size=7),
        "dictionaries": [{"pixel_values": x[:30], "labels": y[:30]}, {"pixel_values": x[30:], "labels": y[30:]}],
        "frame": frame,
        "splits": {"train": (x, y), "test": blobs(seed=1)},
        "pairs": ((x, y), (x[:40], y[:40])),  # as Keras gives its data
        "loaders": (DataLoader(pairs, batch_size=7, shuffle=True), DataLoader(pairs, batch_size=9)),
        "data sets": {"train": pairs, "test": Subset(pairs, range(20))},
        "samples": pairs,
        "one-hot": (x, np.eye(int(y.max()) + 1)[y]),
    }[form]
    found = lowdim.measure(network(), data, label_column="kind" if form == "frame" else None)
    assert {entry["split"] for entry in found["data"]} == {"train", "test"}
    assert found["layers"][0]["width"] == 8
    whole = {"splits": (60, 60), "pairs": (60, 40), "loaders": (60, 60), "data sets": (60, 20)}
    assert tuple(entry["samples"] for entry in found["data"]) == whole.get(form, (48, 12))


def test_a_head_that_fails_where_its_features_do_not_is_asked_about():
    given = {"limit": 200, "layers": "head:input"}
    wrong = lowdim.measure("digits", "digits", std="3", **given)
    assert "the network's own head is right for" in wrong["warnings"][0] and "`mean`, `std`" in wrong["warnings"][0]
    for fine in ({}, {"std": "3", "random_weights": True}):
        assert not any("own head" in text for text in lowdim.measure("digits", "digits", **given, **fine)["warnings"])


def test_a_head_is_not_asked_about_for_a_sample_or_two():
    layer = {"split": "test", "name": "a", "ncc_accuracy": 1.0, "samples": 8}
    result = {"config": {"model": {"random_weights": False}}, "accuracy": {"test": 0.875}, "layers": [layer]}
    assert not _surprising_head(result)
    assert _surprising_head({**result, "layers": [{**layer, "samples": 80}]})


def test_whole_numbers_are_features_too(tmp_path):
    x, y = np.arange(160).reshape(40, 4) % 7, np.arange(40) % 2
    exact = lowdim.measure("features", (x * 1.0, y))["layers"][0]["nc1"]
    assert lowdim.measure("features", (x.astype(np.uint8), y))["layers"][0]["nc1"] == pytest.approx(exact)
    lowdim.finetune("features", (x * 1.0, y), method="linear-probe", out=tmp_path / "run")
    whole, real = (lowdim.predict(tmp_path / "run", data).headline for data in (x, x * 1.0))
    assert whole == real


def test_pictures_as_floats_are_what_the_network_sees():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((40, 3, 8, 8)).astype(np.float32)
    y = np.arange(40) % 2
    x[y == 1] += 1
    found = lowdim.measure(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), (x, y))
    assert found["layers"][-1]["width"] == 144


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lowdim.measure(3, "digits"), "A network is a name such as"),
        (lambda: lowdim.measure("digits", 3), "Data is a name, a path"),
        (lambda: lowdim.measure(nn.Linear(64, 10), "digits", offline=True), "`offline` is for networks that are loaded by name"),
        (lambda: lowdim.measure(network(), blobs(), skip_unreadable=True), "`skip_unreadable` is for data in files"),
        (lambda: lowdim.measure(network(), pd.DataFrame({"a": [1.0]})), "Which column of the frame holds the labels? Say `label_column`"),
        (lambda: lowdim.measure(*blobs()), "A network is a name such as 'timm:resnet18', a LoadedModel or a torch module, not ndarray"),
        (lambda: lowdim.measure(network(), *blobs()), "Inputs and labels are one argument: `data=(inputs, labels)`"),
        (lambda: lowdim.measure(network(), blobs()[0]), "inputs without labels: pass both as one pair, `data=(inputs, labels)`"),
        (lambda: lowdim.finetune(network(), *blobs()), "`method` takes one of auto, probe"),
        (lambda: lowdim.measure(network(), blobs(), split="tset"), "`split` takes one of train, test, both, not 'tset'"),
        (lambda: lowdim.measure(network(), blobs(), limit="3"), "`limit` takes a whole number, not '3'"),
        (lambda: lowdim.check(3, theorem="parsimony"), "Give a folder, or a list with the weights of each time, not int"),
        (lambda: lowdim.rank([3], "digits"), "A candidate is a name such as"),
        (lambda: lowdim.measure("digits", "digits", batch_size="²"), "`batch_size` takes auto or a positive number"),
    ],
)  # fmt: skip
def test_wrong_types_are_one_line(call, message):
    with pytest.raises(LowdimError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("models", ["one", "list", "named", "candidates"])
def test_networks_in_memory_are_ranked(models):
    nets = {
        "one": network(),
        "list": [network(), network(), lowdim.load_model("features")],
        "named": {"first": network(), "second": "features"},
        "candidates": [lowdim.Candidate(name="mine", model=network())],
    }[models]
    found = lowdim.rank(nets, blobs())
    wanted = {"one": ["Sequential"], "list": ["Sequential", "Sequential 2", "features"], "named": ["first", "second"], "candidates": ["mine"]}  # fmt: skip
    assert sorted(row["model"] for row in found["scores"]) == wanted[models]
    assert found["failed"] == []


def test_networks_in_memory_are_advised_on():
    found = lowdim.advise(network(), blobs(), outliers=0)
    assert found["recommendation"]["command"].startswith("lowdim.finetune(model, data, method=")


def test_a_rate_beyond_float32():
    with pytest.raises(UsageError, match="`rate` must be at most 1e"):
        lowdim.finetune(network(), blobs(), method="full", rate=1e38)


def test_an_argument_that_is_not_there_is_named():
    with pytest.raises(TypeError, match=r"measure takes no `layer`\. Did you mean layers"):
        lowdim.measure("digits", "digits", layer="a")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: (x, y, x, y), "Samples in one piece are a pair of arrays"),
        (lambda x, y: zip(x, y, strict=True), "Samples in one piece are a pair of arrays"),
        (lambda x, y: DataLoader(x, batch_size=7), "A batch holds inputs and labels"),
        (lambda x, y: b"digits", "A batch holds inputs and labels"),
        (lambda x, y: (torch.zeros(60, 4, device="meta"), y), "no values"),
        (lambda x, y: (x[:1], y[:1]), "."),
    ],
)
def test_data_of_no_form_in_memory(data, message):
    with pytest.raises(LowdimError, match=message):
        lowdim.measure(network(), data(*blobs()))


def test_a_network_without_layers_in_memory(tmp_path):
    tuned = lowdim.finetune(nn.Sequential(), blobs(), method="linear-probe", out=tmp_path / "run")
    assert tuned["accuracy"]["train"] > 0.9


def test_objects_are_classified_with_the_network_in_memory(tmp_path):
    base, (x, y) = network(), blobs()
    lowdim.finetune(base, (x, y), method="linear-probe", out=tmp_path / "run")
    delta = tmp_path / "run" / "delta"
    alone = lowdim.predict(delta, x[:7], model=base)
    assert len(alone["predictions"]) == 7 and alone["accuracy"] is None
    pair = lowdim.predict(delta, (x[:7], y[:7]), model=base, split="all")
    assert [one["class"] for one in pair["predictions"]] == [one["class"] for one in alone["predictions"]]
    assert pair["accuracy"] is not None
    frame = lowdim.predict(delta, pd.DataFrame(x[:7]), model=base)
    assert [one["class"] for one in frame["predictions"]] == [one["class"] for one in alone["predictions"]]
    assert lowdim.export(delta, "torch", file=tmp_path / "net.pt2", model=base)["max_difference"] < 1e-5


def test_one_value_does_for_a_list_of_one_and_a_list_for_commas():
    found = lowdim.measure("digits", "digits", limit=60, pool="avg", layers=["blocks.0", "blocks.1"])
    assert {layer["name"] for layer in found["layers"]} == {"blocks.0", "blocks.1"}
    assert {layer["pool"] for layer in found["layers"]} == {"avg"}


def test_weights_in_memory_are_checked(tmp_path):
    steps = {"0": np.eye(3), "10": 0.9 * np.eye(3)}
    for step, weight in steps.items():
        save_file({"a": weight, "b": weight.copy()}, tmp_path / f"{step}.safetensors")
    from_files = lowdim.check(tmp_path, theorem="parsimony", weights=["a", "b"])
    states = [{"a": torch.from_numpy(weight), "b": torch.from_numpy(weight)} for weight in steps.values()]
    in_memory = lowdim.check(states, theorem="parsimony", weights=["a", "b"])
    matrices = lowdim.check([[weight, weight] for weight in steps.values()], theorem="parsimony")
    holds = [one["holds"] for one in from_files["checks"]]
    assert [one["holds"] for one in in_memory["checks"]] == holds == [one["holds"] for one in matrices["checks"]]
    assert [
        one["holds"] for one in lowdim.check(states, theorem="parsimony")["checks"]
    ] == holds  # in the order of the state
    with pytest.raises(
        LowdimError, match="the order of its matrices is not certain"
    ):  # which such a file does not keep
        lowdim.check(tmp_path, theorem="parsimony")
    with pytest.raises(LowdimError, match=r"Name the factors|has no"):
        lowdim.check(states, theorem="parsimony", weights=["a", "c"])


def test_help_is_readable():
    pages = {name: pydoc.plain(pydoc.render_doc(getattr(lowdim, name))) for name in sorted(COMMANDS)}
    for name, page in pages.items():
        assert "OptionInfo" not in page and "Annotated" not in page and "object at 0x" not in page, name
        for parameter in inspect.signature(getattr(lowdim, name)).parameters:
            (line,) = [line for line in page.splitlines() if re.match(rf"\s+{parameter}: ", line)]
            assert len(line.split(":", 1)[1]) > 5, (name, parameter)
    assert "Literal['train', 'test', 'both'] = 'both'" in pages["measure"]
    assert "`list_all`" in pages["reproduce"] and "Args:" in pages["rank"]
    assert all("Args:" not in (one.help or "") for one in get_command(app).commands.values())  # pyright: ignore[reportAttributeAccessIssue]


def test_experiments_run_from_a_script_without_a_guard(tmp_path):
    script = tmp_path / "plain.py"
    script.write_text("import lowdim\nprint('once')\nprint(lowdim.reproduce('separation-theorem').headline)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1 and "verdicts hold" in done.stdout


def test_frames_are_read_like_tables():
    x, y = blobs()
    frame = pd.DataFrame(x, columns=list("abcd")).assign(Label=y)
    assert lowdim.measure(network(), frame)["layers"][0]["width"] == 8, "the column called label needs no option"
    with pytest.raises(LowdimError, match="no table of features: 'note' holds text"):
        lowdim.measure(network(), frame.assign(note="seen"))
    found = as_dataset(
        pd.DataFrame({"said": ["yes", "no"] * 5, "kind": ["p", "n"] * 5}), text_column="said", label_column="kind"
    )
    assert found.kind == "text" and found.classes == ("n", "p")


def test_profile_and_monitor_take_the_same():
    assert lowdim.profile("digits", "digits", layers="blocks.5", splits=["test"]).layers[0].samples == 797
    x, y = blobs()
    monitor = lowdim.CollapseMonitor(DataLoader(TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=8))
    assert monitor(network(), 0) is not None


def test_dir_lists_the_public_names_only():
    assert set(dir(lowdim)) == set(lowdim.__all__)
    assert lowdim.__version__


def test_paths_may_be_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tuned = lowdim.finetune("digits-split", "digits-noisy", shots=3, method="linear-probe", out="tuned")
    found = lowdim.predict("tuned/delta", "digits-noisy", split="test", limit=20, page="page.html")
    assert len(found["predictions"]) == 20 and (tmp_path / "page.html").is_file()
    assert tuned.folder is not None and found["accuracy"] == found.data["accuracy"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("measure", {"model": "digits", "data": "digits", "limit": 0}, "`limit`: 0 is below 1"),
        ("measure", {"model": "digits", "data": "digits", "seed": -1}, "`seed`: -1 is below 0"),
        ("measure", {"model": "digits", "data": "digits", "seed": np.int64(2**40)}, "`seed`: .* is above 4294967295"),
        ("measure", {"model": "digits", "data": "digits", "cache_budget": float("nan")}, "`cache_budget`: nan is no finite"),
        ("measure", {"model": "digits", "data": "a\0b"}, "`data`: It holds a character of value 0"),
        ("finetune", {"model": "digits", "data": "digits", "epochs": 0}, "`epochs`: 0 is below 1"),
        ("rank", {"model": ["digits"], "data": "digits", "jobs": 0}, "`jobs`: 0 is below 1"),
        ("complete", {"file": "sample:china", "depth": 1}, "`depth`: 1 is below 2"),
    ],
)  # fmt: skip
def test_numbers_are_held_to_the_same_ranges(name, arguments, message):
    with pytest.raises(UsageError, match=message):
        getattr(lowdim, name)(**arguments)


def test_photographs_taken_in_portrait_measure_as_their_upright_copies(tmp_path):
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        for folder in ("upright", "lying"):
            (tmp_path / folder / label).mkdir(parents=True)
        for index in range(9):
            image = Image.fromarray(generator.integers(0, 255, (12, 9, 3), np.uint8))
            orientation = (3, 6, 8)[index % 3]
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            image.save(tmp_path / "upright" / label / f"{index}.png")
            image.transpose(turned[orientation]).save(tmp_path / "lying" / label / f"{index}.png", exif=exif)
    upright, lying = (lowdim.measure("digits", str(tmp_path / folder)) for folder in ("upright", "lying"))
    assert lying["layers"] == upright["layers"] and lying["classes"] == upright["classes"]
