"""Every form of data, good and bad."""

import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import scipy.sparse
import torch
from PIL import Image

from lowdim.data import batches, dataset_from_arrays, load_data, thumbnail
from lowdim.data._given import as_dataset
from lowdim.errors import InputError, UsageError
from lowdim.models import Preprocessing

CLASSES = ("</script><b>", "line\nbreak", "ünï")
rng = np.random.default_rng(0)


def picture(path: Path, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for split, count in (("train", 4), ("val", 2)):
        for name in ("a", "b"):
            for index in range(count):
                picture(root / split / name / f"{index}.png")
    return root


def test_a_folder_with_splits(folder: Path) -> None:
    data = load_data(str(folder))
    assert data.classes == ("a", "b")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 4}
    assert data["test"].items[3] == "val/b/1.png"
    np.testing.assert_array_equal(
        np.asarray(data["test"].load(3)), np.asarray(Image.open(folder / "val" / "b" / "1.png"))
    )


def test_a_folder_without_splits_is_split_by_seed(tmp_path: Path) -> None:
    for name, count in (("a", 10), ("b", 5), ("single", 1)):
        for index in range(count):
            picture(tmp_path / name / f"{index}.jpg")
    data = load_data(str(tmp_path), seed=3)
    assert data["train"].counts(3).tolist() == [8, 4, 1]
    assert data["test"].counts(3).tolist() == [2, 1, 0]
    assert "seed 3" in data.notes[0]
    assert not set(data["train"].items) & set(data["test"].items)


def test_a_class_named_train_is_a_class(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        picture(tmp_path / name / "0.png")
    assert load_data(str(tmp_path)).classes == ("bus", "train")


def test_classes_missing_from_one_split_and_empty_ones_stay(folder: Path) -> None:
    picture(folder / "train" / "only-train" / "0.png")
    (folder / "train" / "empty").mkdir()
    data = load_data(str(folder))
    assert data.classes == ("a", "b", "empty", "only-train")
    assert data["test"].counts(4).tolist() == [2, 2, 0, 0]


def test_links_that_leave_the_folder_are_left_out_and_reported(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "outside" / "secret.png")
    (folder / "train" / "a" / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    (folder / "train" / "a" / "inside.png").symlink_to(folder / "train" / "b" / "0.png")
    (folder / "train" / "c").symlink_to(tmp_path / "outside")
    (folder / "train" / "a" / "loop").symlink_to(folder / "train")
    (folder / "train" / "a" / "notes.txt").write_text("not a picture")
    data = load_data(str(folder))
    assert len(data["train"]) == 9  # the link inside the folder counts
    assert not any("link" in item or "secret" in item for item in data["train"].items)
    report = " ".join(data.notes)
    for part in ("1 link that leaves the folder", "2 links to folders", "1 file that is no picture"):
        assert part in report


def test_strange_class_names_are_text(tmp_path: Path) -> None:
    for index, name in enumerate(CLASSES):
        safe = name.replace("/", "∕")
        picture(tmp_path / safe / f"{index}.png")
        picture(tmp_path / safe / f"{index}b.png")
    assert len(load_data(str(tmp_path)).classes) == 3
    data = dataset_from_arrays(np.eye(3), [0, 1, 2], np.eye(3), [0, 1, 2], classes=CLASSES)
    assert data.classes == CLASSES


def test_a_folder_with_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        load_data(str(tmp_path))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge_png(path: Path) -> None:
    """10,000 x 10,000 pixels in a few kilobytes."""
    row = b"\0" + b"\0" * 10_000
    compressor = zlib.compressobj(9)
    body = b"".join(compressor.compress(row) for _ in range(10_000)) + compressor.flush()
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "huge", "header"])
@pytest.mark.parametrize("quiet", [False, True])
def test_unreadable_pictures_are_named_or_left_out(folder: Path, damage: str, quiet: bool) -> None:
    bad = folder / "train" / "a" / "1.png"
    content = bytearray(bad.read_bytes())
    if damage == "truncated":
        bad.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        bad.write_bytes(b"not a picture")
    elif damage == "empty":
        bad.write_bytes(b"")
    elif damage == "header":
        content[20] ^= 1  # the width, so that the checksum of the header fails
        bad.write_bytes(content)
    else:
        huge_png(bad)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "error")
        data = load_data(str(folder))
        with pytest.raises(InputError, match=r"train/a/1\.png") as caught:
            list(batches(data["train"], Preprocessing(), batch_size=3))
        assert "`skip_unreadable`" in str(caught.value)
        data = load_data(str(folder), skip_unreadable=True)
    assert len(data["train"]) == 7
    assert "left out of train, unreadable: train/a/1.png" in data.notes


