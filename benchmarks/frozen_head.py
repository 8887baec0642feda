"""The frozen head against the linear probe: test accuracy by network, data and labels per class, and the time of a fit.

    python benchmarks/frozen_head.py accuracy --model timm:local-dir:DIR --data DIR --image-size 128 --shots 5,20,50 --seeds 3 --out heads.jsonl
    python benchmarks/frozen_head.py table --out heads.jsonl
    python benchmarks/frozen_head.py speed

`accuracy` runs the network once over the images and their mirror images; `--cache` keeps the features. It appends one line per seed to the
file; `table` prints differences, the mean over seeds, for every pair of network and data. `speed` compares the head with scikit-learn's
LogisticRegressionCV (10 strengths, 5 folds) on the same features; times are those of one process.
"""

import argparse
import json
import time
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lowdim.data import Split, load_data
from lowdim.data._dataset import few_shot_indices, limited_indices
from lowdim.features import (
    FeatureCache,
    FeatureStream,
    Forward,
    SplitSource,
    collected,
    content_digest,
    network_content,
    tame,
)
from lowdim.features._source import has_mirror
from lowdim.models import LoadedModel, later_blocks, load_model
from lowdim.probe import fit_frozen_views, fit_probe


def layers(model: LoadedModel, split: Split, cache: FeatureCache) -> list[list[np.ndarray]]:
    """By view the features of each layer, the penultimate one first; as they come."""
    feature = model.feature(SplitSource(split, model.preprocessing).inputs(np.arange(2)))
    keys = [feature.key, *((name, feature.blocks) for name in later_blocks(model.module, feature))]
    forward = Forward(model.module, keys, torch.device("cpu"), feature.layout)
    views: list[list[np.ndarray]] = []
    images = has_mirror(SplitSource(split, model.preprocessing).inputs(np.arange(1)))
    for mirrored in (False, True) if images else (False,):
        source = SplitSource(split, model.preprocessing, mirrored=mirrored)
        content = content_digest(network_content(model.module, model.fingerprint), source)
        stream = FeatureStream(forward, source, source.labels, cache=cache, content=content, batch_size=16)
        views.append([rows.numpy() for rows in collected(stream).values()])
    return views


def tamed(views: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    return [[tame(torch.from_numpy(rows)).numpy() for rows in view] for view in views]


def accuracy(options: argparse.Namespace) -> None:
    columns = dict(entry.split("=") for entry in options.column)
    data = load_data(options.data, **columns)
    model = load_model(options.model, image_size=options.image_size)
    train, test = (data[name].take(limited_indices(data[name].labels, options.limit, 7)) for name in ("train", "test"))
    cache = FeatureCache(options.cache, 20e9)
    raw = [layers(model, split, cache) for split in (train, test)]
    seen = [tamed(views) for views in raw]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for shots in map(int, options.shots.split(",")):
            if np.bincount(train.labels).min() < shots:
                continue
            few = few_shot_indices(train.labels, shots, seed)
            labels, classes = train.labels[few], len(data.classes)
            probe = fit_probe(raw[0][0][0][few], labels, classes=classes, seed=seed).probe
            started = time.process_time()
            views = [[rows[few] for rows in view] for view in seen[0]]
            head, mean = fit_frozen_views(views, labels, classes=classes, seed=seed)
            seconds = time.process_time() - started
            rows = np.mean([np.hstack(view) for view in (seen[1] if mean else seen[1][:1])], axis=0)
            found = {"probe": head.log_probabilities(rows), "linear-probe": probe.log_probabilities(raw[1][0][0])}
            right = {name: float((logits.argmax(axis=1) == test.labels).mean()) for name, logits in found.items()}
            row = {"model": options.model, "data": options.data, "shots": shots, "seed": seed, **right}
            row |= {"expected": head.accuracy, "further": head.further, "mirrored": bool(mean), "seconds": seconds}
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def table(options: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    for shots in sorted({row["shots"] for row in rows}):
        gains: dict[tuple[str, str], list[float]] = defaultdict(list)
        errors: list[float] = []
        for row in (row for row in rows if row["shots"] == shots):
            gains[row["model"], row["data"]].append(100 * (row["probe"] - row["linear-probe"]))
            errors.append(100 * (row["expected"] - row["probe"]))
        means = {pair: float(np.mean(values)) for pair, values in gains.items()}
        for (model, data), gain in means.items():
            print(f"{shots:4d} {Path(model).name:32s} {Path(data).name:32s} {gain:+.1f}")
        worst, mean = min(means.values()), np.mean([*means.values()])
        print(
            f"{shots:4d} mean of {len(means)} pairs {mean:+.2f}, worst {worst:+.2f}; expected - found {np.mean(errors):+.1f}"
        )


def speed(options: argparse.Namespace) -> None:
    from sklearn.linear_model import LogisticRegressionCV

    warnings.simplefilter("ignore")
    for samples, width in ((200, 512), (200, 1280), (1000, 512), (1000, 1280), (3000, 512), (3000, 1280)):
        if samples > options.limit:
            continue
        rng = np.random.default_rng(0)
        labels = np.arange(samples) % 10
        # Activations behind a rectifier, with variances that fall as those of networks do.
        scales = np.arange(1, width + 1) ** -0.5
        x = np.maximum(rng.normal(size=(10, width))[labels] + 2 * rng.normal(size=(samples, width)), 0) * scales
        rows = tame(torch.from_numpy(x)).numpy()
        halves = [rows[:, : width // 2], rows[:, width // 2 :]]
        fits = (
            partial(fit_frozen_views, [halves], labels, classes=10),
            partial(LogisticRegressionCV(Cs=10, cv=5).fit, rows, labels),
        )
        times: list[float] = []
        with threadpool_limits(limits=1):
            for fit in fits:
                started = time.process_time()
                fit()
                times.append(time.process_time() - started)
        print(f"N = {samples}, d = {width}: head {times[0]:.2f} s, LogisticRegressionCV {times[1]:.2f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "table", "speed"])
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--column", action="append", default=[], help="path_column=…, text_column=…, label_column=…")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--shots", default="5,20,50")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=3000, help="Samples of each split; of speed, the largest number.")
    parser.add_argument("--cache", type=Path, default=Path("features"))
    parser.add_argument("--out", type=Path, default=Path("heads.jsonl"))
    chosen = parser.parse_args()
    {"accuracy": accuracy, "table": table, "speed": speed}[chosen.what](chosen)
