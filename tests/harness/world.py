"""A folder with one small valid file of every form that lowdim reads."""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lowdim._files import save_tensors
from lowdim._preprocessing import Preprocessing
from lowdim.finetuning import Plan, TunedModel, save_delta
from lowdim.models import load_model


def build(root: Path) -> Path:
    """Writes them, and returns the folder."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)).astype(np.float32)
    y = np.arange(40) % 2
    x[y == 1] += 2
    np.savez_compressed(root / "features.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    pictures = rng.integers(0, 17, (40, 8, 8)).astype(np.uint8) * 15
    np.savez_compressed(root / "images.npz", x_train=pictures[:30], y_train=y[:30], x_test=pictures[30:], y_test=y[30:])
    _pictures(root, rng)
    _tables(root, rng)
    for step in range(3):
        factors = {str(k): rng.normal(size=(4, 4)).astype(np.float64) * 0.1 for k in (1, 2)}
        save_tensors(root / "steps" / f"{step}.safetensors", factors)
    np.savez(root / "problem.npz", x=rng.normal(size=(4, 12)), y=np.arange(12) % 4)
    (root / "zoo.toml").write_text('[[models]]\nname = "a"\nfeatures = "features.npz"\nsource_accuracy = 0.5\n')
    (root / "nets.py").write_text(_NETS)
    batch = {"data": rng.integers(0, 255, (10, 3072)).astype(np.uint8), "labels": [k % 2 for k in range(10)]}
    cifar = root / "cifar" / "cifar-10-batches-py"
    cifar.mkdir(parents=True)
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        (cifar / name).write_bytes(pickle.dumps(batch, protocol=2))
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}, protocol=2))
    _deltas(root)
    return root


def _pictures(root: Path, rng: np.random.Generator) -> None:
    kinds = {"png": {}, "jpg": {}, "bmp": {}, "gif": {}, "webp": {"lossless": True}, "tif": {}, "ppm": {}}
    for label in ("cat", "dog"):
        (root / "photos" / label).mkdir(parents=True)
        for index, (suffix, options) in enumerate(kinds.items()):
            image = Image.fromarray(rng.integers(0, 255, (9, 10, 3), dtype=np.uint8))
            image.save(root / "photos" / label / f"{index}.{suffix}", **options)
    seen = np.where(np.arange(24)[:, None] * np.arange(24) % 5, 255, 0).astype(np.uint8)
    Image.fromarray(
        np.dstack([np.add.outer(*[np.arange(24)] * 2).astype(np.uint8) * k for k in (2, 3, 5)] + [seen])
    ).save(root / "holes.png")
    with (root / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([f"photos/{label}/{k}.png", label] for label in ("cat", "dog") for k in (0,))


def _tables(root: Path, rng: np.random.Generator) -> None:
    rows = rng.normal(size=(20, 1)) @ rng.normal(size=(1, 5)) + 0.1 * rng.normal(size=(20, 5))
    lines = ["name,a,b,c,d,e"]
    for k, row in enumerate(rows):
        cells = [f"{value:.2f}" for value in row]
        cells[k % 5] = "" if k % 3 == 0 else cells[k % 5]
        lines.append(",".join([f"row {k}", *cells]))
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    (root / "table.tsv").write_text("\n".join(lines).replace(",", "\t") + "\n")
    (root / "triplets.csv").write_text(
        "user,item,value\n" + "".join(f"u{k % 7},i{k % 5},{k % 4 + 1}\n" for k in range(30))
    )
    planted = np.outer(rng.normal(size=25), rng.normal(size=20))
    cells = np.argwhere(rng.random(planted.shape) < 0.5)
    (root / "planted.csv").write_text(
        "user,item,value\n" + "".join(f"u{i},i{j},{planted[i, j]:.17g}\n" for i, j in cells)
    )
    (root / "pairs.csv").write_text("user,item\nu1,i2\nu3,i4\n")
    holes = rows.copy()
    holes[::3, 1] = np.nan
    np.savez(root / "matrix.npz", values=holes)
    np.save(root / "matrix.npy", holes)
    texts = [f"{k % 2} word{k} text" for k in range(12)]
    (root / "texts.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{text[0]}\n" for text in texts))
    import pandas

    frame = pandas.DataFrame(holes, columns=list("abcde"))
    frame.to_parquet(root / "table.parquet")
    frame.to_excel(root / "table.xlsx", index=False)
    (root / "notes.json").write_text(json.dumps({"a": [1, 2, {"b": None}]}))


def _deltas(root: Path) -> None:
    for name, spec, example in (
        ("features", "features", torch.zeros(2, 6)),
        ("digits", "digits-0-4", torch.zeros(2, 1, 8, 8)),
    ):
        base = load_model(spec)
        plan = Plan("linear-probe") if name == "features" else Plan("layer", ("blocks.4",))
        tuned = TunedModel(base.module, plan, 2, example)
        with torch.no_grad():
            for parameter in tuned.trained().values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        save_delta(
            tuned.eval(),
            base.module,
            root / f"delta-{name}",
            method=plan.method,
            classes=["cat", "dog"],
            preprocessing=base.preprocessing if name == "digits" else Preprocessing(kind="features"),
            example=example,
            name=spec,
            source=base.source,
        )


_NETS = """
import sys

import torch
from torch import nn


def narrow():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))


def fits():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 2))


class Own(nn.Module):
    def __init__(self, raises=ZeroDivisionError):
        super().__init__()
        self.first, self.head, self.raises = nn.Linear(64, 4), nn.Linear(4, 2), raises

    def forward(self, x):
        raise self.raises("the network's own fault")


def fails():
    return Own()


def fails_at_key():
    return Own(KeyError)


def fails_by_exit():
    return Own(SystemExit)


def exits():
    sys.exit(0)


def interrupts():
    raise KeyboardInterrupt


def key():
    raise KeyError("x")


def nothing():
    return None


def recursive():
    return recursive()


def memory():
    return torch.empty(10**15)
"""
