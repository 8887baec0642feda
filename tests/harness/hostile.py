"""Calls of the command line that no one should make, and what may come of them: an answer in one line, never an internal error."""

import io
import json
import os
import pickle
import resource
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lowdim._files import json_digest, write_json

BIG = "9" * 5000
"""A number that Python does not turn into text or back."""


@dataclass(frozen=True)
class Call:
    """Words of a command line, and what is done in its process before (limits, closed streams)."""

    words: tuple[str, ...]
    before: Callable[[], object] | None = None
    codes: tuple[int, ...] = (0, 2, 3, 4, 5)

    @property
    def name(self) -> str:
        """For people."""
        return " ".join(word if len(word) < 60 else f"{word[:25]}…({len(word)})" for word in self.words)


def calls(root: Path) -> Iterator[Call]:
    """All calls; `root` is a folder made by `world.build`, to which hostile files are added."""
    for source in (_archives, _deltas, _texts, _options, _models, _places, _pictures, _resources):
        yield from source(root)


def _call(*words: str, before: Callable[[], object] | None = None, codes: tuple[int, ...] = (2, 3, 5)) -> Call:
    # A candidate that cannot be scored is a warning, if there are others.
    return Call(words, before, (0, *codes) if words[:1] == ("rank",) else codes)


def reads_arrays(path: str) -> Iterator[tuple[str, ...]]:
    """Every command that reads an .npz file."""
    yield "measure", "--model", "features", "--data", path
    yield "rank", "--model", "features", "--model", path, "--data", "features.npz"
    yield "advise", "--model", "features", "--data", path
    yield "finetune", "--model", "features", "--data", path
    yield "predict", "--delta", "delta-features", "--data", path
    yield "check", "steps", "--theorem", "separation", "--data", path
    yield "complete", path


def _archives(root: Path) -> Iterator[Call]:
    good = (root / "features.npz").read_bytes()
    folder = root / "damaged"
    folder.mkdir()
    for name, content in damaged_archives(good).items():
        (folder / f"{name}.npz").write_bytes(content)
        for words in reads_arrays(f"damaged/{name}.npz"):
            yield _call(*words)


def damaged_archives(good: bytes) -> dict[str, bytes]:
    """One of each kind of damage to an archive."""
    flagged, unknown = bytearray(good), bytearray(good)
    for start, flag, method in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        at = good.find(start)
        while at >= 0:
            flagged[at + flag] |= 1
            unknown[at + method] = 99
            at = good.find(start, at + 1)
    flipped = bytearray(good)
    for at in range(60, 120):
        flipped[at] ^= 255
    buffer, objects = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([{}]), allow_pickle=True)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("x_train", "y_train", "x", "y", "values"):
            archive.writestr(f"{name}.npy", objects.getvalue())
    return {
        "empty": b"",
        "cut": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "encrypted": bytes(flagged),
        "method": bytes(unknown),
        "objects": buffer.getvalue(),
        "text": b"not an archive",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(20),
    }


