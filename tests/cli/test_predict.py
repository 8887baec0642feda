"""predict and export as typed."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.test_finetuning import lowdim, result
from tests.models.test_loading import tiny_bert

from lowdim.data import load_data
from lowdim.models import load_model

PREDICT = ["predict", "--delta", "tuned/delta", "--data"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 digits of five classes as picture files without a split, and a network tuned on a part drawn with seed 3."""
    folder = tmp_path_factory.mktemp("predict")
    split = load_data("digits-0-4", limit=50)["test"]
    for index, label in enumerate(split.labels):
        path = folder / "digits" / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        split.load(index).save(path)
    words = ["finetune", "--model", "digits-0-4", "--data", "digits", "--seed", "3", "--method", "linear-probe"]
    words[4] = str(folder / "digits")
    lowdim(*words, "--out", "tuned", folder=folder)
    return folder


def flat(folder: Path, target: Path) -> Path:
    """The same pictures in one folder without class names."""
    target.mkdir()
    for path in (folder / "digits").glob("*/*.png"):
        shutil.copy(path, target / path.name)
    return target


def classes(found: dict) -> dict[str, str]:
    return {Path(row["item"]).name: row["class"] for row in found["predictions"]}


def test_all_samples_are_classified_where_the_data_has_no_split(folder: Path) -> None:
    data = str(folder / "digits")
    found = result(lowdim(*PREDICT, data, "--csv", "all.csv", "--json", folder=folder))
    assert len(found["predictions"]) == 50 and found["config"]["split"] == "all"
    assert found["accuracy"] is None
    (warning,) = found["warnings"]
    assert "training samples may be among them" in warning and "--split" in warning
    with (folder / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50
    for row, one in zip(rows, found["predictions"], strict=True):
        chances = {
            name.removeprefix("probability of "): float(value)
            for name, value in row.items()
            if name.startswith("probability of ")
        }
        assert sum(chances.values()) == pytest.approx(1)
        assert row["class"] == max(chances, key=chances.__getitem__)
        assert chances[row["class"]] == pytest.approx(float(row["probability"]))
        assert row["label"] == (one["label"] or "")
    assert {row["label"] for row in rows} <= {Path(row["item"]).parent.name for row in rows}
    done = lowdim(*PREDICT, data, folder=folder)
    assert "all 50 samples of digits" in done.stdout and "accuracy" not in done.stdout
    assert "training samples may be among them" in done.stderr


def test_samples_unlike_all_training_samples_are_called_unknown(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 17, size=(30, 8, 8)) / 16
    np.savez(folder / "noise.npz", x_train=(255 * noise).astype(np.uint8))
    found = result(lowdim(*PREDICT, "noise.npz", "--csv", "noise.csv", "--json", folder=folder))
    known = result(lowdim(*PREDICT, str(folder / "digits"), "--json", folder=folder))
    shares = [np.mean([one["unknown"] for one in each["predictions"]]) for each in (found, known)]
    assert shares[0] > 0.4 and shares[1] < 0.1
    strange = sum(one["unknown"] for one in found["predictions"])
    assert f"{strange} unknown, for being unlike all training samples" in found["headline"]
    known_ones = [one["class"] for one in found["predictions"] if not one["unknown"]]
    most = max(set(known_ones), key=known_ones.count)
    assert f"{known_ones.count(most)} as {most}" in found["headline"]
    with (folder / "noise.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["unknown"] == "True" for row in rows] == [one["unknown"] for one in found["predictions"]]
    assert [float(row["strangeness"]) for row in rows] == [one["strangeness"] for one in found["predictions"]]


def test_two_views_average_the_image_and_its_mirror_image(folder: Path) -> None:
    plain, both = (
        result(lowdim(*PREDICT, str(folder / "digits"), "--views", n, "--csv", f"{n}.csv", "--json", folder=folder))
        for n in ("1", "2")
    )
    mirrored = folder / "mirrored"
    for path in (folder / "digits").rglob("*.png"):
        target = mirrored / path.relative_to(folder / "digits")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
    lowdim(*PREDICT, str(mirrored), "--csv", "m.csv", "--json", folder=folder)

    def chances(name: str) -> np.ndarray:
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: Path(row["item"]).name)
        return np.array([[float(row[name]) for name in row if name.startswith("probability of")] for row in rows])

    np.testing.assert_allclose(chances("2"), (chances("1") + chances("m")) / 2, atol=1e-6)
    assert plain["config"]["views"] == 1 and both["config"]["views"] == 2
    assert "not 3" in lowdim(*PREDICT, str(folder / "digits"), "--views", "3", folder=folder, code=2).stderr


def test_a_split_that_is_asked_for_is_the_one_of_finetune(folder: Path) -> None:
    data, tuned = str(folder / "digits"), json.loads((folder / "tuned" / "result.json").read_text())
    found = result(lowdim(*PREDICT, data, "--split", "test", "--seed", "3", "--json", folder=folder))
    assert {row["item"] for row in found["predictions"]} == set(load_data(data, seed=3)["test"].items)
    assert found["accuracy"] == pytest.approx(tuned["accuracy"]["test"])
    assert "drawn with --seed 3" in " ".join(found["warnings"])
    whole = result(lowdim(*PREDICT, data, "--split", "all", "--json", folder=folder))
    assert len(whole["predictions"]) == 50 and whole["accuracy"] > 0.9
    assert "training samples may be among them" in " ".join(whole["warnings"])


def test_data_with_a_split_of_its_own(folder: Path) -> None:
    found = result(lowdim(*PREDICT, "digits-0-4", "--limit", "30", "--json", folder=folder))
    assert found["config"]["split"] == "test" and len(found["predictions"]) == 30
    assert found["accuracy"] > 0.9 and found["warnings"] == []
    assert "test split of digits-0-4" in lowdim(*PREDICT, "digits-0-4", "--limit", "30", folder=folder).stdout
    found = result(lowdim(*PREDICT, "digits-0-4", "--limit", "30", "--split", "all", "--json", folder=folder))
    assert len(found["predictions"]) == 60 and "training samples may be" in " ".join(found["warnings"])
    assert "no val split" in lowdim(*PREDICT, "digits-0-4", "--split", "val", folder=folder, code=3).stderr


def test_pictures_without_labels(folder: Path, tmp_path: Path) -> None:
    expected = classes(result(lowdim(*PREDICT, str(folder / "digits"), "--json", folder=folder)))
    new = flat(folder, tmp_path / "new")
    found = result(lowdim(*PREDICT, str(new), "--json", folder=folder))
    assert classes(found) == expected and found["accuracy"] is None
    assert found["warnings"] == []
    nested = tmp_path / "nested" / "2024" / "may"
    nested.parent.mkdir(parents=True)
    found = result(lowdim(*PREDICT, str(flat(folder, nested).parents[1]), "--json", folder=folder))
    assert classes(found) == expected and found["accuracy"] is None
    assert "2024" in " ".join(found["warnings"]) and "not among" in " ".join(found["warnings"])
    found = result(lowdim(*PREDICT, str(new / "7.png"), "--json", folder=folder))
    assert classes(found) == {"7.png": expected["7.png"]}


def test_a_table_without_labels(folder: Path, tmp_path: Path) -> None:
    expected = classes(result(lowdim(*PREDICT, str(folder / "digits"), "--json", folder=folder)))
    new = flat(folder, tmp_path / "new")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file"], *[[f"new/{path.name}"] for path in sorted(new.iterdir())]])
    found = result(lowdim(*PREDICT, str(tmp_path / "t.csv"), "--path-column", "file", "--json", folder=folder))
    assert classes(found) == expected and found["accuracy"] is None


def test_a_split_of_unlabelled_data_and_nothing_to_classify(folder: Path, tmp_path: Path) -> None:
    new = flat(folder, tmp_path / "new")
    refused = lowdim(*PREDICT, str(new), "--split", "test", folder=folder, code=3)
    assert "holds no picture in a class folder" in refused.stderr
    for path in new.iterdir():
        path.write_bytes(b"no picture")
    refused = lowdim(*PREDICT, str(new), "--skip-unreadable", folder=folder, code=3)
    assert "no sample" in refused.stderr


def test_features_without_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 5))
    labels = (x[:, 0] > 0).astype(int)
    np.savez(tmp_path / "f.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    np.savez(tmp_path / "new.npz", x_train=x)
    words = ["finetune", "--model", "features", "--data", "f.npz", "--method", "linear-probe", "--out", "tuned"]
    lowdim(*words, folder=tmp_path)
    known = result(lowdim(*PREDICT, "f.npz", "--json", folder=tmp_path))
    new = result(lowdim(*PREDICT, "new.npz", "--json", folder=tmp_path))
    assert known["accuracy"] is not None and new["accuracy"] is None
    assert [row["class"] for row in new["predictions"]] == [row["class"] for row in known["predictions"]]


@pytest.mark.parametrize("command", [["predict", "--data", "digits", "--limit", "9"], ["export", "--to", "torch"]])
def test_a_base_with_pickled_weights_needs_permission(command: list[str], tmp_path: Path) -> None:
    torch.save(load_model("digits-0-4").module.state_dict(), tmp_path / "w.pt")
    words = ["finetune", "--model", "digits-0-4", "--weights", "w.pt", "--allow-pickle", "--data", "digits"]
    lowdim(*words, "--shots", "3", "--method", "linear-probe", "--out", "tuned", folder=tmp_path)
    refused = lowdim(*command, "--delta", "tuned/delta", folder=tmp_path, code=2)
    assert "--allow-pickle" in refused.stderr
    lowdim(*command, "--delta", "tuned/delta", "--allow-pickle", folder=tmp_path)


NETS = """
from lowdim.models import load_model

pretrained_cfg = {"input_size": (1, 8, 8), "mean": (MEAN,), "std": (1.0,)}


def build(eps=1e-5):
    network = load_model("digits-0-4").module
    network.bn.eps = eps
    return network
"""


@pytest.fixture
def own_base(tmp_path: Path) -> Path:
    """A network of the user's own, tuned; its base is code."""
    (tmp_path / "nets.py").write_text(NETS.replace("MEAN", "0.0"))
    words = ["finetune", "--model", "nets.py:build", "--data", "digits", "--shots", "3", "--method", "linear-probe"]
    lowdim(*words, "--out", "tuned", folder=tmp_path)
    return tmp_path


def test_samples_are_prepared_as_for_tuning(own_base: Path) -> None:
    words = [*PREDICT, "digits", "--limit", "50", "--model", "nets.py:build", "--json"]
    before = result(lowdim(*words, folder=own_base))
    assert before["warnings"] == []
    (own_base / "nets.py").write_text(NETS.replace("MEAN", "0.5"))
    after = lowdim(*words, folder=own_base)
    assert result(after)["predictions"] == before["predictions"]
    (warning,) = result(after)["warnings"]
    assert "mean is [0.5], was [0.0]" in warning and warning in after.stderr
    words = ["export", "--delta", "tuned/delta", "--to", "torch", "--model", "nets.py:build", "--json"]
    assert result(lowdim(*words, folder=own_base))["warnings"] == [warning]
    extra = {"lowdim.json": ""}
    torch.export.load(own_base / "tuned" / "model.pt2", extra_files=extra)
    assert json.loads(extra["lowdim.json"])["preprocessing"]["mean"] == [0.0]


def test_a_base_with_other_options_is_refused(own_base: Path) -> None:
    words = [*PREDICT, "digits", "--limit", "50", "--model", "nets.py:build"]
    refused = lowdim(*words, "--model-arg", "eps=1", folder=own_base, code=3)
    assert "same weights, but other outputs" in refused.stderr


@pytest.mark.filterwarnings("ignore:Unsupported layer type", "ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_text_classifier_from_tuning_to_every_export(tmp_path: Path) -> None:
    """Its base gives a table of tensors, its classifier is replaced, and new texts have no labels."""
    tiny_bert(tmp_path / "bert", "AutoModelForSequenceClassification")
    words = ("how", "many", "cats")
    texts = [f"{words[i % 3]} {words[i % 2]}" for i in range(30)]
    rows = "".join(f"{text}\t{'cd'[i % 2]}\n" for i, text in enumerate(texts))
    (tmp_path / "t.tsv").write_text(f"text\tlabel\n{rows}")
    (tmp_path / "new.tsv").write_text("text\n" + "\n".join(texts))
    tune = ["finetune", "--model", "hf:bert", "--data", "t.tsv", "--method", "layer", "--epochs", "1", "--out", "tuned"]
    lowdim(*tune, folder=tmp_path)
    labelled = result(lowdim(*PREDICT, "t.tsv", "--split", "all", "--json", folder=tmp_path))
    new = result(lowdim(*PREDICT, "new.tsv", "--json", folder=tmp_path))
    assert [one | {"label": None} for one in labelled["predictions"]] == new["predictions"]
    assert len(new["predictions"]) == 30 and all(one["label"] for one in labelled["predictions"])
    assert labelled["accuracy"] is not None and new["accuracy"] is None
    for target in ("peft", "checkpoint", "torch"):
        words = ["export", "--delta", "tuned/delta", "--to", target, "--json"]
        assert result(lowdim(*words, folder=tmp_path))["max_difference"] <= 1e-5


def test_items_that_are_not_finite_are_left_out_by_name(tmp_path: Path) -> None:
    labels = np.arange(40) % 2
    rows = np.random.default_rng(0).normal(size=(40, 3)) + 3 * labels[:, None]
    np.savez(tmp_path / "good.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    words = ["finetune", "--model", "features", "--data", "good.npz", "--method", "linear-probe", "--out", "tuned"]
    lowdim(*words, folder=tmp_path)
    good = result(lowdim(*PREDICT, "good.npz", "--json", folder=tmp_path))
    rows[[4, 9], 0] = np.nan, -np.inf
    np.savez(tmp_path / "bad.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    found = result(lowdim(*PREDICT, "bad.npz", "--json", "--csv", "bad.csv", folder=tmp_path))
    assert found["left_out"] == ["test[4]", "test[9]"]
    assert found["predictions"] == [row for row in good["predictions"] if row["item"] not in found["left_out"]]
    assert "2 of 40 items are left out" in found["warnings"][0] and "test[4], test[9]" in found["warnings"][0]
    right = [row["class"] == str(int(row["item"][5:-1]) % 2) for row in found["predictions"]]
    assert found["accuracy"] == np.mean(right)
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 39
    np.savez(tmp_path / "none.npz", x_train=rows * np.nan, y_train=labels)
    done = lowdim(*PREDICT, "none.npz", "--json", folder=tmp_path, code=3)
    assert "all 40 items are NaN or infinite" in done.stderr and done.stdout == ""


def test_arguments_of_a_base_belong_to_one_that_is_named(folder: Path) -> None:
    found = lowdim(*PREDICT, str(folder / "digits"), "--model-arg", "a=1", folder=folder, code=2)
    assert "--model-arg belongs to a network that --model names" in found.stderr


def test_what_finetune_prints_runs_as_it_stands(folder: Path, tmp_path: Path) -> None:
    """With a picture that cannot be read, a seed of the split, and the run folder in place of the delta in it."""
    shutil.copytree(folder / "digits", tmp_path / "my digits")
    (tmp_path / "my digits" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["--data", "my digits", "--skip-unreadable", "--seed", "3", "--method", "linear-probe", "--out", "my run"]
    done = lowdim("finetune", "--model", "digits-0-4", *words, folder=tmp_path)
    (command,) = [line for line in done.stdout.splitlines() if line.strip().startswith("lowdim predict")]
    asked = result(lowdim(*shlex.split(command)[1:], "--json", folder=tmp_path))
    assert len(asked["predictions"]) == 50 and asked["config"]["seed"] == 3
    short = lowdim(*PREDICT[:2], "my run", *shlex.split(command)[4:], "--page", "seen.html", folder=tmp_path)
    assert "page: seen.html" in short.stdout and (tmp_path / "seen.html").exists()


def test_a_picture_that_cannot_be_read_is_no_fault_of_a_candidate(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "digits", tmp_path / "digits")
    (tmp_path / "digits" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for command in ("rank", "advise"):
        models = ["--model", "digits-0-4", "--model", "digits"]
        said = lowdim(command, *models, "--data", str(tmp_path / "digits"), folder=tmp_path, code=3).stderr
        assert said.count("0/broken.png") == 1 and "andidate" not in said


@pytest.mark.parametrize(
    "words, said",
    [
        (["--csv", "table.csv"], "--csv is table.csv, which is read here and would be lost"),
        (["--page", "link.csv"], "--page is link.csv, which is read here and would be lost"),
        (["--csv", "tuned/delta/delta.json"], "which must stay as it is"),
        (["--csv", "same.x", "--page", "./same.x"], "are one file"),
    ],
)
def test_nothing_that_is_read_is_written_over(folder: Path, words: list[str], said: str) -> None:
    table, before = folder / "table.csv", (folder / "tuned/delta/delta.json").read_bytes()
    table.write_text(
        "path\n" + "".join(f"{path.relative_to(folder)}\n" for path in sorted(folder.glob("digits/*/*.png"))[:3])
    )
    (folder / "link.csv").unlink(missing_ok=True)
    (folder / "link.csv").symlink_to(table)
    done = lowdim(*PREDICT, "table.csv", *words, folder=folder, code=2)
    assert said in " ".join(done.stderr.split())
    assert table.read_text().startswith("path\n") and (folder / "tuned/delta/delta.json").read_bytes() == before
    assert not (folder / "same.x").exists()


def test_an_export_leaves_the_delta_alone(folder: Path) -> None:
    for name, said in (("tuned/delta/delta.json", "must stay as it is"), ("digits", "is a folder")):
        done = lowdim("export", "--delta", "tuned/delta", "--to", "onnx", "--file", name, folder=folder, code=2)
        assert said in " ".join(done.stderr.split())
    assert lowdim("publish", "tuned/delta", "--folder", "tuned/delta", folder=folder, code=2).stderr.count(
        "must stay as it is"
    )


def test_the_accuracy_is_that_of_the_labels_that_the_network_can_give(folder: Path) -> None:
    found = result(lowdim(*PREDICT, str(folder / "digits"), "--split", "all", "--json", folder=folder))
    right = {row["item"]: row["class"] == row["label"] for row in found["predictions"]}
    names = sorted(right)
    labels = ["", "zebra", *(name.split("/")[0] for name in names[2:])]
    rows = [f"digits/{name},{label}\n" for name, label in zip(names, labels, strict=True)]
    (folder / "some.csv").write_text("path,label\n" + "".join(rows))
    some = result(lowdim(*PREDICT, "some.csv", "--split", "all", "--json", folder=folder))
    assert some["judged"] == 48 and some["accuracy"] == pytest.approx(np.mean([right[name] for name in names[2:]]))
    told = " ".join(some["warnings"])
    assert "The accuracy is that of the 48 others: the labels zebra of 1 samples are not among" in told
    assert "1 of 50 samples have no label" in told
    assert "agree with their label, of the 48 with one that the network can give" in some["headline"]