def test_pictures_of_several_sizes_need_an_input_size(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, size in (("a", (20, 16)), ("b", (30, 30))):
            picture(tmp_path / split / name / "0.png", size)
    data = load_data(str(tmp_path))
    with pytest.raises(InputError, match="`image_size`"):
        list(batches(data["train"], Preprocessing(), batch_size=2))
    ((images, _, _),) = batches(data["train"], Preprocessing(image_size=(8, 8)), batch_size=2)
    assert isinstance(images, torch.Tensor)
    assert images.shape == (2, 3, 8, 8)


def test_npz_of_images_and_features(tmp_path: Path) -> None:
    images = rng.integers(0, 255, (6, 5, 5), dtype=np.uint8)
    file = tmp_path / "images.npz"
    np.savez(file, x_train=images, y_train=[5, 5, 9, 9, 9, 5], x_test=images[:2], y_test=[9, 12])
    data = load_data(str(file))
    assert data.classes == ("5", "9", "12")
    assert data["train"].counts(3).tolist() == [3, 3, 0]
    np.testing.assert_array_equal(np.asarray(data["train"].load(2)), images[2])
    file = tmp_path / "features.npz"
    for dtype in (np.float16, np.float32, np.float64):
        np.savez(file, x_train=np.eye(6, dtype=dtype), y_train=list("aabbcc"))
        data = load_data(str(file))
        ((rows, labels, positions),) = batches(data["train"], Preprocessing(kind="features"), batch_size=9)
        assert isinstance(rows, torch.Tensor)
        assert rows.dtype == torch.from_numpy(np.zeros(1, dtype)).dtype
        assert len(rows) == len(labels) == len(positions) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.eye(3)}, "needs x_train and y_train"),
        ({"x_train": np.eye(3), "y_train": [0, 1]}, "one label per sample"),
        ({"x_train": np.eye(3, dtype=int), "y_train": [0, 1, 2]}, "expected images"),
        ({"x_train": np.zeros((3, 5, 8, 8), np.uint8), "y_train": [0, 1, 2]}, "expected images"),
        ({"x_train": np.eye(3), "y_train": np.zeros((3, 0))}, "one label per sample"),
        ({"x_train": np.eye(3), "y_train": np.eye(3)}, r"one-hot: give labels.argmax\(axis=1\)"),
        ({"x_train": np.eye(3), "y_train": [0, 1, 2], "x_test": np.eye(3)[:, :2], "y_test": [0, 1, 2]}, "do not match"),
        ({"x_train": np.eye(3), "y_train": [0, 1, 2], "x_test": np.eye(3)}, "with y_test"),
        ({"x_train": np.array([{}, {}], dtype=object), "y_train": [0, 1]}, "pickled objects"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path / "bad.npz"))


def test_classes_a_level_deeper_are_pointed_to(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "raw" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "raw" / name / "1.png")
    with pytest.raises(InputError, match=r"one class folder, raw, and in it the folders cat, dog.*give .*raw\."):
        load_data(tmp_path)
    assert load_data(tmp_path / "raw").classes == ("cat", "dog")
    assert len(load_data(tmp_path, whole=True)["all"]) == 2


def test_a_table_beside_pictures_in_one_folder_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for index in range(3):
        Image.new("L", (4, 4), 60 * index).save(tmp_path / "img" / f"{index}.png")
    assert not load_data(str(tmp_path), test_share=0).notes[1:]
    (tmp_path / "labels.csv").write_text("file,label\nimg/0.png,a\nimg/1.png,b\nimg/2.png,a\n")
    assert any("if labels.csv says what they show" in note for note in load_data(str(tmp_path), test_share=0).notes)
    assert load_data(str(tmp_path / "labels.csv"), test_share=0).classes == ("a", "b")


