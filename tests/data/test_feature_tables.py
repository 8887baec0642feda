"""Tables of features: their columns are known by name, and what keeps a table from being one is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lowdim
from lowdim.data import as_dataset, load_data
from lowdim.errors import InputError
from lowdim.finetuning import read_delta
from runner import typed

rng = np.random.default_rng(0)
ROWS = rng.standard_normal((40, 3)) * [1, 10, 100] + np.repeat([0, 2], 20)[:, None] * [1, 10, 100]
TABLE = pd.DataFrame(ROWS, columns=["ash", "hue", "malic"]).assign(wine=["red"] * 20 + ["white"] * 20)


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tuned")
    TABLE.to_csv(where / "t.csv", index=False)
    lowdim.finetune(
        "features", where / "t.csv", label_column="wine", method="linear-probe", test_share=0, out=where / "run"
    )
    return where / "run" / "delta"


def classes(delta: Path, data: Any) -> list[str | None]:
    return [one["class"] for one in lowdim.predict(delta, data).data["predictions"]]


@pytest.mark.parametrize("form", ["frame", "file"])
def test_columns_are_matched_by_name(delta: Path, tmp_path: Path, form: str) -> None:
    expected = classes(delta, TABLE)
    assert np.mean([a == b for a, b in zip(expected, TABLE["wine"], strict=True)]) > 0.8
    moved = TABLE[["malic", "wine", "ash", "hue"]].assign(bottle=range(40), note="x")
    if form == "file":
        moved.to_csv(tmp_path / "moved.csv", index=False)
        assert classes(delta, tmp_path / "moved.csv") == expected
    else:
        assert classes(delta, moved) == expected
    with pytest.raises(InputError, match="no column hue, which the classifier was fitted to"):
        lowdim.predict(delta, TABLE.drop(columns="hue"))


def test_rows_with_an_empty_cell_are_left_out_and_text_is_refused(delta: Path) -> None:
    holes = TABLE.copy()
    holes.loc[3, "ash"] = np.nan
    assert lowdim.predict(delta, holes).data["left_out"] == ["row 3"]
    with pytest.raises(InputError, match=r"'ash' holds text \(row 3: 'low'\)"):
        lowdim.predict(delta, TABLE.astype({"ash": object}).assign(ash=[*TABLE["ash"][:3], "low", *TABLE["ash"][4:]]))


def test_no_row_and_two_columns_of_one_name_are_refused(delta: Path) -> None:
    with pytest.raises(InputError, match="has no row"):
        lowdim.predict(delta, TABLE.iloc[:0])
    with pytest.raises(InputError, match="several columns called ash"):
        lowdim.predict(delta, pd.concat([TABLE, TABLE[["ash"]]], axis=1))


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "eu.csv", sep=";", decimal=",", index=False)
    read = load_data(tmp_path / "eu.csv", label_column="wine", test_share=0)["train"]
    assert np.array_equal([read.load(index) for index in range(40)], ROWS)


@pytest.mark.parametrize(
    ("change", "named", "message"),
    [
        ({}, None, "holds the labels. Say `label_column`"),
        ({"island": "Dream"}, "wine", r"no table of features: 'island' holds text \(row 2: 'Dream'\)"),
        ({"hue": [*ROWS[:5, 1], np.nan, *ROWS[6:, 1]]}, "wine", r"'hue' has 1 empty cell \(row 7\)"),
    ],
)
def test_what_keeps_a_table_from_being_one_is_said(
    tmp_path: Path, change: dict[str, Any], named: str | None, message: str
) -> None:
    TABLE.assign(**change).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=message):
        load_data(tmp_path / "t.csv", label_column=named)


def test_numbers_as_classes_are_told() -> None:
    data = as_dataset(TABLE.drop(columns="wine").assign(label=rng.permutation(40) // 2), test_share=0)
    assert any("20 different numbers in 40 rows" in note and "`task=regression`" in note for note in data.notes)


@pytest.mark.parametrize("name", ["id", "Unnamed: 0", "", "Kunden-Nr", "first"])
def test_numbers_that_name_the_rows_are_no_features(tmp_path: Path, name: str) -> None:
    """An index that a frame was written with, or a column of ids, would drown all others."""
    ids = np.arange(40) if name in ("", "first") else np.random.default_rng(0).permutation(4000)[:40]
    table = pd.concat([pd.Series(ids, name=name), TABLE], axis=1)
    table.to_csv(tmp_path / "t.csv", index=False)
    read = load_data(tmp_path / "t.csv", label_column="wine", test_share=0)
    assert np.array_equal([read["train"].load(index) for index in range(40)], ROWS)
    why = "it counts the rows" if name in ("", "first") else "whole numbers, all different"
    assert any(note.startswith("not used: ") and why in note for note in read.notes)
    framed = as_dataset(table, label_column="wine")
    assert framed.columns["feature_columns"] == ["ash", "hue", "malic"]


def test_numbers_that_are_all_different_are_features_beside_a_name_that_says_no_more(tmp_path: Path) -> None:
    table = pd.concat([pd.Series(np.arange(1980, 2020), name="year"), TABLE], axis=1)
    read = as_dataset(table.assign(weight=np.random.default_rng(1).permutation(40)), label_column="wine")
    assert read.columns["feature_columns"] == ["year", "ash", "hue", "malic", "weight"]
    alone = as_dataset(pd.DataFrame({"id": np.arange(40), "wine": TABLE["wine"]}), label_column="wine")
    assert alone.columns["feature_columns"] == ["id"]


def test_rank_promises_of_rows_of_numbers_what_finetune_reaches() -> None:
    ranked = lowdim.rank("features", TABLE, label_column="wine").data["scores"][0]
    tuned = lowdim.finetune("features", TABLE, label_column="wine", method="auto").data
    own = next(one for one in tuned["evidence"] if one["method"] == "linear-probe")
    assert ranked["probe_cv_accuracy"] == pytest.approx(own["accuracy"])
    assert ranked["probe_accuracy"] == pytest.approx(tuned["accuracy"]["test"])


def test_two_columns_with_names_of_labels_are_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,label,class\n" + "1,0,1\n2,1,0\n3,0,1\n" * 3)
    said = "labels: 'label'; 'class' might be them, too: say `label_column`"
    assert said in load_data(tmp_path / "t.csv").notes
    assert said not in load_data(tmp_path / "t.csv", label_column="class").notes


def test_a_table_without_names_is_told_from_one_without_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0.5,1.5,a\n2.5,3.5,b\n")
    with pytest.raises(InputError, match="if names are missing, write a row of them above it"):
        load_data(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("x,y,z\n0.5,1.5,a\n2.5,3.5,b\n")
    with pytest.raises(InputError, match=r"there are: x, y, z\.$"):
        load_data(tmp_path / "t.csv")


def test_a_command_is_not_taken_for_an_option_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,target\n" + "".join(f"{row},{row / 7}\n" for row in range(40)))
    done = typed("finetune", "--model", "features", "--data", tmp_path / "t.csv")
    assert "which lowdim measure and lowdim rank know" in done.stderr
    assert "--rank" not in done.stderr


def test_the_file_in_a_delta_stands_for_the_delta(delta: Path) -> None:
    assert read_delta(delta / "delta.json").classes == read_delta(delta).classes
