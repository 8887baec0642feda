"""Whether the missing cells of a table differ from the known ones, as far as a completion can tell.

If cells go missing at random, what is predicted for them is distributed as what is predicted for held-out cells. If high values go
missing more often, the predictions of the missing cells are higher, and the held-out error tells too little. Values that decide alone,
without any relation to what is known of their row, leave no trace.
"""

from dataclasses import dataclass

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, Entries, HeldOut, Indices

SAMPLE = 20_000  # missing cells looked at
CLEAR = 3.3  # standard errors of the difference: one table in a thousand by chance
RELEVANT = 0.05  # deviations of a column


@dataclass(frozen=True)
class Difference:
    """The mean prediction of missing cells less that of held-out ones, in deviations of the columns, and its standard error."""

    mean: float
    error: float

    @property
    def clear(self) -> bool:
        return abs(self.mean) > max(CLEAR * self.error, RELEVANT)


def difference(
    entries: Entries, completion: Completion, rows: Indices, held_out: HeldOut, seed: int
) -> Difference | None:
    """Compare missing with held-out cells; None where there are fewer than 20 of either."""
    counts = np.maximum(np.bincount(entries.cols, minlength=entries.shape[1]), 1)
    means = np.bincount(entries.cols, entries.values, entries.shape[1]) / counts
    missing_rows, missing_cols = _missing(entries, seed)
    if min(missing_rows.size, rows.size) < 20:
        return None
    predicted = completion.predict(missing_rows, missing_cols) - means[missing_cols]
    known = held_out.predictions - means[held_out.cols]
    # cells of one row are predicted from the same latents: the rows are the independent units
    influence = _of_rows(missing_rows, predicted, entries.shape[0]) - _of_rows(rows, known, entries.shape[0])
    return Difference(float(predicted.mean() - known.mean()), float(np.linalg.norm(influence)))


def not_at_random(
    entries: Entries, completion: Completion, rows: Indices, held_out: HeldOut, seed: int
) -> tuple[str, ...]:
    """What to say where missing cells clearly differ; arguments as for `difference`."""
    seen = difference(entries, completion, rows, held_out, seed)
    if seen is None or not seen.clear:
        return ()
    return (
        f"Cells are not missing at random: what is missing is predicted {abs(seen.mean):.2f} column deviations "
        f"{'higher' if seen.mean > 0 else 'lower'} than what is known. The true error is larger than the held-out one, and "
        "intervals cover less than they say.",
    )


def _of_rows(rows: Indices, values: Array, count: int) -> Array:
    return np.bincount(rows, values - values.mean(), count) / values.size


def _missing(entries: Entries, seed: int) -> tuple[Indices, Indices]:
    """A random sample of the missing cells."""
    m, n = entries.shape
    observed = np.zeros(m * n, np.bool_)
    observed[entries.rows.astype(np.int64) * n + entries.cols] = True
    places = np.flatnonzero(~observed)
    if places.size > SAMPLE:
        places = np.random.default_rng(seed).choice(places, SAMPLE, replace=False)
    return np.divmod(places, n)
