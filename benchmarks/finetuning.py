"""Fine-tuning methods side by side: accuracy over seeds and images per class, seconds per epoch, peak memory, bytes.

    python benchmarks/finetuning.py accuracy --model timm:local-dir:DIR --data DIR --image-size 128 --shots 10,80 --seeds 3 --out runs.jsonl
    python benchmarks/finetuning.py speed --model timm:local-dir:DIR --data DIR --image-size 128
    python benchmarks/finetuning.py table --out runs.jsonl

Every run is one line of the output file; runs that are there already are not repeated. Two rows are not methods of lowdim: "usual" is
full fine-tuning as most scripts do it, with BatchNorm in training mode; "auto" also holds the accuracy that was expected. At the end
`table` compares `auto` with the best of all other methods, which the mean test accuracy over the seeds chooses: that flatters the best.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lowdim._job import Job
from lowdim.data import Dataset, Split, batches, choose, load_data
from lowdim.finetuning import METHODS, Plan, TunedModel, default_recipe, make_plan, save_delta, split_outputs
from lowdim.finetuning._baseline import baseline_predictions
from lowdim.finetuning._bench import Bench, Fitted
from lowdim.finetuning._choice import decide
from lowdim.finetuning._evaluate import averaged
from lowdim.finetuning._plan import Options
from lowdim.finetuning.methods import weights_of
from lowdim.models import LoadedModel, load_model

USUAL_RATE = 3e-4


def inputs(options: argparse.Namespace) -> tuple[LoadedModel, Dataset]:
    columns = dict(entry.split("=") for entry in options.column)
    data = choose(load_data(options.data, **columns), limit=options.limit)
    if options.test_limit is not None:
        data = replace(data, splits={**data.splits, "test": choose(data, limit=options.test_limit)["test"]})
    return load_model(options.model, image_size=options.image_size), data


def known(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def accuracy(options: argparse.Namespace) -> None:
    network, whole = inputs(options)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for shots in (int(entry) for entry in options.shots.split(",")):
            measure_seed(options, network, choose(whole, shots=shots, seed=seed), shots, seed)


def measure_seed(options: argparse.Namespace, network: LoadedModel, data: Dataset, shots: int, seed: int) -> None:
    test = data["test"]
    logarithms: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(network, data, Job(folder=Path(folder), seed=seed))
        for method in options.methods.split(","):
            rates = [float(entry) for entry in options.rates.split(",") if entry]
            for rate in rates if method in ("full", "lp-ft", "usual") and rates else [None]:
                key = {"model": options.model, "data": options.data, "shots": shots}
                key |= {"seed": seed, "method": method, "rate": rate}
                if any(all(row[name] == value for name, value in key.items()) for row in known(options.out)):
                    continue
                started = time.monotonic(), time.process_time()
                if method == "baseline":
                    found = baseline_predictions(data["train"], test, classes=bench.classes, seed=seed)
                    right, extra = found.argmax(axis=1) == test.labels, {}
                elif method == "ensemble":
                    for part in ("linear-probe", "scl"):
                        if part not in logarithms:
                            logarithms[part] = split_outputs(
                                fit(bench, part, None, options).model, test, network.preprocessing
                            )[0]
                    mean = np.logaddexp(logarithms["linear-probe"], logarithms["scl"])
                    right, extra = mean.argmax(axis=1) == test.labels, {}
                elif method == "usual":
                    right, extra = usual(bench, rate or USUAL_RATE, test) == test.labels, {}
                elif method == "auto":
                    right, extra = auto(bench, test, logarithms, options)
                else:
                    fitted = fit(bench, method, rate, options)
                    logarithms[method] = split_outputs(fitted.model, test, network.preprocessing)[0]
                    right, extra = logarithms[method].argmax(axis=1) == test.labels, facts(fitted)
                row = {**key, "accuracy": float(right.mean()), "seconds": time.monotonic() - started[0], **extra}
                row["cpu_seconds"] = time.process_time() - started[1]
                with options.out.open("a") as file:
                    file.write(json.dumps({**row, "right": "".join("01"[int(value)] for value in right)}) + "\n")
                print({name: row[name] for name in (*key, "accuracy", "seconds")}, flush=True)


def fit(bench: Bench, method: str, rate: float | None, options: argparse.Namespace) -> Fitted:
    plan = make_plan(bench.network.module, method, layer=options.layer)
    recipe = bench.recipe(plan)
    if rate is not None and recipe is not None:
        recipe = replace(recipe, rate=rate, head_rate=rate)
    return bench.fit(plan, recipe=recipe)


def usual(bench: Bench, rate: float, test: Split) -> np.ndarray:
    """Predictions after plain full fine-tuning: one-cycle AdamW, batches of 32, BatchNorm statistics of the batches."""
    torch.manual_seed(bench.job.seed)
    inputs, labels, _ = next(batches(bench.train, bench.network.preprocessing, batch_size=len(bench.labels)))
    model = TunedModel(bench.network.module, Plan("full"), bench.classes, bench.example)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    recipe = default_recipe("full", len(bench.labels), bench.classes)
    steps = recipe.epochs * max(1, len(labels) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps + 1)
    nn.Module.train(model, True)
    model.base.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels))
        for part in order[: len(order) // 32 * 32].split(32) if len(order) >= 32 else [order]:
            loss = F.cross_entropy(model.head(model.features(inputs[part])), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    nn.Module.train(model, False)
    return split_outputs(model, test, bench.network.preprocessing)[0].argmax(axis=1)


def auto(
    bench: Bench, test: Split, logarithms: dict[str, np.ndarray], options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """What `finetune --method auto` does: right answers on the test split, and the accuracy and interval that it expected."""
    decision = decide(bench, Options(layer=options.layer))
    for plan in decision.plans:
        if plan.method not in logarithms:
            logarithms[plan.method] = split_outputs(bench.fit(plan).model, test, bench.network.preprocessing)[0]
    methods = [plan.method for plan in decision.plans]
    found = averaged([logarithms[method] for method in methods], weights_of(methods))
    right = found.argmax(axis=1) == test.labels
    expected = {entry.method: [entry.accuracy, *entry.interval] for entry in decision.evidence}
    return right, {"chosen": decision.method, "expected": expected, "reasons": decision.reasons}


def facts(fitted: Fitted) -> dict[str, Any]:
    trained = sum(parameter.numel() for parameter in fitted.model.trained().values())
    return {"share": trained / fitted.model.parameters_in_all(), "epochs": len(fitted.history.loss)}


Row = dict[str, Any]


def grouped(rows: list[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return groups


def table(options: argparse.Namespace) -> None:
    """Mean test accuracy by method, with the paired difference to the probe over seeds and its 90 % t-interval."""
    from scipy import stats

    gaps: list[float] = []
    for (model, data, shots), here in sorted(grouped(known(options.out), "model", "data", "shots").items()):
        means = {
            method: {row["seed"]: 100 * row["accuracy"] for row in rows}
            for method, rows in grouped(here, "method", "rate").items()
        }
        probe = means[("linear-probe", None)]
        print(f"{Path(model).name}, {Path(data).name}, {shots} per class")
        print_coverage(here)
        for (method, rate), values in means.items():
            common = sorted(set(values) & set(probe))
            difference = np.array([values[seed] - probe[seed] for seed in common])
            half = float("nan")
            if len(common) > 1:
                half = stats.t.ppf(0.95, len(common) - 1) * difference.std(ddof=1) / len(common) ** 0.5
            name = method if rate is None else f"{method} {rate:g}"
            print(
                f"  {name:16} {np.mean(list(values.values())):6.2f}  linear probe {difference.mean():+.2f} ± {half:.2f}  ({len(values)} seeds)"
            )
        if auto := means.pop(("auto", None), None):
            others = {
                key: np.mean([values[seed] for seed in auto])
                for key, values in means.items()
                if set(auto) <= set(values)
            }
            best = max(others, key=lambda key: others[key])
            gaps.append(float(np.mean([*auto.values()]) - others[best]))
            print(f"  auto {gaps[-1]:+.2f} from the best, {best[0]} {best[1] or ''}")
    if gaps:
        print(
            f"auto from the best: mean {np.mean(gaps):+.2f}, worst {min(gaps):+.2f} of {len(gaps)} pairs of network and data"
        )


def print_coverage(rows: list[dict[str, Any]]) -> None:
    """How often the expected accuracy's interval held the accuracy on test data."""
    measured = {(row["method"], row["seed"]): row["accuracy"] for row in rows if row["rate"] is None}
    expected = [
        (method, row["seed"], interval)
        for row in rows
        for method, interval in row.get("expected", {}).items()
        if (method, row["seed"]) in measured
    ]
    inside = [low <= measured[method, seed] <= high for method, seed, (_, low, high) in expected]
    if inside:
        chosen = Counter(row["chosen"] for row in rows if "chosen" in row)
        print(
            f"  expected accuracy within its 90 % interval: {sum(inside)} of {len(inside)}; auto chose {dict(chosen)}"
        )


