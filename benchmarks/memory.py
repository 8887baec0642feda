"""Memory of the collapse metrics, of the solvers of completion and of completion over several processes, as growth of the resident set.

    python benchmarks/memory.py metrics [--classes 1000] [--width 2048] [--samples 20000]
    MALLOC_MMAP_THRESHOLD_=131072 python benchmarks/memory.py solver --solver als --shape 5000 2000 [--entries 1e6]
    torchrun --nproc-per-node 2 benchmarks/memory.py completion --entries 4e6

Linux only. The second compares the peak of a fit with the estimate by which it would have been refused. The third prints bytes per entry in
each process: what is stored, and what fitting adds at its peak.
"""

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def growth(action: Callable[[], object]) -> int:
    """Bytes by which the resident set grows at most while an action runs."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before, most, running = resident(), [0], [True]

    def watch() -> None:
        while running:
            most[0] = max(most[0], resident())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    running.clear()
    watcher.join()
    return max(most[0], resident()) - before


def metrics(classes: int, width: int, samples: int) -> None:
    import torch

    from lowdim.metrics import cdnv, separation, variability
    from lowdim.statistics import ClassStatistics, SpanScatter, between_span

    def batches():
        generator = torch.Generator().manual_seed(0)
        for start in range(0, samples, 500):
            labels = torch.arange(start, start + 500) % classes
            yield torch.randn(500, width, generator=generator), labels

    def run() -> None:
        statistics = ClassStatistics.empty(classes, width)
        for features, labels in batches():
            statistics.update(features, labels)
        scatter = SpanScatter.empty(statistics, between_span(statistics))
        for features, labels in batches():
            scatter.update(features, labels)
        variability(statistics, scatter), separation(statistics), cdnv(statistics)

    used = growth(run) / 1e6
    print(f"K = {classes}, d = {width}, {samples} samples in batches of 500: {used:.0f} MB")


def solver(name: str, shape: tuple[int, int], size: int) -> None:
    from lowdim.completion import Entries
    from lowdim.completion._engine import complete
    from lowdim.completion.solvers import solver as solver_named
    from lowdim.completion.solvers._solver import Settings

    def problem(m: int, n: int, size: int) -> Entries:
        generator = np.random.default_rng(0)
        rows, cols = np.divmod(generator.choice(m * n, size, replace=False), n)
        left, right = generator.normal(size=(m, 3)), generator.normal(size=(n, 3))
        values = (left[rows] * right[cols]).sum(1) + (name not in ("exact", "gd")) * 0.3 * generator.normal(size=size)
        values = np.clip(np.round(values), -3, 3) if name.startswith("ratings") else values
        return Entries.from_triplets(rows, cols, values, (m, n))

    settings = Settings(iterations=4)
    complete(problem(40, 30, 900), settings, solver=name)  # compiles and imports
    entries = problem(*shape, size)
    estimate = solver_named(name).memory(size, shape, settings.max_rank) / 1e6
    used = growth(lambda: complete(entries, settings, solver=name)) / 1e6
    print(f"{name}: {size} entries of {shape[0]} x {shape[1]}: {used:.0f} MB, estimated {estimate:.0f} MB")


def completion(entries: int) -> None:
    import torch.distributed as processes

    from lowdim.completion import Entries
    from lowdim.completion.distributed import alternate_over_processes
    from lowdim.completion.entries._least_squares import pair_products

    processes.init_process_group("gloo")
    rank, n, m = processes.get_rank(), 5_000, entries // 100
    right = np.random.default_rng(100).standard_normal((n, 10))
    generator = np.random.default_rng(rank)
    left = generator.standard_normal((m, 10))
    rows, cols = generator.integers(0, m, entries, np.int32), generator.integers(0, n, entries, np.int32)
    own = Entries.from_triplets(rows, cols, pair_products(left, right, rows, cols, False), (m, n))
    del rows, cols
    alternate_over_processes(own.select(own.rows < 500), 10, sweeps=2)  # compiles
    found = []
    used = growth(lambda: found.append(alternate_over_processes(own, 10)))
    stored = own.rows.nbytes + own.cols.nbytes + own.values.nbytes
    print(
        f"process {rank}: {own.size} entries of {m} x {n}, {stored / own.size:.0f} bytes each, {used / own.size:.0f} more while fitting; "
        f"{found[0].iterations} sweeps, residual {found[0].relative_residual:.1e}",
        flush=True,
    )
    processes.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["metrics", "solver", "completion"])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--solver", default="als")
    parser.add_argument("--shape", type=int, nargs=2, default=(5000, 2000))
    parser.add_argument("--entries", type=float, default=1e6)
    given = parser.parse_args()
    if given.what == "metrics":
        metrics(given.classes, given.width, given.samples)
    elif given.what == "solver":
        solver(given.solver, tuple(given.shape), int(given.entries))
    else:
        completion(int(given.entries))


if __name__ == "__main__":
    main()
