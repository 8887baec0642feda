"""Wrong labels that are planted and found again: the share of them among as many suspects as there are wrong labels.

    python benchmarks/suspected_labels.py --model timm:local-dir:DIR --data DIR --image-size 128 --limit 2000

The network runs once. For each seed a share of the training labels becomes another class, drawn uniformly; then the precision is given of
what `measure` lists (held-out class means), of what `advise` lists and of the linear probe itself, both cross-validated.
"""

import argparse
from functools import partial

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


def main() -> None:
    """Prints one line per seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--mean", type=float, nargs="+")
    parser.add_argument("--std", type=float, nargs="+")
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows, labels = features(options)
    classes = len(np.unique(labels))
    found: list[dict[str, float]] = []
    for seed in range(options.seeds):
        generator = np.random.default_rng(seed)
        wrong = generator.choice(len(labels), round(options.share * len(labels)), replace=False)
        noisy = labels.copy()
        noisy[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
        probe = fit_probe(rows, noisy, classes=classes).heldout[np.arange(len(noisy)), noisy]
        means = profile(nn.Identity(), (torch.from_numpy(rows), torch.from_numpy(noisy)), outliers=len(wrong)).outliers
        share = partial(np.isin, test_elements=wrong)
        found.append({
            "measure": float(share([one.position for one in means]).sum() / len(wrong)),
            "probe": float(share(np.argsort(probe)[: len(wrong)]).mean()),
        })  # fmt: skip
        print(seed, found[-1], flush=True)
    print({name: round(float(np.mean([row[name] for row in found])), 3) for name in found[0]})


if __name__ == "__main__":
    main()
