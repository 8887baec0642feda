"""Sentences of the commands say what they mean."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import lowdim
from lowdim._intervals import wilson_interval
from lowdim._names import short_names
from lowdim.data import load_data
from lowdim.report.answers import headline


def test_the_classes_left_out_of_a_sentence_are_counted_with_their_samples() -> None:
    counts = {"class 5": 10, "Polka Dots": 9, "BUBBLY": 8, "braided": 7, "cracked": 6}
    predictions = [
        {"item": "i", "class": name, "probability": 1.0} for name, count in counts.items() for _ in range(count)
    ]
    said = headline("predict", {"predictions": predictions, "accuracy": None, "judged": 0})
    assert said == "40 samples classified: 10 as class 5, 9 as Polka Dots, 8 as BUBBLY and 13 as 2 other classes."
    few = [one for one in predictions if one["class"] != "cracked"]
    assert "8 as BUBBLY and 7 as braided." in headline("predict", {"predictions": few, "accuracy": None, "judged": 0})


def test_an_exact_export_says_so() -> None:
    written = {"path": "m.onnx", "bytes": 10, "tokenizer": None}
    assert "its outputs are exactly the network's." in headline("export", {**written, "max_difference": 0.0})
    assert "differ from the network's by at most 3e-08." in headline("export", {**written, "max_difference": 3e-8})


def test_folders_that_are_called_like_any_other_stand_with_their_parent() -> None:
    assert short_names(["hf:/data/MiniLM/model", "timm:local-dir:/data/resnet18"]) == ["MiniLM/model", "resnet18"]


def test_files_left_out_of_a_folder_are_counted_where_they_are(tmp_path: Path) -> None:
    for index in range(6):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (4, 4), 20 * index).save(tmp_path / name / f"{index}.png")
    (tmp_path / "Thumbs.db").touch()
    Image.new("L", (4, 4)).save(tmp_path / "stray.png")
    (tmp_path / "a" / "Thumbs.db").touch()
    assert {"left out: 2 files that are not pictures", "left out: 1 picture in no class folder"} <= set(
        load_data(tmp_path).notes
    )
    (tmp_path / "a" / "Thumbs.db").unlink()
    assert "left out: 1 file that is no picture" in load_data(tmp_path).notes


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "lowdim.Result"]:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, lowdim.finetune("digits-split", "digits-noisy", shots=3, method="linear-probe", out=folder)


def test_the_next_command_runs_and_asks_for_data_of_ones_own(tuned: tuple[Path, "lowdim.Result"]) -> None:
    folder, found = tuned
    told, command = found.page.next_steps[0]
    assert "put your own in its place" in told
    assert command == f"lowdim predict --delta {folder / 'delta'} --data digits-noisy"


def test_the_command_that_looks_into_a_file_is_quoted_once(tuned: tuple[Path, "lowdim.Result"]) -> None:
    found = lowdim.export(tuned[0] / "delta", "checkpoint")
    ((_, line),) = found.page.next_steps
    assert "'\"'\"'" not in line
    program, flag, code = shlex.split(line)
    assert (program, flag) == ("python", "-c") and compile(code, "look", "exec")
    assert not any("tokenizer" in row[0] for row in found.page.sections[0].tables[0].rows)


def test_a_card_is_called_after_the_base_and_the_data(tuned: tuple[Path, "lowdim.Result"], tmp_path: Path) -> None:
    lowdim.publish(tuned[0] / "delta", folder=tmp_path / "hub", licence="mit")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "\n# digits-split-digits-noisy\n" in card and "hf:ORG/digits-split-digits-noisy" in card
    assert "hf:hub" not in card and re.search(r"\| \d\.\d{4} \(\d+ of \d+\) \|", card)


def test_one_tensor_under_two_names_is_named_once() -> None:
    layer = {
        "split": "test",
        "pool": "avg",
        "width": 8,
        "nc1": 1.0,
        "nc1_heldout": 1.0,
        "nc1_chance": 9.0,
        "ncc_accuracy": 0.9,
    }
    result = measured([{**layer, "name": "body.8"}, {**layer, "name": "head:input"}])
    assert headline("measure", result).startswith("The nearest class mean is right for 90.0 % of the test samples")
    result["layers"][1]["nc1"] = 1.5
    assert "The last layer is as good within that interval (90.0 %)." in headline("measure", result)


def measured(layers: list[dict[str, Any]], *, largest: int = 10) -> dict[str, Any]:
    splits = [
        {"split": name, "samples": samples, "independent": samples, "per_class_max": largest}
        for name, samples in (("train", 80), ("test", 20))
    ]
    return {"config": {"model": {"random_weights": False}}, "data": splits, "layers": layers}


def test_copies_count_once_in_the_interval_of_the_sentence() -> None:
    layer = {
        "name": "a",
        "pool": "avg",
        "width": 8,
        "nc1": 1.0,
        "nc1_heldout": 1.0,
        "nc1_chance": 9.0,
        "ncc_left_out": 0.8,
    }
    one = measured([{**layer, "split": split, "ncc_accuracy": 0.9} for split in ("train", "test")])
    twice = {**one, "data": [*one["data"][:1], {**one["data"][1], "independent": 10}]}
    assert "90.0 % of the test samples (90 % interval 73.8 to" in headline("measure", one)
    assert "90.0 % of the test samples (90 % interval 65.2 to" in headline("measure", twice)


def test_the_best_layer_is_not_chosen_by_the_samples_that_judge_it() -> None:
    some = {"pool": "avg", "width": 8, "nc1": 1.0, "nc1_heldout": 1.0, "nc1_chance": 9.0}
    told = {
        ("a", "train"): (0.9, 0.8),
        ("b", "train"): (1.0, 0.7),
        ("a", "test"): (0.75, None),
        ("b", "test"): (0.95, None),
    }
    layers = [
        {**some, "name": name, "split": split, "ncc_accuracy": accuracy, "ncc_left_out": left_out}
        for (name, split), (accuracy, left_out) in told.items()
    ]
    said = headline("measure", measured(layers))
    assert said.startswith(
        "The classes separate best at a, chosen on training samples: the nearest class mean is right for 75.0 %"
    )
    assert said.endswith("For these the last layer is right more often (95.0 %).")
    for layer in layers:
        layer["ncc_left_out"] = None  # nothing was left of the classes
    assert "separate best at b, chosen on test samples themselves" in headline("measure", measured(layers))


def test_what_guessing_reaches_as_well_is_said() -> None:
    layer = {"pool": "avg", "width": 8, "nc1": 9.0, "nc1_heldout": 9.0, "nc1_chance": 9.0, "name": "x", "split": "test"}
    said = headline("measure", measured([{**layer, "ncc_accuracy": 0.55, "ncc_left_out": None}]))
    assert said.endswith("no more, as far as these can tell, than naming the largest class every time (50.0 %).")
    layer |= {"r2": -0.1, "r2_interval": [-0.3, 0.1], "outside": None}
    said = headline("measure", measured([layer]) | {"outputs": ["price"]})
    assert said.startswith("A ridge on x explains -10.0 %") and said.endswith("than the mean of price.")


def test_the_sentence_of_a_layer_is_of_the_samples_that_have_a_part_in_it() -> None:
    """Two of ten are left out for not being finite: 6 of the largest class are left of 8."""
    layer = {"pool": "avg", "width": 8, "nc1": 9.0, "nc1_heldout": 9.0, "nc1_chance": 9.0, "name": "x", "split": "test"}
    layer |= {"ncc_accuracy": 0.875, "ncc_left_out": None, "samples": 8, "max_per_class": 6}
    said = headline("measure", measured([layer], largest=10))
    low, high = wilson_interval(0.875, 8)
    assert f"right for 87.5 % of the 8 of 20 test samples (90 % interval {100 * low:.1f} to {100 * high:.1f} %)" in said
    assert said.endswith("than naming the largest class every time (75.0 %).")


def test_of_one_split_it_is_said_too_where_guessing_is_as_good() -> None:
    layer = {"pool": "avg", "width": 8, "nc1": 4.0, "nc1_heldout": 9.0, "nc1_chance": 9.0, "name": "x", "split": "test"}
    for right, said in (
        (0.55, "The nearest class mean, each sample left out of its own in turn, is right for 55.0 %"),
        (0.95, "The classes separate best at x: held-out NC1 9, NC1 4 (2.25 times tighter than by chance, 9)."),
    ):
        result = measured([{**layer, "ncc_accuracy": 1.0, "ncc_left_out": right}])
        assert headline("measure", {**result, "data": result["data"][1:]}).startswith(said)


ENOUGH = "52.0 % is no more, as far as these can tell, than naming the largest class every time (50.0 %)."


@pytest.mark.parametrize("low, said", [(0.49, True), (0.5, True), (0.51, False)])
def test_the_sentences_of_models_say_what_guessing_reaches_as_well(low, said) -> None:
    interval = [low, 0.6]
    rows = [
        {"model": name, "rank": 1, "probe_cv_accuracy": 0.52, "intervals": {"probe_cv_accuracy": interval}}
        for name in "ab"
    ]
    for scores, first in (
        (rows, "a comes first: " if said else "a suits this data best: "),
        (rows[:1], "a is the only"),
    ):
        ranked = headline("rank", {"scores": scores, "by": "probe_cv_accuracy", "guessing": 0.5})
        assert ranked.startswith(first) and (ENOUGH in ranked) is said
    chosen = {
        "model": "a",
        "method": "probe",
        "layer": None,
        "expected_accuracy": 0.52,
        "guessing": 0.5,
        "interval": interval,
    }
    advised = {"recommendation": chosen, "baseline_wins": False, "more_labels": None, "evidence": []}
    assert (ENOUGH in headline("advise", advised)) is said
    classes = [{"name": name, "samples": 60, "accuracy": 0.52} for name in "xy"]
    tuned = {"method": "probe", "layer": None, "evidence": [], "per_class": classes}
    tuned["accuracy"] = {"test": 0.52, "interval": interval}
    splits = {"train": {"samples": 40}, "test": {"samples": 120}}
    tuned["config"] = {"data": {"splits": splits}, "model": {}}
    assert (ENOUGH in headline("finetune", tuned)) is said
    splits["test"]["samples"] = 20  # too few: the accuracy by cross-validation stands first
    tuned["evidence"] = [{"method": "probe", "accuracy": 0.52, "interval": interval, "guessing": 0.5}]
    tuned["accuracy"] = {"test": 0.9, "interval": [0.7, 0.95]}
    assert (ENOUGH in headline("finetune", tuned)) is said


def test_candidates_that_could_not_be_scored_are_counted_and_constant_features_are_named() -> None:
    row = {"model": "a", "rank": 1, "probe_cv_accuracy": 0.9, "intervals": {}}
    ranked = {"scores": [row], "by": "probe_cv_accuracy", "failed": [{"model": "b", "error": "lost"}]}
    assert headline("rank", ranked).startswith("a is the only candidate of 2 that could be scored: ")
    layer = {"name": "a", "pool": "avg", "width": 8, "nc1_heldout": None, "ncc_accuracy": None, "nc1_chance": None}
    same = measured([{**layer, "split": split, "separation": None, "max_per_class": 9} for split in ("train", "test")])
    assert headline("measure", same).startswith("No layer tells the classes apart: their means are the same")
