"""Matrix completion, measured: lowdim beside its peers on the same instances, in the same process.

    python benchmarks/completion.py recovery --size 300 --oversampling 1.1,1.3,1.5,2,3 --condition 10 --seeds 10
    python benchmarks/completion.py peers                     # time and success of every method, d = 500
    python benchmarks/completion.py certainty                 # is an answer that is called sure ever wrong?
    python benchmarks/completion.py noise                     # 20 and 40 dB, against the oracle that knows the subspaces
    python benchmarks/completion.py headline --fixed          # the lecture's problem: d = 1,000, r = 5, p = .2
    python benchmarks/completion.py scaling 1e5 1e6 1e7       # time and memory against the number of entries
    python benchmarks/completion.py products                  # of a sparse matrix with both factors, kernel against SciPy
    python benchmarks/completion.py tables                    # scikit-learn's tables, missing at random and not
    python benchmarks/completion.py categories                # levels of mixed tables beside missForest on the same columns
    python benchmarks/completion.py imputations               # coverage of intervals from several completed tables
    python benchmarks/completion.py speed                     # a 500 x 100 table of rank 5
    python benchmarks/completion.py ratings                   # synthetic ratings with biases
    python benchmarks/completion.py ratings FOLDER            # u1.base, u1.test, ...: user, item, rating, time; tabs

Choices of ours are made on entries held out from those observed. cmfrec and myFM take part where they are installed.
"""

import argparse
from pathlib import Path

import completion_categories
import completion_imputations
import completion_ratings
import completion_recovery
import completion_scaling
import completion_tables
from threadpoolctl import threadpool_limits

from lowdim.completion import DeepMatrixCompletion


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = main.add_subparsers(dest="part", required=True, metavar="PART")

    def part(name: str, summary: str, seeds: int | None) -> argparse.ArgumentParser:
        added = parts.add_parser(
            name,
            help=summary,
            description=summary.replace("%%", "%"),
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        if seeds:
            added.add_argument("--seeds", type=int, default=seeds, help="instances of each kind")
        return added

    for name, size, oversampling, seeds in (("recovery", 300, "1.1,1.2,1.3,1.5,2,3", 10), ("peers", 500, "1.5,2,3", 3)):
        added = part(name, f"success share and seconds against the oversampling, d = {size}", seeds)
        added.add_argument("--size", type=int, default=size, help="rows and columns")
        added.add_argument("--oversampling", default=oversampling, help="entries per degree of freedom")
        added.add_argument("--condition", type=float, default=10.0, help="of the matrix")
        chosen = "lowdim" if name == "recovery" else ",".join(completion_recovery.METHODS)
        added.add_argument("--methods", default=chosen, help="parts of their names")
    part("certainty", "answers called sure that are wrong, oversampling 1.05 to 1.5", 40).add_argument(
        "--size", type=int, default=200, help="rows and columns"
    )
    part("noise", "error over that of the oracle that knows the subspaces", 5).add_argument(
        "--size", type=int, default=500
    )
    headline = part("headline", "the lecture's completion problem by gradient descent", None)
    headline.add_argument("--size", type=int, default=1000, help="rows and columns")
    headline.add_argument("--fixed", action="store_true", help="also with a fixed step")
    part("scaling", "seconds and memory against the number of entries", None).add_argument(
        "sizes", nargs="*", type=float, default=[1e5, 1e6]
    )
    part("products", "S R and S^T L: the kernel that serves inside kernels against SciPy", None)
    part("tables", "real tables, 20, 50 and 80 %% missing, beside scikit-learn's imputers", 5)
    part("categories", "levels of mixed tables in a folder, 30 %% missing, beside missForest", 3)
    part("imputations", "coverage of intervals of regression coefficients at 30 %% missing", 500)
    part("speed", "a 500 x 100 table of rank 5 with 60 %% missing", 2)
    part("ratings", "synthetic ratings, or the folds of a folder", 1).add_argument("folder", nargs="?", type=Path)
    return main


def main() -> None:
    given = parser().parse_args()
    for noise in (0.0, 0.3):  # compiles and imports, outside the timings
        DeepMatrixCompletion().fit(completion_tables.low_rank(100, 40, 2, 0.5, noise, 0)[1])
    with threadpool_limits(1):  # the imputers are many times slower with more threads in the linear algebra
        run(given)


def run(given: argparse.Namespace) -> None:
    if given.part in ("recovery", "peers"):
        oversampling = [float(part) for part in given.oversampling.split(",")]
        methods = completion_recovery.METHODS
        chosen = [name for name in methods if any(part in name for part in given.methods.split(","))]
        completion_recovery.recovery(given.size, oversampling, given.condition, given.seeds, chosen)
    elif given.part == "certainty":
        completion_recovery.certainty(given.size, given.seeds)
    elif given.part == "noise":
        completion_recovery.noise(given.size, given.seeds)
    elif given.part == "headline":
        completion_recovery.headline(given.size, given.fixed)
    elif given.part == "scaling":
        completion_scaling.scaling(given.sizes)
    elif given.part == "products":
        completion_scaling.products()
    elif given.part == "tables":
        completion_tables.tables(given.seeds)
    elif given.part == "categories":
        completion_categories.categories(given.seeds)
    elif given.part == "imputations":
        completion_imputations.imputations(given.seeds)
    elif given.part == "speed":
        completion_tables.speed(given.seeds)
    elif given.folder:
        completion_ratings.folds(given.folder)
    else:
        completion_ratings.ratings(given.seeds)


if __name__ == "__main__":
    main()