def speed(options: argparse.Namespace) -> None:
    """Each method in its own process: seconds per epoch, stored prefix, peak memory, bytes of the delta."""
    for method in (name for name in options.methods.split(",") if name in METHODS):
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            print(json.dumps(pool.apply(speed_of, (options, method))), flush=True)


def speed_of(options: argparse.Namespace, method: str) -> dict[str, Any]:
    network, data = inputs(options)
    data = choose(data, shots=int(options.shots.split(",")[0]), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(network, data, Job(folder=Path(folder)))
        plan = make_plan(network.module, method, layer=options.layer)
        model_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        recipe = bench.recipe(plan)
        fitted = bench.fit(plan, recipe=recipe and replace(recipe, epochs=options.epochs, from_probe=False))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = save_delta(
            fitted.model,
            network.module,
            Path(folder) / "delta",
            method=method,
            classes=data.classes,
            preprocessing=network.preprocessing,
            example=bench.example,
        )
        return {
            "method": method,
            "samples": len(bench.labels),
            "seconds_per_epoch": float(np.min(fitted.history.seconds)) if fitted.history.seconds else None,
            "stored_seconds": fitted.store.seconds,
            "stored_bytes": fitted.store.bytes,
            "peak_memory_mb": peak / 1024,
            "above_start_mb": (peak - model_memory) / 1024,
            "delta_bytes": size,
            "epochs": options.epochs,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "speed", "table"])
    parser.add_argument("--model", default="digits-0-4")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--column", action="append", default=[], help="text_column=text, label_column=label")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--layer", default="auto")
    parser.add_argument("--shots", default="10,80")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--methods", default="baseline,linear-probe,layer,scl,ensemble,auto,lora,lp-ft,full,usual")
    parser.add_argument("--rates", default="", help="of full, lp-ft and usual instead of the recipe's: 3e-4,1e-3")
    parser.add_argument("--test-limit", type=int, help="test samples at most")
    parser.add_argument("--out", type=Path, default=Path("runs.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"accuracy": accuracy, "speed": speed, "table": table}[options.what](options)


if __name__ == "__main__":
    main()