def forge(folder: Path, target: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a delta with other content and the right checksum."""
    shutil.copytree(folder, target)
    content = json.loads((target / "delta.json").read_text())
    edit(content)
    content.pop("sha256", None)
    write_json(target / "delta.json", {**content, "sha256": json_digest(content)})
    return target


WRONG: tuple[Any, ...] = (None, 3, "text", [1, 2], {"a": 1}, -1, [[1]], True)
GONE = object()
Place = tuple[str | int, ...]


def places(content: dict[str, Any]) -> list[Place]:
    """Where a delta's content holds a value that is not free."""
    found: list[Place] = [(key,) for key in content if key not in ("sha256", "logits", "notes", "format", "version")]
    found += [("base", key) for key in content["base"]]
    found += [("base", "source", key) for key in content["base"]["source"]]
    found += [("preprocessing", key) for key in content["preprocessing"]]
    found += [("parts", 0, key) for key in content["parts"][0]]
    return [*found, *(("example", "", key) for key in content["example"][""])]


def at(place: Place, value: Any) -> Callable[[dict[str, Any]], object]:
    """An edit that puts a value somewhere, or takes it away."""

    def edit(content: Any) -> None:
        for key in place[:-1]:
            content = content[key]
        if value is GONE:
            del content[place[-1]]
        else:
            content[place[-1]] = value

    return edit


_RANGES: dict[str, tuple[dict[Place, Any], str]] = {
    "source-unknown": ({("base", "source", "surprise"): 1}, "surprise"),
    "layer-unknown": ({("parts", 0, "blocks"): ["no.such"]}, "no.such"),
    "size-negative": ({("preprocessing", "image_size"): [-1, -1]}, r"image_size\[0\] must be .* >= 1"),
    "size-huge": ({("preprocessing", "image_size"): [100_000, 100_000]}, "image_size"),
    "crop-zero": ({("preprocessing", "crop"): 0}, "crop"),
    "std-zero": ({("preprocessing", "std"): [0.0]}, "std"),
    "std-many": ({("preprocessing", "std"): [1.0, 1.0]}, "std"),
    "rank-huge": ({("parts", 0, "rank"): 10**12, ("parts", 0, "method"): "lora"}, "rank"),
    "shape-huge": ({("example", "", "shape"): [2, 10**9, 10**9]}, "shape"),
    "shape-other": ({("example", "", "shape"): [2, 5]}, "2 x 5"),
    "shape-negative": ({("example", "", "shape"): [2, -5]}, "shape"),
    "dtype-unknown": ({("example", "", "dtype"): "torch.nn"}, "dtype"),
    "no-part": ({("parts",): []}, "parts"),
    "no-class": ({("classes",): []}, "classes"),
    "version-newer": ({("version",): 99}, "Update lowdim"),
    "logits-text": ({("logits",): "x"}, "logits"),
    "logits-ragged": ({("logits",): [[1], [1, 2]]}, "logits"),
}
OUT_OF_RANGE = [(name, message) for name, (_, message) in _RANGES.items()]


def forgeries(content: dict[str, Any]) -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    """Edits of a delta's content by name: each key gone, or of each wrong type; and values out of range."""
    for place in places(content):
        for index, wrong in enumerate((GONE, *WRONG)):
            yield f"{'-'.join(map(str, place))}-{index}", at(place, wrong)
    for name, (values, _) in _RANGES.items():

        def edit(found: dict[str, Any], values: dict[Place, Any] = values) -> None:
            for place, value in values.items():
                at(place, value)(found)

        yield name, edit


def _deltas(root: Path) -> Iterator[Call]:
    (root / "forged").mkdir()
    for kind, data in (("digits", "images.npz"), ("features", "features.npz")):
        content = json.loads((root / f"delta-{kind}" / "delta.json").read_text())
        # What reads them is tried with every one of them elsewhere.
        for name, edit in [*forgeries(content)][kind == "features" :: 12]:
            target = forge(root / f"delta-{kind}", root / "forged" / f"{kind}-{name}", edit)
            # Some of these values are allowed, or change nothing.
            yield _call("predict", "--delta", str(target.relative_to(root)), "--data", data, codes=(0, 2, 3, 5))
    for name, text in {**deep_json(), "number": f'{{"version": {BIG}}}', "list": "[1]", "null": "null"}.items():
        target = root / "forged" / name
        shutil.copytree(root / "delta-digits", target)
        (target / "delta.json").write_text(text)
        yield _call("predict", "--delta", f"forged/{name}", "--data", "images.npz")
        yield _call("export", "--delta", f"forged/{name}", "--to", "torch")


def deep_json() -> dict[str, str]:
    """Nested 10,000 levels."""
    return {"deep-lists": "[" * 10_000 + "]" * 10_000, "deep-tables": '{"a":' * 10_000 + "1" + "}" * 10_000}


def _texts(root: Path) -> Iterator[Call]:
    tomls = {
        "list": "models = [1]",
        "text": 'models = "x"',
        "empty": "",
        "none": "models = []",
        "deep": "models = " + "[" * 10_000 + "]" * 10_000,
        "deep-key": "a." * 10_000 + "b = 1",
        "inline": "models = [{" + "a = {" * 5000 + "}" * 5001 + "]",
        "number": f"models = {BIG}",
        "size-number": f'[[models]]\nmodel = "digits"\nimage_size = {BIG}',
        "size": '[[models]]\nmodel = "digits"\nimage_size = -1',
        "size-huge": '[[models]]\nmodel = "digits"\nimage_size = 100000',
        "size-list": '[[models]]\nmodel = "digits"\nimage_size = ["a"]',
        "size-three": '[[models]]\nmodel = "digits"\nimage_size = [1, 2, 3]',
        "mean": '[[models]]\nmodel = "digits"\nmean = ["a"]',
        "std": '[[models]]\nmodel = "digits"\nstd = [0]',
        "arguments": '[[models]]\nmodel = "timm:resnet18"\narguments = 3',
        "accuracy": '[[models]]\nfeatures = "features.npz"\nsource_accuracy = nan',
        "nul": '[[models]]\nfeatures = "a\\u0000b.npz"',
        "name": '[[models]]\nname = ""\nfeatures = "features.npz"',
        "date": "models = 2020-01-01",
        "key": '[[models]]\nmodle = "digits"',
        "both": '[[models]]\nmodel = "digits"\nfeatures = "features.npz"',
        "binary": "\x00\x01",
    }
    (root / "tomls").mkdir()
    for name, text in tomls.items():
        (root / "tomls" / f"{name}.toml").write_text(text)
        yield _call("rank", "--models", f"tomls/{name}.toml", "--data", "images.npz", codes=(0, 2, 3, 5))
        yield _call("advise", "--models", f"tomls/{name}.toml", "--data", "images.npz", codes=(0, 2, 3, 5))
    (root / "latin.toml").write_bytes(b'[[models]]\nname = "\xe4"')
    yield _call("rank", "--models", "latin.toml", "--data", "images.npz")
    for name, content in {"list": [1, 2], "number": 3, "keys": {"data": 3}, "none": None}.items():
        folder = root / f"cifar-{name}"
        shutil.copytree(root / "cifar", folder)
        (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(content))
        yield _call("measure", "--model", "digits", "--data", f"torchvision:CIFAR10@cifar-{name}")
    folder = root / "cifar-code"
    shutil.copytree(root / "cifar", folder)
    (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    yield _call("measure", "--model", "digits", "--data", "torchvision:CIFAR10@cifar-code")
    yield _call("measure", "--model", "digits", "--data", "torchvision:DTD@photos")
    tables = {
        "long-id": "user,item,value\n" + f"{'u' * 100_000},i,1\n" + "".join(f"u{k},i{k % 9},2\n" for k in range(3000)),
        "long-line": "a,b\n" + "1" * 11_000_000 + ",2\n",
        "digits": f"a,b\n{BIG},2\n1,\n3,4\n",
        "nul": "a,b\n1,\0\n2,3\n",
        "quote": 'a,b\n"1,2\n3,4\n',
        "ragged": "a,b\n1,2,3\n4,5\n",
        "header": "a,b\n",
        "infinite": "a,b\ninf,1\n1e400,\n2,3\n",
        "same": "a,a\n1,2\n3,\n",
        "blank": "\n\n\n",
        "wide": ",".join(f"c{k}" for k in range(20_000)) + "\n" + ",".join("1" for _ in range(20_000)) + "\n",
    }
    (root / "tables").mkdir()
    for name, text in tables.items():
        (root / "tables" / f"{name}.csv").write_text(text)
        yield _call("complete", f"tables/{name}.csv", codes=(0, 2, 3, 5))
    triplets = ("--row", "user", "--col", "item", "--value", "value")
    yield _call("complete", "tables/long-id.csv", *triplets, codes=(0, 2, 3, 5))
    yield _call("complete", "triplets.csv", *triplets, "--predict", "table.csv")
    yield _call("complete", "triplets.csv", *triplets, "--predict", "damaged/cut.npz")
    for text in ("text,label\n", "text,label\na\n", f"text,label\n{'x' * 11_000_000},a\n", "\xff\xfe\n"):
        name = f"tables/t{len(text)}.csv"
        (root / name).write_text(text, encoding="latin-1")
        yield _call("measure", "--model", "digits", "--data", name, "--path-column", "text", "--label-column", "label")


def _options(root: Path) -> Iterator[Call]:
    measure = ("measure", "--model", "features", "--data", "features.npz")
    finetune = ("finetune", "--model", "features", "--data", "features.npz")
    rank = ("rank", "--model", "features", "--data", "features.npz")
    predict = ("predict", "--delta", "delta-features", "--data", "features.npz")
    for command in (measure, finetune, rank, predict, ("advise", "--model", "features", "--data", "features.npz")):
        for seed in ("-1", str(2**70), "x", "1e3", BIG, "nan"):
            yield _call(*command, "--seed", seed)
        for size in ("²", "0", "-1", "1.5", BIG, "٣", "", "1_0"):
            yield _call(*command, "--batch-size", size, codes=(0, 2) if size == BIG else (2,))
        for limit in ("-1", "0", BIG, "x"):
            yield _call(*command, "--limit", limit, codes=(0, 2, 3) if limit == BIG else (2, 3))
    for command in (measure, finetune, ("advise", "--model", "features", "--data", "features.npz")):
        for budget in ("nan", "-1", "inf", "1e400", "x"):
            yield _call(*command, "--cache-budget", budget, codes=(0, 2) if budget in ("inf", "1e400") else (2,))
    for option, values in {
        "--image-size": ("-1", "0", "99999", "100000000000", BIG),
        "--mean": ("nan", "inf", "a,b", "", "1,2,3,4,5,6,7", BIG),
        "--std": ("0", "nan", "-1", "1e400", ","),
        "--shots": ("-1", "0"),
        "--outliers": ("-1", BIG),
        "--layers": ("", ",", "[", "nope", "*" * 5000),
        "--device": ("cuda:99", "tpu", "", "cpu:7", "cuda:x", "cpu:"),
        "--cache": ("features.npz", "a\0b", "/proc/x"),
        "--split": ("", "valid"),
    }.items():
        for value in values:
            yield _call("measure", "--model", "digits", "--data", "images.npz", option, value, codes=(0, 2, 3, 5))
    for option, values in {
        "--rate": ("nan", "-1", "inf", "0", "1e400"),
        "--epochs": ("0", "-1", "1e9"),
        "--views": ("0", "100000000000"),
        "--rank": ("0", BIG),
        "--text-features": ("features.npz", "photos", "none.npy", "damaged/cut.npz", "matrix.npy"),
        "--layer": ("", ",", "nope", "["),
    }.items():
        for value in values:
            more = ("--method", "zero-shot") if option == "--text-features" else ("--method", "linear-probe")
            yield _call(*finetune, *more, option, value, codes=(0, 2, 3, 5))
    for value in ("", ",", "0", "-1,5", "5,5", "x", BIG, "1.5"):
        yield _call("advise", "--model", "features", "--data", "features.npz", "--shots", value, codes=(0, 2, 3, 5))
    for option, values in {
        "--rank": ("0", "-1", "x", BIG, "1.5"),
        "--max-rank": ("0", BIG),
        "--depth": ("1", BIG),
        "--missing": ("nan", "-1", "2", "inf"),
        "--clip": ("nan,1", "2,1", "x", "1", "", "inf,inf"),
        "--delimiter": ("", "ab", "\n"),
        "--decimal": ("x", ""),
        "--encoding": ("nope", "", "utf-16", "rot13", "zlib"),
        "--only": ("nope", "", ","),
        "--pass": ("nope", "a,b,c,d,e"),
        "--kind": ("a", "a=nope", "nope=number", "="),
        "--predict": ("photos", "none.csv", "damaged/cut.npz"),
        "--mask": ("none.png", "photos", "features.npz"),
        "--row": ("nope", "a"),
    }.items():
        for value in values:
            yield _call("complete", "table.csv", option, value, codes=(0, 2, 3, 5))
    for setting in (
        "depth=1", "depth=0", "depth=-3", "depth=x", f"depth={BIG}", "depth=1e400", "rank=0", "rank=999", "eps=nan", "eps=-1", "width=0",
        "nope=1", "=1", "depth", "steps=-1", "seed=-1", f"seed={2**70}", "rank=1e18",
    ):  # fmt: skip
        yield _call("reproduce", "parsimony-svd", "--set", setting, codes=(0, 2, 3, 4, 5))
    for words in (
        ("reproduce", "nope"), ("reproduce", ""), ("reproduce", "parsimony-svd", "--jobs", "0"), ("check", "none", "--theorem", "parsimony"),
        ("check", "photos", "--theorem", "parsimony"), ("check", "steps", "--theorem", "separation"), ("check", "steps", "--theorem", "x"),
        ("check", "steps", "--theorem", "parsimony", "--rank", "0"), ("check", "steps", "--theorem", "parsimony", "--weights", ""),
        ("check", "steps", "--theorem", "parsimony", "--weights", "1,1"), ("check", "steps", "--theorem", "parsimony", "--weights", ",,"),
        ("check", "features.npz", "--theorem", "parsimony"), ("", ""), ("\0",), ("measure", "\0"), ("--debug",), ("-h", "x"),
        ("measure",), ("export", "--delta", "delta-digits"), ("export", "--delta", "none", "--to", "onnx"),
    ):  # fmt: skip
        yield _call(*words, codes=(0, 2, 3, 4, 5))
    for pair in ("x", "=1", f"a={BIG}", "a=" + "[" * 10_000, 'a="', "self=1", "a=nan"):
        yield _call("measure", "--model", "nets.py:fits", "--model-arg", pair, "--data", "images.npz")


def _models(root: Path) -> Iterator[Call]:
    for model in (
        "sys:exit", "nets.py:exits", "nets.py:interrupts", "nets.py:key", "nets.py:nothing", "nets.py:recursive", "nets.py:memory",
        ":", "../x:y", "::", "x:", ":y", "os:", "nope:build", "nets.py:nope", "nets.py", "nets.py:", "photos:x", "features.npz:x", "a\0b:c",
        "nets.py:narrow", "nets.py:lazy", "nets.py:fails", "nets.py:fails_at_key", "nets.py:fails_by_exit", "timm:", "timm:nope",
        "timm:local-dir:", "timm:local-dir:photos", "timm:local-dir:none", "hf:", "hf:photos", "hf:none", "hf:a/b/c", "digits:x", "",
        " ", "os:getcwd", "json:loads", "builtins:exit", "antigravity:x", "..:x", "a.b.c:d", "nets.py:torch.nn", "features", "this:d",
    ):  # fmt: skip
        if model in ("antigravity:x", "this:d"):
            continue
        options = ("--offline",) if model.startswith(("timm", "hf")) else ()
        yield _call("measure", "--model", model, "--data", "images.npz", *options)
        yield _call("finetune", "--model", model, "--data", "images.npz", "--method", "linear-probe", *options)
        yield _call("rank", "--model", model, "--data", "images.npz", *options)
    for weights in ("none.safetensors", "photos", "features.npz", "table.csv", "steps/0.safetensors", "a\0b"):
        yield _call("measure", "--model", "nets.py:fits", "--weights", weights, "--data", "images.npz")
        yield _call("measure", "--model", "timm:resnet18", "--weights", weights, "--data", "images.npz")


def _places(root: Path) -> Iterator[Call]:
    (root / "loop").symlink_to("loop")
    (root / "loop.csv").symlink_to("loop.csv")
    (root / "loop.npz").symlink_to("loop.npz")
    os.mkfifo(root / "pipe.npz")
    (root / "zero.npz").symlink_to("/dev/zero")
    for path in (
        "loop",
        "loop.csv",
        "loop.npz",
        "a\0b",
        "x" * 4100,
        "zero.npz",
        "pipe.npz",
        "",
        ".",
        "/proc/self/mem",
        "none/x.csv",
    ):
        for words in reads_arrays(path):
            if words[0] == "complete" and path in ("pipe.npz", "zero.npz"):
                continue
            yield _call(*words)
        yield _call("predict", "--delta", path, "--data", "images.npz")
        yield _call("check", path, "--theorem", "parsimony")
        yield _call("rank", "--models", path, "--data", "images.npz")
    (root / "file").write_text("x")
    (root / "foreign").mkdir()
    (root / "foreign" / "thesis.tex").write_text("x")
    (root / "elsewhere").mkdir()
    for name, content in {"state-link": "{}", "list": "[1]", "deep": deep_json()["deep-lists"], "number": BIG}.items():
        (root / f"run-{name}").mkdir()
        (root / f"run-{name}" / "config.json").write_text(content)
    (root / "run-state-link" / "state").symlink_to(root / "elsewhere")
    for out in (
        "x" * 4100, "a\0b", "/", "file", "file/x", "foreign", "loop", "/proc/x", "run-state-link", "run-list", "run-deep", "run-number", "",
        "/dev/null", "pipe.npz",
    ):  # fmt: skip
        for words in (
            ("measure", "--model", "features", "--data", "features.npz"),
            ("finetune", "--model", "features", "--data", "features.npz", "--method", "linear-probe"),
            ("rank", "--models", "zoo.toml", "--data", "features.npz"),
            ("reproduce", "parsimony-svd"),
            ("complete", "triplets.csv", "--row", "user", "--col", "item", "--value", "value"),
        ):
            yield _call(*words, "--out", out, codes=(0, 2, 3, 5) if out in ("", "/dev/null") else (2, 3, 5))
    for file in ("x" * 4100, "a\0b", "/", "file/x", "loop", "/proc/x", "photos"):
        yield _call("predict", "--delta", "delta-features", "--data", "features.npz", "--csv", file)
        for to in ("torch", "onnx", "checkpoint", "peft"):
            yield _call("export", "--delta", "delta-digits", "--to", to, "--file", file, codes=(0, 2, 3, 5))


def nobody() -> None:
    """Goes on as a user who owns nothing."""
    os.setgid(65534)
    os.setuid(65534)


def _resources(root: Path) -> Iterator[Call]:
    root.chmod(0o755)
    for name in ("table.csv", "features.npz", "zoo.toml"):
        shutil.copy(root / name, root / f"closed-{name}")
        (root / f"closed-{name}").chmod(0)
    shutil.copytree(root / "photos", root / "closed-photos")
    (root / "closed-photos" / "cat").chmod(0)
    shutil.copytree(root / "delta-features", root / "closed-delta")
    (root / "closed-delta" / "delta.safetensors").chmod(0)
    (root / "closed-folder").mkdir(mode=0o700)
    for words in (
        ("complete", "closed-table.csv"),
        ("measure", "--model", "features", "--data", "closed-features.npz"),
        ("measure", "--model", "digits", "--data", "closed-photos"),
        ("predict", "--delta", "closed-delta", "--data", "features.npz"),
        ("predict", "--delta", "closed-folder", "--data", "features.npz"),
        ("rank", "--models", "closed-zoo.toml", "--data", "features.npz"),
        ("measure", "--model", "features", "--data", "features.npz", "--out", "closed-folder/run"),
        ("measure", "--model", "features", "--data", "features.npz"),
        ("complete", "triplets.csv", "--row", "user", "--col", "item", "--value", "value"),
        ("check", "closed-folder", "--theorem", "parsimony"),
        ("predict", "--delta", "delta-features", "--data", "features.npz", "--csv", "closed-folder/x.csv"),
    ):
        yield _call(*words, before=nobody)
    everything = (
        ("measure", "--model", "features", "--data", "features.npz"),
        ("rank", "--models", "zoo.toml", "--data", "features.npz"),
        ("finetune", "--model", "features", "--data", "features.npz", "--method", "linear-probe"),
        ("predict", "--delta", "delta-features", "--data", "features.npz"),
        ("export", "--delta", "delta-digits", "--to", "torch", "--file", "x.pt2"),
        ("export", "--delta", "delta-digits", "--to", "onnx", "--file", "x.onnx"),
        ("export", "--delta", "delta-digits", "--to", "peft", "--file", "x-peft"),
        ("complete", "triplets.csv", "--row", "user", "--col", "item", "--value", "value"),
        ("reproduce", "separation-theorem"),
        ("check", "steps", "--theorem", "parsimony"),
    )
    for words in everything:
        yield _call(*words, before=few_files, codes=(0, 2, 3, 4, 5))
        yield _call(*words, before=small_files, codes=(0, 2, 3, 4, 5))
        yield _call(*words, before=lambda: closed("stdout"), codes=(2,))
        yield _call(*words, "--json", before=broken_pipe, codes=(141,))
        yield _call(*words, before=full_output, codes=(5,))
        yield _call(*words, before=lambda: closed("stderr"), codes=(0, 4))


def few_files() -> None:
    """As under `ulimit -n 64`, where nothing is open but the streams."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def small_files() -> None:
    """As under `ulimit -f 1`; writing more raises an error, as Python ignores the signal."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


def closed(name: str) -> None:
    """As under `>&-`: Python then has no such stream."""
    os.close(1 if name == "stdout" else 2)


def broken_pipe() -> None:
    """Standard output leads to a reader that has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def full_output() -> None:
    """Standard output leads to a full disk."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def _pictures(root: Path) -> Iterator[Call]:
    folder = root / "strange"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    for label in ("a", "b"):
        for k in range(3):
            shutil.copy(root / "photos" / "cat" / "0.png", folder / label / f"{k}.png")
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "a" / "zero.png").symlink_to("/dev/zero")
    yield _call("measure", "--model", "digits", "--data", "strange", codes=(0,))
    for name, size in (("sliver", (50_000, 1)), ("column", (1, 50_000))):
        shutil.copytree(root / "photos", root / name)
        Image.new("RGB", size).save(root / name / "cat" / "9.png")
        yield _call("measure", "--model", "nets.py:fits", "--data", name, "--image-size", "224")
    shutil.copytree(root / "photos", root / "script")
    (root / "script" / "cat" / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    yield _call("measure", "--model", "digits", "--data", "script")
    shutil.copytree(root / "photos", root / "cutoff")
    (root / "cutoff" / "cat" / "0.png").write_bytes((root / "photos" / "cat" / "0.png").read_bytes()[:60])
    yield _call("measure", "--model", "digits", "--data", "cutoff")
    for name, arrays in {
        "noclass": {"x_train": np.zeros((4, 0, 8), np.uint8), "y_train": np.arange(4)},
        "names": {"x_train": np.eye(4), "y_train": np.arange(4) % 2, "class_names": np.array("a")},
        "longdouble": {"x_train": np.eye(4, dtype=np.longdouble), "y_train": np.arange(4) % 2},
        "width": {"x_train": np.eye(9), "y_train": np.arange(9) % 2},
        "single": {"x_train": np.eye(4), "y_train": np.arange(4)},
        "one": {"x_train": np.eye(4), "y_train": np.zeros(4, int)},
        "nan": {"x_train": np.full((8, 6), np.nan), "y_train": np.arange(8) % 2},
        "large": {"x_train": np.random.default_rng(0).normal(size=(20, 6)) * 1e300, "y_train": np.arange(20) % 2},
        "scalar": {"x_train": np.array(3.0), "y_train": np.array(1)},
        "complex": {"x_train": np.eye(4) * 1j, "y_train": np.arange(4) % 2},
        "text": {"x_train": np.array([["a"]] * 4), "y_train": np.arange(4) % 2},
        "six": {"x_train": np.zeros((4, 1, 1, 1, 1, 1)), "y_train": np.arange(4) % 2},
        "constant": {"x_train": np.ones((8, 6)), "y_train": np.arange(8) % 2},
    }.items():
        np.savez(root / f"odd-{name}.npz", **arrays)
        for words in reads_arrays(f"odd-{name}.npz"):
            yield _call(*words, codes=(0, 2, 3, 4, 5))