def test_channels_may_come_first(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 3, 8, 9), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=pixels, y=np.arange(6) % 2)
    data = load_data(str(tmp_path / "d.npz"), test_share=0)
    assert "pictures are read as N x channels x height x width" in data.notes
    assert np.array_equal(np.asarray(data["train"].load(0)), pixels[0].transpose(1, 2, 0))


def test_npz_that_is_none(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez(good, x_train=np.eye(50), y_train=np.arange(50) % 2)
    content = good.read_bytes()
    for number, bad in enumerate((b"", b"nonsense", content[:200], content[:-30])):
        file = tmp_path / f"{number}.npz"
        file.write_bytes(bad)
        with pytest.raises(InputError, match="cannot be read"):
            load_data(str(file))


def test_a_table_of_texts(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text('split\tlabel\ttext\ntrain\tx\tsay "no\ntrain\ty\tb\ntest\tx\tc, d\n', encoding="utf-8")
    data = load_data(str(table))
    assert (data.kind, data.classes) == ("text", ("x", "y"))
    assert [data["train"].load(0), data["test"].load(0)] == ['say "no', "c, d"]
    assert data["test"].items[0] == "row 4: c, d"
    csv = tmp_path / "t.csv"
    csv.write_text('kind,sentence\n1,"a, ""b"""\n2,c\n1,d\n2,e\n', encoding="utf-8")
    data = load_data(str(csv), label_column="kind")
    assert sorted(data[part].load(i) for part in data.splits for i in range(len(data[part]))) == [
        'a, "b"',
        "c",
        "d",
        "e",
    ]


def test_a_table_of_pictures_stays_in_its_folder(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "data" / "p" / f"{index}.png")
    table = tmp_path / "data" / "t.csv"
    rows = "".join(f"p/{index}.png,{index % 2}\n" for index in range(4))
    table.write_text(f"file,label\n{rows}")
    data = load_data(str(table))
    assert data.kind == "image"
    assert data["train"].load(0).size == (16, 20)
    picture(tmp_path / "outside.png")
    for escape in ("../outside.png", str(tmp_path / "outside.png")):
        table.write_text(f"file,label\n{rows}{escape},1\n")
        with pytest.raises(InputError, match="leads out of"):
            load_data(str(table), path_column="file")


@pytest.mark.parametrize(("folder", "ending"), [("images/", ".jpg"), ("", ".PNG"), ("train/", "")])
def test_pictures_are_found_by_what_a_table_calls_them(tmp_path: Path, folder: str, ending: str) -> None:
    names = [f"a{index}" if ending else f"a{index}.png" for index in range(8)]
    for name in names:
        picture(tmp_path / f"{folder}{name}{ending}")
    table = tmp_path / "labels.csv"
    table.write_text("id,breed\n" + "".join(f"{name},{'xy'[index % 2]}\n" for index, name in enumerate(names)))
    data = load_data(str(table))
    assert (data.kind, data.classes) == ("image", ("x", "y")) and data["train"].load(0).size == (16, 20)
    assert "labels: 'breed', the only other column" in data.notes and "pictures are named in 'id'" in data.notes
    assert f"pictures were found as {folder}{names[0]}{ending} and the like" in data.notes
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match=r"labels.csv, row 2: there is no picture 'a0.*path_root"):
        load_data(str(table), path_column="id", path_root=tmp_path / "elsewhere")
    for none in (tmp_path / "nowhere", table):
        with pytest.raises(InputError, match=r"`path_root` .* is no folder"):
            load_data(str(table), path_root=none)


@pytest.mark.parametrize(
    "text",
    [
        "\N{SLIGHTLY SMILING FACE}" * 150,
        "a" * 250,
        "b" * 9000,
        "x/" * 200,
        "\N{LATIN SMALL LETTER E WITH ACUTE}\x01",
        "~",
    ],
)
def test_texts_that_no_file_can_be_called_are_asked_about(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text("review,label\n" + "".join(f"{text}{row},{'ab'[row % 2]}\n" for row in range(8)))
    with pytest.raises(InputError, match=r"text_column"):
        load_data(str(tmp_path / "t.csv"))
    assert load_data(str(tmp_path / "t.csv"), text_column="review").kind == "text"


def test_a_picture_is_looked_for_under_the_first_name_that_is_there(tmp_path: Path) -> None:
    for number in range(1, 5):
        picture(tmp_path / "images" / f"{number}.png")
    (tmp_path / "t.csv").write_text("id,breed\n,x\nnan,y\n1,\n1,x\n2,y\n3,x\n4,y\n")
    data = load_data(str(tmp_path / "t.csv"), label_column="breed")
    assert "pictures were found as images/1.png and the like" in data.notes


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "is empty"),
        ("text,label\n", {}, "no rows"),
        ("text,label\na\n", {}, "line 2: 1 fields"),
        ("text,other\na,b\n", {}, "label_column"),
        ("words,label\na,b\n", {}, "text_column"),
        ("text,label\na,b\n", {"text_column": "txt"}, "Did you mean text"),
        ("text,text,label\na,b,c\n", {}, "twice"),
        ("text,label,split\na,b,tarin\n", {}, "expected train and test"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str, options: dict[str, str], message: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(InputError, match=message):
        load_data(str(table), **options)  # type: ignore[arg-type]


def test_workers_change_nothing(folder: Path) -> None:
    data = load_data(str(folder))
    for indices in (None, [5, 1, 1, 7]):
        results = [
            list(batches(data["train"], Preprocessing(), batch_size=3, indices=indices, workers=workers))
            for workers in (0, 1, 3)
        ]
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                torch.testing.assert_close(one[0], two[0], rtol=0, atol=0)
                torch.testing.assert_close(one[1], two[1])
                np.testing.assert_array_equal(one[2], two[2])
    assert [int(i) for batch in results[0] for i in batch[2]] == [5, 1, 1, 7]


def test_batches_stop_early_without_hanging(folder: Path) -> None:
    stream = batches(load_data(str(folder))["train"], Preprocessing(), batch_size=1, workers=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]


def test_a_model_of_another_kind_is_refused() -> None:
    split = load_data("digits")["train"]
    for kind in ("text", "features"):
        with pytest.raises(InputError, match="data is image"):
            next(batches(split, Preprocessing(kind=kind), batch_size=1))  # type: ignore[arg-type]


def test_thumbnails(folder: Path) -> None:
    small = thumbnail(load_data(str(folder))["train"], 0, size=10)
    assert (small.shape, small.dtype) == ((10, 8, 3), np.uint8)
    assert thumbnail(load_data("digits")["train"], 0).shape == (96, 96, 3)
    with pytest.raises(InputError, match="thumbnails"):
        thumbnail(dataset_from_arrays(np.eye(2), [0, 1], np.eye(2), [0, 1])["train"], 0)


def test_digits_tasks_do_not_leak() -> None:
    def rows(name: str, part: str) -> set[bytes]:
        split = load_data(name)[part]
        return {np.asarray(split.load(i)).tobytes() + bytes([i * 0]) for i in range(len(split))}

    whole = load_data("digits")
    assert (len(whole["train"]), len(whole["test"])) == (1000, 797)
    source, target, test = rows("digits-source", "train"), rows("digits-target", "train"), rows("digits", "test")
    assert source | target == rows("digits", "train")
    assert not source & target
    assert not (source | target) & test
    noisy, clean = load_data("digits-noisy")["test"], load_data("digits-target")["test"]
    np.testing.assert_array_equal(noisy.labels, clean.labels)
    difference = np.asarray(noisy.load(0), float) - np.asarray(clean.load(0), float)
    assert np.abs(difference).max() > 50


# --- The lecture's sets, in stand-in folders of the official layouts, against torchvision's own readers.


def write_cifar(root: Path, name: str) -> None:
    ten = name == "CIFAR10"
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir(parents=True)
    key = "labels" if ten else "fine_labels"
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if ten else ["train", "test"]
    for file in files:
        entry = {
            "data": rng.integers(0, 255, (6, 3072), dtype=np.uint8),
            key: [0, 1, 2, 0, 1, 2],
            "filenames": ["x"] * 6,
        }
        (folder / file).write_bytes(pickle.dumps(entry, protocol=2))
    meta = ("batches.meta", "label_names") if ten else ("meta", "fine_label_names")
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: ["cat", "dog", "owl"]}, protocol=2))


