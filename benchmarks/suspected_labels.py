"""Wrong labels that are planted and found again: the share of them among as many suspects as there are wrong labels.

    python benchmarks/suspected_labels.py --model timm:local-dir:DIR --data DIR --image-size 128 --limit 2000 --seeds 20 21 22

The network runs once. For each seed a share of the training labels becomes another class, drawn uniformly; then the precision is given of
the held-out probabilities of the cross-validated linear probe, of what `measure` lists (by the probe too, where it is fitted in seconds),
and of the list that confident learning makes of the same probabilities, where cleanlab is installed.
"""

import argparse
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from lowdim.data import load_data
from lowdim.data._dataset import limited_indices
from lowdim.features import FeatureStream, Forward, SplitSource, opened_cache
from lowdim.models import load_model
from lowdim.probe import fit_probe
from lowdim.profiling import profile


def features(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Of the training split, with its labels."""
    arguments = dict(entry.split("=") for entry in options.model_arg)
    model = load_model(options.model, image_size=options.image_size, weights=options.weights, arguments=arguments,
                       mean=options.mean, std=options.std)  # fmt: skip
    split = load_data(options.data)["train"]
    split = split.take(limited_indices(split.labels, options.limit, 7))
    source = SplitSource(split, model.preprocessing)
    feature = model.feature(source.inputs(np.arange(2)))
    forward = Forward(model.module, [feature.key], torch.device("cpu"), feature.layout)
    with opened_cache(None, None, 0) as cache:
        stream = FeatureStream(forward, source, source.labels, cache=cache, content="", batch_size=32)
        rows = np.concatenate([batch.features[feature.key].numpy() for batch in stream])
    print(f"{options.data}: {len(rows)} samples, {feature.describe()}", flush=True)
    return rows, split.labels


def suspects(rows: np.ndarray, labels: np.ndarray, classes: int, wanted: int) -> dict[str, np.ndarray]:
    """Positions of so many suspected labels, by each way of finding them."""
    heldout = fit_probe(rows, labels, classes=classes).heldout
    probe = np.argsort(heldout[np.arange(len(labels)), labels], kind="stable")
    listed = profile(nn.Identity(), (torch.from_numpy(rows), torch.from_numpy(labels)), outliers=wanted).outliers
    found = {"probe": probe[:wanted], "measure": np.array([one.position for one in listed], dtype=int)}
    if find_spec("cleanlab"):
        from cleanlab.filter import find_label_issues

        # Where it lists too few, the least probable labels follow.
        issues = find_label_issues(labels, np.exp(heldout), return_indices_ranked_by="self_confidence", n_jobs=1)
        found["confident learning"] = np.concatenate([issues, probe[~np.isin(probe, issues)]])[:wanted]
    return found


def main() -> None:
    """Prints one line per share and seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--mean", type=float, nargs="+")
    parser.add_argument("--std", type=float, nargs="+")
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows, labels = features(options)
    classes = len(np.unique(labels))
    for share in options.shares:
        found: list[dict[str, float]] = []
        for seed in options.seeds:
            generator = np.random.default_rng(seed)
            wrong = generator.choice(len(labels), round(share * len(labels)), replace=False)
            noisy = labels.copy()
            noisy[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
            lists = suspects(rows, noisy, classes, len(wrong))
            found.append({name: float(np.isin(listed, wrong).sum() / len(wrong)) for name, listed in lists.items()})
            print(share, seed, found[-1], flush=True)
        print(share, "mean", {name: round(float(np.mean([row[name] for row in found])), 3) for name in found[0]})


if __name__ == "__main__":
    main()
