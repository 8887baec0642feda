"""Labels that are numbers to be predicted, from every form of data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes

from lowdim.data import as_dataset, dataset_from_arrays, load_data
from lowdim.errors import InputError, UsageError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(path, index=False)  # pyright: ignore[reportAttributeAccessIssue]
    return path


def test_a_table_of_numbers_has_features_and_one_output_or_several(table: Path) -> None:
    frame = pd.read_csv(table)
    one = load_data(str(table), task="regression", label_column="target")
    assert (one.kind, one.outputs, one.classes) == ("features", ("target",), ())
    assert one.notes == (
        "rows are called by their number in the file: the header is row 1",
        "split: 80 % train, 20 % test, seed 0",
    )
    assert (len(one["train"]), len(one["test"]), one["train"].load(0).shape) == (354, 88, (10,))
    several = load_data(str(table), task="regression", label_column="target,bmi")
    rows = [int(item.removeprefix("row ")) - 2 for item in several["test"].items]
    targets = several["test"].targets
    assert targets is not None
    np.testing.assert_array_equal(targets, frame.loc[rows, ["target", "bmi"]].to_numpy())
    assert several["test"].load(0).shape == (9,)
    assert one["train"].digest() != several["train"].digest()


def test_without_the_task_the_way_is_shown(table: Path) -> None:
    with pytest.raises(InputError, match="`task=regression`"):
        load_data(str(table), text_column="age", label_column="bmi")
    with pytest.raises(InputError, match="`task=regression`"):
        as_dataset((np.eye(4), np.array([0.5, 1.5, 2.5, 3.5])))


def test_rows_without_a_number_are_left_out_and_words_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,label,word,split\n1,0.5,x,train\n2,,y,train\n3,1.5,z,test\n")
    data = load_data(str(path), task="regression")
    assert data.notes[0] == "left out, without a label: row 3"
    assert (len(data["train"]), len(data["test"]), data["test"].load(0).tolist()) == (1, 1, [3.0])
    with pytest.raises(InputError, match="is no number"):
        load_data(str(path), task="regression", label_column="word")
    with pytest.raises(InputError, match="no column 'price'"):
        load_data(str(path), task="regression", label_column="price")


def test_texts_with_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("text,label,size\n" + "".join(f"word {i},{i / 2},1\n" for i in range(10)))
    data = load_data(str(path), task="regression")
    assert (data.kind, data.outputs) == ("text", ("label",))


def test_arrays_frames_and_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((20, 3)), random.standard_normal((20, 2))
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5], class_names=["u", "v"])
    stored = load_data(str(tmp_path / "a.npz"), task="regression", limit=4)
    assert stored.outputs == ("u", "v")
    assert stored["test"].targets is not None and stored["test"].targets.shape == (4, 2)
    assert as_dataset((x, y[:, 0]), task="regression").outputs == ("y0",)
    assert as_dataset((x.reshape(20, 3, 1), y), task="regression").outputs == ("y0", "y1")
    frame = pd.DataFrame({"p": x[:, 0], "q": x[:, 1], "goal": y[:, 0]})
    found = as_dataset(frame, label_column="goal", task="regression")
    assert (found.outputs, found["train"].load(0).shape) == (("goal",), (2,))
    with pytest.raises(InputError, match="NaN or infinite for 1 of 20"):
        as_dataset((x, np.where(np.arange(20) == 3, np.nan, y[:, 0])), task="regression")
    with pytest.raises(InputError, match="there are 20 samples"):
        dataset_from_arrays(x, y[:19], task="regression")
    with pytest.raises(InputError, match="1 and 2 columns"):
        dataset_from_arrays(x, y, x, y[:, :1], task="regression")


def test_classes_called_by_numbers_are_numbers(tmp_path: Path) -> None:
    for age in ("7.5", "30"):
        (tmp_path / age).mkdir()
        for index in range(5):
            Image.new("RGB", (4, 4), (index, 0, int(float(age)))).save(tmp_path / age / f"{index}.png")
    data = load_data(str(tmp_path), task="regression")
    train = data["train"].targets
    assert train is not None and set(train[:, 0]) == {7.5, 30.0}
    (tmp_path / "7.5").rename(tmp_path / "young")
    with pytest.raises(InputError, match="labels that are no numbers"):
        load_data(str(tmp_path), task="regression")
    with pytest.raises(UsageError, match="`shots`"):
        load_data("digits", task="regression", shots=3)