def write_layout(root: Path, name: str) -> None:
    if name.startswith("CIFAR"):
        return write_cifar(root, name)
    if name == "DTD":
        base = root / "dtd" / "dtd"
        for part in ("train", "val", "test"):
            lines = [f"{c}/{c}_{part}_{i}.jpg" for c in ("banded", "woven") for i in range(2)]
            (base / "labels").mkdir(parents=True, exist_ok=True)
            (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
            for line in lines:
                picture(base / "images" / line)
    elif name == "FGVCAircraft":
        base = root / "fgvc-aircraft-2013b" / "data"
        base.mkdir(parents=True)
        (base / "variants.txt").write_text("707-320\nDC 10\n")
        for part in ("trainval", "test"):
            (base / f"images_variant_{part}.txt").write_text(f"{part}1 DC 10\n{part}2 707-320\n")
            for index in (1, 2):
                picture(base / "images" / f"{part}{index}.jpg")
    else:
        base = root / "oxford-iiit-pet"
        (base / "annotations").mkdir(parents=True)
        for part in ("trainval", "test"):
            (base / "annotations" / f"{part}.txt").write_text(
                f"Abyssinian_{part} 1 1 1\namerican_bulldog_{part} 2 2 1\n"
            )
            for animal in ("Abyssinian", "american_bulldog"):
                picture(base / "images" / f"{animal}_{part}.jpg")
    return None


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "DTD", "FGVCAircraft", "OxfordIIITPet"])
def test_official_layouts_read_as_torchvision_reads_them(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    write_layout(tmp_path, name)
    data = load_data(f"torchvision:{name}@{tmp_path}")
    reference = getattr(datasets, name)
    if name.startswith("CIFAR"):
        monkeypatch.setattr(reference, "_check_integrity", lambda self: True)
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        parts = {part: reference(tmp_path, train=part == "train") for part in ("train", "test")}
    else:
        train = "train" if name == "DTD" else "trainval"
        parts = {part: reference(tmp_path, split=own) for part, own in (("train", train), ("test", "test"))}
    assert data.classes == tuple(parts["train"].classes)
    for part, expected in parts.items():
        assert len(data[part]) == len(expected) > 0
        for index in range(len(expected)):
            image, label = expected[index]
            assert data[part].labels[index] == label
            np.testing.assert_array_equal(np.asarray(data[part].load(index).convert("RGB")), np.asarray(image))


def test_official_sets_that_are_absent_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing is downloaded"):
        load_data(f"torchvision:DTD@{tmp_path}")
    with pytest.raises(InputError, match="Did you mean CIFAR100"):
        load_data(f"torchvision:CIFAR1000@{tmp_path}")
    with pytest.raises(InputError, match="Say where"):
        load_data("torchvision:DTD")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_a_cifar_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path, "CIFAR10")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({"data": Bomb()}))
    with pytest.raises(InputError, match="not an array"):
        load_data(f"torchvision:CIFAR10@{tmp_path}")


