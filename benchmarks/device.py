"""Does everything give on this device what it gives on the CPU, and how fast? In a few minutes.

    python benchmarks/device.py                # CUDA where there is one
    python benchmarks/device.py --device cpu   # the same path, smaller: both sides are the CPU

On the packaged digits network: NC1 of all layers in double precision, the accuracies of `rank`, and of the methods probe, scl and full (in
float32, and with bfloat16 products as on CUDA by default) against the CPU; a delta made here and read there, and the other way round; one
process group of NCCL. On a ResNet-18 with random weights: images per second of `profile` against the bare forward passes, and the peak of
the memory. One line per check; the exit code is 1 if one fails.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from lowdim.data import load_data
from lowdim.finetuning import finetune
from lowdim.finetuning._delta import load_delta
from lowdim.models import load_model
from lowdim.profiling import profile
from lowdim.ranking import candidates_of, rank

FAILED: list[str] = []


def check(what: str, value: float, bound: float) -> None:
    """Prints a value that must not exceed its bound."""
    if not value <= bound:
        FAILED.append(what)
    print(f"{'ok  ' if value <= bound else 'FAIL'} {what}: {value:.3g} (at most {bound:g})", flush=True)


@contextlib.contextmanager
def without_bfloat16() -> Generator[None]:
    """Training in float32 on CUDA too."""
    plain = torch.autocast
    torch.autocast = lambda device, dtype, enabled=True: plain(device, dtype, enabled=False)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.autocast = plain  # type: ignore[misc]


def numbers(device: torch.device) -> None:
    """NC1 and the accuracies of `rank` on both."""
    data = load_data("digits", limit=300)
    network = load_model("digits")
    network.module.double()
    found = [
        {layer.name: layer.nc1 for layer in profile(network, data, splits=("train",), device=place).layers}
        for place in (torch.device("cpu"), device)
    ]
    network.module.to("cpu")
    both = [(first, found[1][name]) for name, first in found[0].items() if first is not None]
    check("largest relative difference of NC1", max(abs(b / a - 1) for a, b in both), 1e-6)
    names = ["digits-0-4", "digits-split"]
    places = [
        {
            place.candidate.name: place.evaluation.scores
            for place in rank(candidates_of(names), data, device=where).places
        }
        for where in ("cpu", str(device))
    ]
    worst = max(abs(places[0][name]["probe_accuracy"] - places[1][name]["probe_accuracy"]) for name in names)
    check("largest difference of the probe's accuracy in rank", worst, 0.02)


def tuned(device: torch.device, epochs: int) -> None:
    """The methods on both, and their deltas."""
    data, base = load_data("digits-5-9", shots=20, limit=400), load_model("digits-0-4")
    for method, precise in (("probe", True), ("scl", True), ("scl", False), ("full", True), ("full", False)):
        label = f"{method} {'float32' if precise else 'as by default'}"
        changes: dict[str, Any] = {} if method == "probe" else {"epochs": epochs}
        with without_bfloat16() if precise else contextlib.nullcontext():
            started = time.perf_counter()
            here = finetune(base, data, method=method, device=device, **changes)
            seconds = time.perf_counter() - started
        there = finetune(base, data, method=method, device=torch.device("cpu"), **changes)
        check(f"{label}: difference of test accuracy", abs(here.accuracy["test"] - there.accuracy["test"]), 0.06)
        print(f"     {label}: {100 * here.accuracy['test']:.1f} %, {seconds:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            for name, made, read in (
                ("here, read on the CPU", here, torch.device("cpu")),
                ("on the CPU, read here", there, device),
            ):
                made.save(Path(folder), base)
                inputs = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
                again = load_delta(load_model("digits-0-4").module.to(read), folder)
                home = next(made.model.parameters()).device
                with torch.inference_mode():
                    expected, outputs = made.model(inputs.to(home)).cpu(), again(inputs.to(read)).cpu()
                check(
                    f"{label}: delta made {name}", float((expected - outputs).abs().max() / expected.abs().max()), 1e-3
                )


def speed(device: torch.device, images: int, size: int) -> None:
    """Images per second, and memory."""
    from torchvision.models import resnet18

    network = resnet18(weights=None).eval().to(device)
    x = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    y = torch.arange(images) % 10
    layers = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, images, 64):
                network(x[start : start + 64].to(device))
        if device.type == "cuda":
            torch.cuda.synchronize()

    sides: dict[str, Callable[[], object]] = {
        "bare passes": bare,
        "profile of 8 blocks": lambda: profile(network, (x, y), layers=layers, device=device, batch_size=64),
    }
    for run in sides.values():
        run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    best = {name: min(_timed(run) for _ in range(3)) for name, run in sides.items()}
    for name, seconds in best.items():
        print(f"     {name}: {images / seconds:,.0f} images per second")
    print(f"     profile / bare: {best['profile of 8 blocks'] / best['bare passes']:.2f}")
    if device.type == "cuda":
        print(f"     peak memory: {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB")


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def group(device: torch.device) -> None:
    """One process group, of one process."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(backend, init_method=f"file://{folder}/group", rank=0, world_size=1)
        total = torch.ones(3, device=device, dtype=torch.float64)
        distributed.all_reduce(total)
        distributed.destroy_process_group()
    check(f"sum over one process of {backend}", float((total - 1).abs().max()), 0)


def main() -> int:
    """All checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    large = device.type != "cpu"
    print(f"{torch.cuda.get_device_name() if device.type == 'cuda' else device} · torch {torch.__version__}")
    started = time.perf_counter()
    numbers(device)
    tuned(device, epochs=10 if large else 2)
    speed(device, images=4096 if large else 32, size=224 if large else 64)
    group(device)
    print(
        f"{time.perf_counter() - started:.0f} s; {len(FAILED)} checks failed{''.join(f' · {name}' for name in FAILED)}"
    )
    return int(bool(FAILED))


if __name__ == "__main__":
    sys.exit(main())
