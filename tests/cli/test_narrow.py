"""A terminal of 80 columns: no name is broken, whatever its length, and no line is longer than the terminal unless a name is."""

import re
from textwrap import wrap

import pytest

import lowdim
from lowdim import Candidate
from lowdim.figures import Table
from lowdim.report._terminal import to_terminal

TIMM = "vit_mediumd_patch16_reg4_gap_384.sbb2_e200_in12k_ft_in1k"
"""The longest name of timm's pre-trained networks."""
PATH = f"/home/somebody/{'a-folder-of-some-depth/' * 4}checkpoint-of-the-last-epoch.npz"
assert len(PATH) >= 120
SHORT = "checkpoint-of-the-last-epoch.npz"
SMALL = {"limit": 40, "seed": 0}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


def assert_whole(shown, *names):
    """Wherever the first letters of a name stand, all of it stands."""
    for name in names:
        assert name in shown, name
        for found in re.finditer(re.escape(name[:20]), shown):
            assert any(shown.startswith(one, found.start()) for one in (*names, PATH, TIMM)), shown[found.start() :][
                :150
            ]
    for line in shown.splitlines():
        long = max((len(word) for word in line.split()), default=0) > 40
        assert len(line) <= 80 or long or line.startswith("    lowdim "), line


def test_rank_keeps_names_whole():
    candidates = [Candidate(name=TIMM, model="digits-split"), Candidate(name=PATH, model="digits-0-4")]
    assert_whole(str(lowdim.rank(candidates, "digits-noisy", no_probe=True, **SMALL)), TIMM, SHORT)


def test_advise_keeps_names_whole():
    candidates = [Candidate(name=TIMM, model="digits-split"), Candidate(name=PATH, model="digits-0-4")]
    assert_whole(str(lowdim.advise(candidates, "digits-noisy", shots=[2], outliers=2, **SMALL)), TIMM, SHORT)


def test_measure_keeps_names_whole():
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = {f"a_stage_of_the_network_with_a_name_that_goes_on_{index}": nn.Linear(64, 64) for index in range(2)}
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    network.add_module("head", nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(60, 64, generator=generator), torch.arange(60) % 10
    found = lowdim.measure(network, data, layers="a_stage*")
    assert_whole(str(found), *layers)


def test_finetune_keeps_names_whole(tmp_path):
    network = lowdim.load_model("digits-split", name=TIMM)
    folder = tmp_path / ("d" * 120)
    found = lowdim.finetune(network, "digits-noisy", method="linear-probe", out=folder, **SMALL)
    assert_whole(str(found), f"{folder}/delta")
    assert TIMM in found.page.title


def test_complete_keeps_names_whole(tmp_path):
    column = "a_measurement_of_the_left_upper_sensor_in_the_second_hall"
    rows = [f"{i},{i + 1},{'' if i % 5 == 0 else i + 2}" for i in range(30)]
    file = tmp_path / ("t" * 120 + ".csv")
    file.write_text("\n".join([f"a,b,{column}", *rows]) + "\n")
    assert_whole(str(lowdim.complete(str(file), out=tmp_path / "run")), column)


def test_the_list_of_experiments_keeps_ids_whole():
    from lowdim.experiments import MODULES

    assert_whole("\n".join(lowdim.reproduce(list_all=True).lines), *MODULES)


def test_sentences_go_on_in_the_next_line_between_two_words():
    long = "a verdict whose name is a sentence, and goes on beyond half of the line"
    shown = to_terminal(Table("t", "", ["verdict", "value"], [[long, 1.0], ["short", 2.0]]), 80)
    assert "[1]" not in shown and "\n".join(wrap(long, 40)).splitlines()[1] in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
