"""Fill the holes of a pandas table, and know how wrong the filling may be."""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer

from lowdim import DeepMatrixCompletion

truth = load_wine(as_frame=True).data
missing = np.random.default_rng(0).random(truth.shape) < 0.3
table = truth.mask(missing)  # 30 % of the cells become NaN

model = DeepMatrixCompletion(clip="observed").set_output(transform="pandas")
filled = model.fit_transform(table)
print(f"solver {model.solver_}, rank {model.rank_}: {model.reason_}")
print(f"held-out error over that of row and column means: {model.held_out_ratio_:.2f}")


def error(completed) -> float:
    """Root mean square error of the missing cells, in deviations of their columns."""
    return float(np.sqrt((((completed - truth) / truth.std()) ** 2).to_numpy()[missing].mean()))


means = SimpleImputer().set_output(transform="pandas").fit_transform(table)
print(f"true error: {error(filled):.3f}, of column means {error(means):.3f}")

# A single cell with the deviation of a new observation: 90 % should lie within 1.645 of it.
row, column = np.argwhere(missing)[0]
values, deviations = model.predict([row], [column], return_std=True)
print(
    f"{truth.columns[column]} of row {row}: {values[0]:.2f} ± {1.645 * deviations[0]:.2f}, truly {truth.iloc[row, column]}"
)