def test_columns_are_for_tables(folder: Path) -> None:
    with pytest.raises(UsageError, match="Columns"):
        load_data(str(folder), text_column="text")


def test_real_sets(shared_data: Path) -> None:
    sizes = {
        "images/cifar10_lossless_5000.npz": (4000, 1000, 10),
        "images/mnist_convnetjs.npz": (9000, 3000, 10),
        "images/dtd10": (800, 400, 10),
    }
    for path, expected in sizes.items():
        data = load_data(str(shared_data / path))
        assert (len(data["train"]), len(data["test"]), len(data.classes)) == expected
    trec = load_data(str(shared_data / "text/trec.tsv"), label_column="coarse")
    assert (len(trec["train"]), len(trec["test"]), len(trec.classes)) == (5452, 500, 6)


def test_what_is_masked_is_no_number() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    hidden = np.zeros(x.shape, bool)
    hidden[2, 1] = True
    masked, y = np.ma.masked_array(x, hidden), np.arange(10) % 2
    for data in (as_dataset((masked, y)), as_dataset({"train": (masked, y), "test": (x, y)})):
        rows = np.stack([split.load(index) for split in data.splits.values() for index in range(len(split))])
        assert np.isnan(rows).sum() == 1
    with pytest.raises(InputError, match="1 values of type int64 are masked"):
        as_dataset((x, np.ma.masked_array(y, np.arange(10) == 3)))
    with pytest.raises(InputError, match="finite"):
        as_dataset((x, np.ma.masked_array(x[:, 0], np.arange(10) == 3)), task="regression")


