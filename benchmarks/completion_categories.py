"""Categories of mixed tables beside missForest on the same columns, and what they are worth for the numbers: see `completion.py`.

30 % of the known cells are hidden at random. missForest gets what ours gets inside: one column of 0 and 1 for each level, hidden together; its
answer is the level with the largest number.
"""

from typing import Any

import numpy as np
import pandas as pd
from completion_tables import FOLDER, miss_forest, timed

from lowdim.completion import DeepMatrixCompletion
from lowdim.tables import table_of_frame

SHARE = 0.3


def categories(seeds: int) -> None:
    print(
        "share of hidden levels found; root mean square error of hidden numbers over the deviation of the column; seconds"
    )
    for file in sorted(FOLDER.glob("*.csv")):
        frame: Any = pd.read_csv(file)
        kinds = table_of_frame(frame).columns
        levels = [column.name for column in kinds if column.kind in ("category", "boolean")]
        numbers = [column.name for column in kinds if column.kind in ("number", "integer")]
        if not levels:
            continue
        rows = np.array([one_table(frame[[*numbers, *levels]], numbers, levels, seed) for seed in range(seeds)])
        for seed, row in enumerate(rows):
            print(f"{file.stem} seed {seed}: {shown(row)}", flush=True)
        print(f"{file.stem} mean of {seeds}: {shown(rows.mean(0))}")


def shown(row: np.ndarray) -> str:
    return (
        f"levels: lowdim {row[0]:.3f}, missForest {row[1]:.3f}, most frequent {row[2]:.3f}; numbers: lowdim {row[3]:.3f} "
        f"(without categories {row[4]:.3f}), missForest {row[5]:.3f}; {row[6]:.1f} s, {row[7]:.1f} s"
    )


def one_table(frame: Any, numbers: list[str], levels: list[str], seed: int) -> list[float]:
    hidden = (np.random.default_rng([9, seed]).random(frame.shape) < SHARE) & frame.notna().to_numpy()
    holed = frame.mask(hidden)
    ours, seconds = timed(lambda: DeepMatrixCompletion().fit_transform(holed))
    alone, _ = timed(lambda: DeepMatrixCompletion().fit_transform(holed[numbers]))
    table = table_of_frame(holed, kinds={**dict.fromkeys(numbers, "number"), **dict.fromkeys(levels, "category")})
    filled, theirs = timed(lambda: miss_forest(table.matrix))
    other = pd.DataFrame(index=frame.index)
    start = 0
    for column in table.columns:
        part = filled[:, start : start + column.numbers.shape[1]]
        start += column.numbers.shape[1]
        other[column.name] = part[:, 0] if column.name in numbers else np.array(column.levels, object)[part.argmax(1)]
    common: Any = holed.copy()
    for name in levels:
        common[name] = holed[name].mode().iloc[0]
    return [
        *(accuracy(answer, frame, hidden, levels) for answer in (ours, other, common)),
        *(error(answer, frame, hidden, numbers) for answer in (ours, alone, other)),
        seconds,
        theirs,
    ]


def accuracy(answer: Any, frame: Any, hidden: np.ndarray, levels: list[str]) -> float:
    cells: Any = [(answer[name] == frame[name])[hidden[:, frame.columns.get_loc(name)]] for name in levels]
    return float(pd.concat(cells).mean())


def error(answer: Any, frame: Any, hidden: np.ndarray, numbers: list[str]) -> float:
    errors: Any = [
        ((answer[name] - frame[name]) / frame[name].std())[hidden[:, frame.columns.get_loc(name)]] for name in numbers
    ]
    return float(np.sqrt((pd.concat(errors).astype(float) ** 2).mean()))
