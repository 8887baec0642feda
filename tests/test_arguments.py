"""Arguments of the wrong kind: one line with the parameter's name from every public function, and no traceback from inside."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lowdim
from lowdim._arguments import check_fields
from lowdim.dynamics import Problem
from lowdim.errors import InputError, LowdimError, UsageError


class _Other:
    pass


NETWORK, FEATURES, LABELS = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)), torch.eye(3), torch.arange(3)
EYE = [[np.eye(3), np.eye(3)], [np.eye(3) / 2, np.eye(3) / 2]]
FUNCTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "load_model": (lowdim.load_model, {"spec": "digits"}),
    "load_data": (lowdim.load_data, {"spec": "digits"}),
    "load_delta": (lowdim.load_delta, {"model": NETWORK, "path": "delta"}),
    "profile": (lowdim.profile, {"model": NETWORK, "data": (FEATURES, LABELS)}),
    "check_parsimony": (lowdim.check_parsimony, {"source": EYE}),
    "check_separation": (
        lowdim.check_separation,
        {"source": EYE, "problem": Problem(np.eye(3)), "labels": np.arange(3)},
    ),
    "CollapseMonitor": (lowdim.CollapseMonitor, {"data": (FEATURES, LABELS)}),
    "WeightWatcher": (lowdim.WeightWatcher, {"model": NETWORK, "classes": 2}),
    "from_samples": (lowdim.ClassStatistics.from_samples, {"features": FEATURES, "labels": LABELS, "classes": 3}),
    "measure": (lowdim.measure, {"model": NETWORK, "data": (FEATURES, LABELS)}),
    "rank": (lowdim.rank, {"model": NETWORK, "data": (FEATURES, LABELS)}),
    "advise": (lowdim.advise, {"model": NETWORK, "data": (FEATURES, LABELS)}),
    "finetune": (lowdim.finetune, {"model": NETWORK, "data": (FEATURES, LABELS)}),
    "predict": (lowdim.predict, {"delta": "delta", "data": FEATURES}),
    "export": (lowdim.export, {"delta": "delta", "to": "torch"}),
    "publish": (lowdim.publish, {"delta": "delta"}),
    "complete": (lowdim.complete, {"file": np.eye(3)}),
    "check": (lowdim.check, {"folder": EYE, "theorem": "parsimony"}),
    "reproduce": (lowdim.reproduce, {"ids": ["none"]}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_of_no_kind_that_a_parameter_takes(name: str) -> None:
    function, given = FUNCTIONS[name]
    for one in inspect.signature(function).parameters.values():
        if one.annotation is Any or one.kind is one.VAR_KEYWORD or one.name == "progress":
            continue
        for wrong in (object(), _Other, {3: 4}, {"a": object()}, 1j):
            with pytest.raises(LowdimError) as raised:
                function(**{**given, one.name: wrong})
            assert "\n" not in str(raised.value), one.name
            assert f"`{one.name}`" in str(raised.value) or one.name in ("model", "data", "file", "folder", "arguments")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lowdim.load_model(3), "`spec` takes text or a path, not 3."),
        (lambda: lowdim.load_data(b"ab"), "`spec` takes text or a path, not b'ab'."),
        (lambda: lowdim.load_delta(None, "x"), "`model` takes a torch module, not None."),
        (lambda: lowdim.load_model("digits", mean=0.5), r"`mean` takes a list .each a number., not 0.5."),
        (lambda: lowdim.load_model("digits", image_size=(3, 4, 5)), "`image_size` takes .*, not tuple."),
        (
            lambda: lowdim.load_data("digits", task="other"),
            "`task` takes one of classification, regression, not 'other'",
        ),
        (lambda: lowdim.check([1, 2], "parsimony"), "step 0 is 1; each time is a list"),
        (lambda: lowdim.check([["a"], ["b"]], "parsimony"), "factor 1 of step 0 is 'a' of type <U1"),
        (lambda: lowdim.measure(NETWORK, (FEATURES, LABELS), layers=3), "No layer matches '3'"),
        (lambda: lowdim.measure("digits", seed=None), "`seed` takes a whole number, not None."),
        (lambda: lowdim.reproduce(3), "'3'"),
        (lambda: lowdim.profile(NETWORK, (FEATURES, LABELS), device="x"), "`device=x` is none that PyTorch knows"),
        (lambda: lowdim.profile(NETWORK, (FEATURES, LABELS), batch_size=-1), "`batch_size` must be at least 1"),
        (lambda: lowdim.profile(NETWORK, (FEATURES, LABELS), seed=-1), "`seed` at least 0"),
        (lambda: lowdim.CollapseMonitor([], every=0), "`every` must be at least 1"),
    ],
)
def test_known_ones(call: Any, message: str) -> None:
    with pytest.raises((UsageError, InputError), match=message):
        call()


def test_fields_of_a_dataclass() -> None:
    @dataclass
    class Record:
        size: int

    check_fields(Record(3))
    with pytest.raises(UsageError, match="`size` takes a whole number, not '3'"):
        check_fields(Record("3"))


def test_numbers_of_numpy_and_paths_are_taken() -> None:
    data = lowdim.load_data(
        Path("digits"), shots=np.int64(1), test_share=np.float32(0.5), skip_unreadable=np.bool_(False)
    )
    assert len(data["train"]) == 10
    assert lowdim.load_model(Path("digits"), mean=np.array([0.5]), std=(1,)).preprocessing.mean == (0.5,)
