"""Speed of the collapse numbers: ratios measured in one run.

1. NC1 in two passes, float64, through the span of the class means, against the textbook way in float32 (both d x d scatter
   matrices and a Hermitian pseudo-inverse). Features are float32 in both.
2. `profile` of all blocks of a timm ResNet-50 (random weights, 224 pixels, average-pooled) against the bare forward passes.

Run with ``python benchmarks/collapse.py [--repeats 5] [--images 256]``. The runs of the two sides alternate, and each ratio is that of
the medians, so that other work on the machine weighs on both.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lowdim.metrics import within_class_variability
from lowdim.profiling import profile
from lowdim.statistics import ClassStatistics, between_span, span_scatter


def textbook(features: Tensor, labels: Tensor, classes: int) -> float:
    """trace(Sigma_W pinv(Sigma_B)) as it is written, in the precision of the features."""
    counts = torch.bincount(labels, minlength=classes)
    means = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features) / counts.unsqueeze(1)
    deviations = features - means[labels]
    sigma_w = deviations.T @ deviations / len(labels)
    centred = means - means.mean(dim=0)
    sigma_b = centred.T @ centred / classes
    return float(torch.trace(sigma_w @ torch.linalg.pinv(sigma_b, hermitian=True)))


def two_pass(features: Tensor, labels: Tensor, classes: int) -> float:
    """The same by lowdim: float64, no d x d matrix."""
    found = ClassStatistics.from_samples(features, labels, classes=classes, scatter="none")
    return within_class_variability(found, span_scatter(features, labels, found, between_span(found)))


def alternate(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of both, run in turn after one warm-up of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for function, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            function()
            if repeat:
                kept.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def compare_nc1(samples: int, width: int, classes: int, repeats: int, seed: int = 0) -> dict[str, object]:
    """Seconds of both ways on Gaussian classes, and how far the textbook value is off."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=generator)
    features = torch.randn(classes, width, generator=generator)[labels]
    features += torch.randn(samples, width, generator=generator)
    slow, fast = alternate(
        lambda: textbook(features, labels, classes), lambda: two_pass(features, labels, classes), repeats
    )
    wide = features.double()
    slow_wide, fast_wide = alternate(
        lambda: textbook(wide, labels, classes), lambda: two_pass(wide, labels, classes), max(1, repeats // 2)
    )
    exact = two_pass(features, labels, classes)
    return {
        "what": "NC1, textbook float32 / lowdim float64",
        "samples": samples,
        "width": width,
        "classes": classes,
        "seed": seed,
        "textbook_seconds": round(slow, 3),
        "lowdim_seconds": round(fast, 3),
        "ratio": round(slow / fast, 2),
        "ratio_both_float64": round(slow_wide / fast_wide, 2),
        "textbook_relative_error": f"{abs(textbook(features, labels, classes) - exact) / exact:.1e}",
    }


def compare_profile(images: int, repeats: int, batch_size: int = 32, seed: int = 0) -> dict[str, object]:
    """Seconds of measuring all blocks of a ResNet-50 over those of running it."""
    import timm

    torch.manual_seed(seed)
    network = timm.create_model("resnet50", pretrained=False).eval()
    inputs, labels = torch.randn(images, 3, 224, 224), torch.arange(images) % 10

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, images, batch_size):
                network(inputs[start : start + batch_size])

    layers = len(profile(network, (inputs[:20], labels[:20]), batch_size=batch_size).layers)
    bare, measured = alternate(forward, lambda: profile(network, (inputs, labels), batch_size=batch_size), repeats)
    return {
        "what": "profile / bare forward pass, timm resnet50, 224 px, pooled",
        "images": images,
        "layers": layers,
        "batch_size": batch_size,
        "seed": seed,
        "forward_seconds": round(bare, 2),
        "profile_seconds": round(measured, 2),
        "ratio": round(measured / bare, 3),
    }


def hardware() -> dict[str, object]:
    """What the numbers were measured on."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]  # noqa: PTH123, SIM115
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--only", choices=["nc1", "profile"])
    options = parser.parse_args()
    print(json.dumps(hardware()))
    if options.only != "profile":
        print(json.dumps(compare_nc1(20_000, 512, 100, options.repeats)))
        print(json.dumps(compare_nc1(20_000, 2048, 1000, options.repeats)))
    if options.only != "nc1":
        print(json.dumps(compare_profile(options.images, max(1, options.repeats // 2))))


if __name__ == "__main__":
    main()