def test_data_in_python_as_people_have_it() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2
    batch = [torch.tensor(x), torch.tensor(y)]
    for two in ([batch, batch], (batch, batch), [batch, [part[:6] for part in batch]]):  # list(loader)
        assert sum(map(len, as_dataset(two).splits.values())) in (26, 40)
    same = {
        "sparse": scipy.sparse.csr_matrix(x), "sparse tensor": batch[0].to_sparse(), "objects": x.astype(object), "tensor": batch[0].requires_grad_(),
    }  # fmt: skip
    for inputs in same.values():
        found = as_dataset({"train": (inputs, y), "validation": (x, y)})
        assert set(found.splits) == {"train", "test"}
        np.testing.assert_array_equal(found["train"].load(3), x[3])
    assert as_dataset((x > 0, y)).kind == "features"
    table = pyarrow.table({"a": x[:, 0], "b": x[:, 1], "label": y})
    assert as_dataset(table).classes == ("0", "1")
    texts = [f"text {row}" for row in range(20)]
    rows = [{"text": [text], "label": [row % 2]} for row, text in enumerate(texts)]
    for data in (
        (texts, y.tolist()),
        (np.array(texts), y),
        rows,
        {"train": (texts, y.tolist()), "test": (texts, y.tolist())},
    ):
        found = as_dataset(data)
        assert found.kind == "text" and found["train"].load(0) in texts and found.classes == ("0", "1")


def test_data_that_is_none_is_refused_with_what_came() -> None:
    x, y = np.zeros((4, 3)), np.arange(4) % 2
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), 2)
    for data, message in (
        ((loader, loader, loader), "of type DataLoader"),
        ([{"input_ids": x, "labels": y}], "holds input_ids, labels"),
        (([x[:1], x], [0, 1]), "not all the same shape"),
        ({"train": (x, y), "test": (["a"] * 4, y)}, "texts and others numbers"),
    ):
        with pytest.raises(InputError, match=message):
            as_dataset(data)


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "Dev"), ("train", "Validation")])
def test_parts_are_found_under_their_usual_names_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for part in names:
        for label in "ab":
            picture(tmp_path / part / label / "0.png")
    data = load_data(str(tmp_path))
    notes = () if names[1] == "Testing" else (f"what is tested on is the folder {names[1]}",)
    assert (data.classes, sorted(data.splits), data.notes) == (("a", "b"), ["test", "train"], notes)


def test_classes_a_level_deeper_are_asked_about(tmp_path: Path) -> None:
    for place in ("animals/cat", "animals/dog", "things/car", "things/cup"):
        picture(tmp_path / place / "0.png")
    told = "the classes are animals, things; the folders in them (car, cat, cup, dog) are not told apart"
    assert any(note.startswith(told) for note in load_data(str(tmp_path)).notes)
    picture(tmp_path / "things" / "1.png")
    assert not any("told apart" in note for note in load_data(str(tmp_path)).notes)


def test_words_for_no_label_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "a,1\nb,2\nc,NA\nd,None\ne,nan\n" * 2)
    data = load_data(str(tmp_path / "t.csv"), test_share=0)
    assert (
        "these are taken for a class: 'NA', 'None'. Where no label is known, leave the sample out, or its cell empty"
        in data.notes
    )
    told = [dataset_from_arrays(np.eye(9), [0, 1, unknown] * 3).notes for unknown in (-100, -1)]
    assert [any("taken for a class" in note for note in notes) for notes in told] == [True, False]
    assert any("'-1'" in note for note in dataset_from_arrays(np.eye(12), [0, 1, 2, -1] * 3).notes)


def test_what_to_do_with_other_forms_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(4))
    with pytest.raises(InputError, match=r"numpy\.savez\('FILE\.npz', x_train=features, y_train=labels\)"):
        load_data(str(tmp_path / "x.npy"))
    (tmp_path / "t.csv").write_text("file,label\nhttps://example.org/0.png,1\nhttps://example.org/1.png,2\n")
    with pytest.raises(InputError, match="is an address"):
        load_data(str(tmp_path / "t.csv"))
