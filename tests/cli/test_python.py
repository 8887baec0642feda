"""Every command as a function of the same name, with strings or with objects."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.main import get_command

import lowdim
from lowdim.cli import app
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


@pytest.mark.parametrize("form", ["arrays", "tensors", "loader", "dictionaries", "frame", "splits"])
def test_measure_takes_modules_and_data_in_any_form(form):
    x, y = blobs()
    pairs = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    frame = pd.DataFrame(x, columns=list("abcd")).assign(kind=pd.Series(y).map(str))
    data = {
        "arrays": (x, y),
        "tensors": (torch.from_numpy(x), torch.from_numpy(y)),
        "loader": DataLoader(pairs, batch_size=7),
        "dictionaries": [{"pixel_values": x[:30], "labels": y[:30]}, {"pixel_values": x[30:], "labels": y[30:]}],
        "frame": frame,
        "splits": {"train": (x, y), "test": blobs(seed=1)},
    }[form]
    found = lowdim.measure(network(), data, label_column="kind" if form == "frame" else None)
    assert {entry["split"] for entry in found["data"]} == {"train", "test"}
    assert found["layers"][0]["width"] == 8


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
        (lambda: lowdim.measure(network(), pd.DataFrame({"a": [1.0]})), "Say which column of the frame holds the labels"),
        (lambda: lowdim.rank([3], "digits"), "A candidate is a name such as"),
        (lambda: lowdim.measure("digits", "digits", batch_size="²"), "`batch_size` takes auto or a positive number"),
    ],
)  # fmt: skip
def test_wrong_types_are_one_line(call, message):
    with pytest.raises(LowdimError) as error:
        call()
    assert message in str(error.value) and "\n" not in str(error.value)


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
