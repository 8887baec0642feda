"""Settings, stored outcomes and the processes that run experiments."""

import dataclasses
import errno
import importlib.util
import json
import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from lowdim._verdicts import Verdict
from lowdim.errors import InputError, UsageError
from lowdim.experiments import MODULES, Outcome, _runner, deep_completion, load, transfer
from lowdim.experiments._runner import _THREADS, Finished, _work, choose_jobs, run_experiments, thread_settings
from lowdim.experiments._settings import convert, parse_assignments, resolve_settings
from lowdim.experiments._stored import from_stored, to_stored
from lowdim.experiments._sweep import combined, sweep_points
from lowdim.figures import Images, Lines, Panels, Series, Surface, Table
from lowdim.finetuning import _train


def test_assignments_reach_the_experiments_that_have_them():
    experiments = [load("parsimony-svd"), load("separation-scale")]
    settings = resolve_settings(experiments, parse_assignments(["seed=3", "scales=.4,.2", "eps=.5"]), full=False)
    assert settings["parsimony-svd"].eps == 0.5
    assert settings["separation-scale"].scales == (0.4, 0.2)
    assert {one.seed for one in settings.values()} == {3}
    full = resolve_settings(experiments, {"width": "40"}, full=True)
    assert (full["parsimony-svd"].width, full["parsimony-svd"].iterations) == (40, 500)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epss=1", "Did you mean eps"),
        ("eps", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("eps=a", "finite"),
        ("seed=-1", "at least 0"),
    ],
)
def test_wrong_assignments_are_named(text, message):
    with pytest.raises(UsageError, match=message):
        resolve_settings([load("parsimony-svd")], parse_assignments([text]), full=False)


@pytest.mark.parametrize("id", MODULES)
def test_every_number_has_a_range(id):
    """A setting outside it is an error that names it, before anything runs: never an empty result."""
    experiment = load(id)
    for field in dataclasses.fields(experiment.settings):
        default = getattr(experiment.settings(), field.name)
        one = default[0] if isinstance(default, tuple) and default else default
        if isinstance(one, int | float) and not isinstance(one, bool):
            with pytest.raises(UsageError, match=f"{id}: {field.name} must be (at least|above)"):
                resolve_settings([experiment], {field.name: "-1"}, full=False)


@pytest.mark.parametrize(
    ("id", "texts", "message"),
    [
        ("parsimony-svd", {"rank": "99"}, "rank must be at most 14 at width 30, not 99"),
        ("parsimony-momentum", {"momentum": "1"}, "momentum must be at least 0 and below 1, not 1.0"),
        ("parsimony-unwhitened", {"samples": "20"}, "samples must be at least the width, 30"),
        ("parsimony-general", {"outputs": "", "ranks": "1"}, "outputs needs at least one value"),
        ("parsimony-general", {"outputs": "4", "ranks": "9"}, "rank <= outputs <= width"),
        ("separation-scale", {"per_class": "2"}, "per_class must be at least 3"),
        ("separation-tradeoff", {"scales": ".1"}, "scales needs two or more values, each smaller"),
        ("factorization-compressed", {"rank": "99"}, "over_rank must be at least rank = 99 and below d / 2 = 100"),
        ("completion-narrow", {"rank": "600"}, "d must be at least 1200"),
        ("completion-compressed", {"share": "1.5"}, "share must be above 0 and at most 1, not 1.5"),
        ("completion-compressed", {"tolerance": "1"}, "tolerance must be above 0 and below 1"),
        ("completion-depth-width", {"steps": "1"}, "one value for depth 2 and one for depth 3"),
        ("completion-depth-width", {"widths": "30,10"}, "widths must be two or more that rise"),
        ("completion-sample-complexity", {"depths": "3"}, "with one of scales each"),
        ("saddle-to-saddle", {"singular_values": "1,2"}, "that fall"),
    ],
)
def test_what_a_setting_may_be_is_said(id, texts, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve_settings([load(id)], texts, full=False)


def test_a_sweep_beyond_the_range_is_refused():
    experiment = load("parsimony-svd")
    with pytest.raises(UsageError, match="rank must be at most 14"):
        sweep_points([experiment], {experiment.id: experiment.settings()}, ["rank=3,20"])


def test_values_are_read_by_the_kind_of_the_default():
    assert convert("2", 1.0) == 2.0
    assert convert("no", True) is False
    assert convert("a", "b") == "a"
    assert convert("[1]", None) == [1]
    for text, default in (("1.5", 1), ("x", 1), ("inf", 1.0), ("maybe", True), ("{", None), ("1,x", (1.0,))):
        with pytest.raises(UsageError):
            convert(text, default)


def test_an_outcome_survives_being_stored():
    lines = Lines("l", "t", "x", "y", [Series("s", np.arange(3), np.array([1.0, np.nan, 2.0]), style="dashed")])
    surface = Surface("s", "t", [1, 2], np.arange(3.0), np.array([[1.0, np.inf]] * 3), "x", "y", "z")
    images = Images("i", "t", [("c", np.arange(6, dtype=np.uint8).reshape(2, 3))])
    table = Table("t", "t", ["a"], [[1.5], ["text"], [None]])
    verdicts = [Verdict.of("a", 1.0, "<=", 2.0), Verdict.of("b", float("nan"), "<", 1.0, judged=False, note="n")]
    outcome = Outcome(verdicts, [lines, Panels("p", "t", [surface, surface]), images], [table], ["note"])
    back = from_stored(json.loads(json.dumps(to_stored(outcome))))
    assert back.verdicts[0] == verdicts[0]
    assert np.isnan(back.verdicts[1].value)
    assert not back.verdicts[1].holds
    series = back.figures[0].series[0]
    np.testing.assert_array_equal(series.y, [1.0, np.nan, 2.0])
    assert series.style == "dashed"
    assert back.figures[1].panels[0].z.shape == (3, 2)
    assert np.isnan(back.figures[1].panels[0].z[0, 1])
    np.testing.assert_array_equal(back.figures[2].images[0][1], images.images[0][1])
    assert back.figures[2].images[0][1].dtype == np.uint8
    assert back.tables[0].rows[2] == [None]
    assert back.notes == ["note"]


def test_a_damaged_outcome_is_named():
    with pytest.raises(InputError, match="damaged"):
        from_stored({"verdicts": [{"kind": "Unknown"}], "figures": []})


def settings_of(*ids, **changes):
    return {id: dataclasses.replace(load(id).settings(), **changes.get(id.replace("-", "_"), {})) for id in ids}


def collect(settings, state, jobs=2):
    return {one.id: one for one in run_experiments(settings, state, jobs=jobs, progress=lambda done, total: None)}


def test_failures_hide_nothing(tmp_path):
    settings = settings_of(
        "parsimony-svd",
        "parsimony-momentum",
        "separation-scale",
        parsimony_momentum={"step": 50.0},  # diverges
    )
    finished = collect(settings, tmp_path)
    assert {id: one.status for id, one in finished.items()} == {
        "parsimony-svd": "done",
        "parsimony-momentum": "error",
        "separation-scale": "done",
    }
    assert finished["parsimony-momentum"].exit_code == 3
    assert "diverged" in finished["parsimony-momentum"].message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parsimony-svd.json", "separation-scale.json"]
    again = collect(settings_of("separation-scale"), tmp_path)
    assert again["separation-scale"].seconds == finished["separation-scale"].seconds
    assert again["separation-scale"].outcome.verdicts == finished["separation-scale"].outcome.verdicts


class Told:
    """The parent's end of a connection."""

    def __init__(self):
        self.messages = []

    def send(self, message):
        self.messages.append(message)


def test_what_lacks_a_package_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = Told()
    _work("terminal-phase", None, tmp_path, told)
    assert told.messages == [{"status": "skipped", "message": "needs torch. Run: pip install 'lowdim[all]'"}]


def test_too_large_a_setting_is_said_to_need_memory(tmp_path):
    told = Told()
    _work("separation-scale", load("separation-scale").settings(per_class=10**7), tmp_path, told)
    assert told.messages[-1]["exit_code"] == 5
    assert "memory" in told.messages[-1]["message"]


def test_a_full_disk_is_said_with_what_to_do(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_runner, "write_checked", full)
    told = []
    _work("parsimony-svd", load("parsimony-svd").settings(), tmp_path, SimpleNamespace(send=told.append))
    assert told[-1]["exit_code"] == 5
    assert told[-1]["message"] == "no space left on the disk. Free some and run the same command again."


def test_parts_of_an_interrupted_experiment_are_found_again(tmp_path, monkeypatch):
    id, calls = "completion-sample-complexity", []
    settings = load(id).settings(d=20, rank=2, trials=1, shares=(0.4, 0.5), depths=(2, 3), scales=(1e-3, 1e-3), width=8, max_iterations=5)  # fmt: skip
    right = deep_completion.orthogonal_network

    def interrupted_once(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("interrupted")
        return right(*arguments)

    monkeypatch.setattr(deep_completion, "orthogonal_network", interrupted_once)
    told = Told()
    for name in "ab":
        (tmp_path / name).mkdir()
    _work(id, settings, tmp_path / "a", told)
    assert told.messages[-1]["message"] == "RuntimeError: interrupted"
    left = sorted(file.name for file in (tmp_path / "a" / "parts").iterdir())
    assert left == [f"0-0-0-{id}.json", f"0-1-0-{id}.json"]
    _work(id, settings, tmp_path / "a", told)
    assert told.messages[-1] == "done"
    assert len(calls) == 3 + 2
    assert len(list(run_experiments({id: settings}, tmp_path / "a", jobs=1, progress=lambda done, total: None))) == 1
    assert [file.name for file in (tmp_path / "a").iterdir()] == [f"{id}.json"]
    _work(id, settings, tmp_path / "b", told)
    found, whole = (json.loads((tmp_path / name / f"{id}.json").read_text())["outcome"] for name in "ab")
    assert found == whole


def test_a_fine_tuning_of_several_experiments_is_run_once(tmp_path, monkeypatch):
    trained, networks = [], []
    right = transfer._tuned

    def counted(case, method, seed, data, folder):
        trained.append((method, len(data["train"].labels) // 5, seed))
        networks[:] = networks or [right(case, method, seed, data, folder)]  # which network it is does not matter here
        return networks[0]

    monkeypatch.setattr(transfer, "_tuned", counted)
    common = {"data": "", "seeds": 1, "methods": ("linear-probe",)}
    told = Told()
    for id, own in (("transfer-table", {"shots": 5}), ("layerwise-finetuning", {"shots": 10}), ("data-scarcity", {"sizes": (5, 10, 20)})):  # fmt: skip
        _work(id, load(id).settings(**common, **own), tmp_path, told)
    mixed = "layer, labels mixed"
    assert trained == [("linear-probe", 5, 0), ("linear-probe", 10, 0), (mixed, 10, 0), ("linear-probe", 20, 0)]
    _work("data-scarcity", load("data-scarcity").settings(**common, sizes=(5, 10, 20), image_size=0, block="blocks.0"), tmp_path, told)  # fmt: skip
    assert len(trained) == 4 + 3  # another block: nothing of the others'


def test_what_an_ensemble_shares_with_scl_is_trained_once(monkeypatch):
    steps, right = [], _train._Loop._step
    monkeypatch.setattr(
        _train._Loop, "_step", lambda self, *rest: steps.append(self.model.plan.method) or right(self, *rest)
    )
    settings = load("transfer-table").settings(data="", seeds=1, shots=3, methods=("scl", "ensemble"))
    accuracies = load("transfer-table").run(settings, lambda done, total: None).tables[0].rows
    assert [row[0] for row in accuracies] == ["scl", "ensemble"]
    alone = len(steps)
    steps.clear()
    load("transfer-table").run(dataclasses.replace(settings, methods=("scl",)), lambda done, total: None)
    assert len(steps) == alone > 0


def test_the_longest_begins_first(tmp_path, monkeypatch):
    costs = {"parsimony-svd": 1, "separation-scale": 9}
    monkeypatch.setattr(_runner, "load", lambda id: SimpleNamespace(cost=costs[id]))
    order = []
    settings = settings_of("parsimony-svd", "separation-scale")
    for jobs in (2, 1):
        finished = run_experiments(settings, tmp_path / str(jobs), jobs=jobs, progress=lambda done, total: None, started=order.append)  # fmt: skip
        assert len(list(finished)) == 2
    assert order == ["separation-scale", "parsimony-svd", "parsimony-svd", "separation-scale"], (
        "one by one as asked for"
    )


def test_a_killed_process_is_reported_and_hides_nothing(tmp_path):
    settings = settings_of("separation-depth", "separation-scale")
    killed = []

    def kill(done, total):
        import multiprocessing

        for child in multiprocessing.active_children():
            if not killed and child.name == "separation-depth" and (tmp_path / "separation-scale.json").exists():
                killed.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)

    finished = {one.id: one for one in run_experiments(settings, tmp_path, jobs=2, progress=kill)}
    assert killed
    assert finished["separation-depth"].status == "error"
    assert "ended by signal 9 (was memory short?)" in finished["separation-depth"].message
    assert finished["separation-scale"].status == "done"


def test_a_process_runs_one_experiment_after_another_until_one_fails(tmp_path, monkeypatch):
    started, start = [], _runner._start
    monkeypatch.setattr(_runner, "_start", lambda *arguments: started.append(1) or start(*arguments))
    settings = settings_of("parsimony-svd", "separation-scale", "parsimony-momentum", "muon-growth", parsimony_momentum={"step": 50.0})  # fmt: skip
    finished = collect(settings, tmp_path, jobs=1)
    assert [one.status for one in finished.values()] == ["done", "done", "error", "done"]
    assert len(started) == 2


def test_a_process_of_experiments_keeps_memory_at_hand(tmp_path, monkeypatch):
    kept, (ours, theirs) = [], _runner.multiprocessing.Pipe()
    monkeypatch.setattr(_runner, "keep_freed_memory", lambda: kept.append(True))
    ours.close()
    _runner._serve(tmp_path, theirs)
    assert kept == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_starts_waits_until_it_is_known(tmp_path, monkeypatch, number):
    """Otherwise nobody ends it, and Python waits for it at its own end."""
    import multiprocessing

    start = _runner._start

    def signalled(*arguments):
        worker = start(*arguments)
        signal.raise_signal(number)
        return worker

    def stop(number, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(_runner, "_start", signalled)
    before = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_experiments(settings_of("parsimony-svd"), tmp_path, jobs=1, progress=lambda done, total: None))
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert not multiprocessing.active_children()


def test_a_worker_whose_parent_was_killed_ends_in_silence(tmp_path):
    def gone(message):
        raise BrokenPipeError

    _work("parsimony-svd", load("parsimony-svd").settings(), tmp_path, SimpleNamespace(send=gone, close=lambda: None))


def test_the_same_settings_give_the_same_bits(tmp_path):
    settings = settings_of("separation-scale", "parsimony-svd")
    first, second = collect(settings, tmp_path / "a"), collect(settings, tmp_path / "b", jobs=1)
    for id in settings:
        assert first[id].outcome.verdicts == second[id].outcome.verdicts


def test_a_sweep_is_the_cross_product_and_one_table():
    experiment = load("parsimony-svd")
    points = sweep_points([experiment], {experiment.id: experiment.settings(width=20)}, ["eps=.5,1", "depth=3,4"])
    assert [(p.settings.eps, p.settings.depth, p.settings.width) for p in points.values()] == [(0.5, 3, 20), (0.5, 4, 20), (1, 3, 20), (1, 4, 20)]  # fmt: skip
    ran = [
        (point, Finished(key, "done", 1.0, Outcome([Verdict.of("v", point.settings.eps, "<=", 0.7)], [])))
        for key, point in list(points.items())[:3]
    ]
    ran.append((list(points.values())[3], Finished("x", "error", 1.0, message="diverged", exit_code=3)))
    whole = combined(ran)
    assert [verdict.holds for verdict in whole.outcome.verdicts] == [True, True, False, False]
    assert "diverged" in whole.outcome.verdicts[3].name
    assert whole.outcome.tables[0].rows[1] == [0.5, 4, "v", 0.5, "<= 0.7", "holds"]
    (figure,) = whole.outcome.figures
    assert [panel.title for panel in figure.panels] == ["v"]  # one for each verdict
    assert [one.name for one in figure.panels[0].series] == ["depth = 3", "depth = 4"]
    np.testing.assert_array_equal(figure.panels[0].series[0].x, [0.5, 1.0])
    for texts, message in ((["epss=1"], "no setting 'epss'"), (["eps="], "no values")):
        with pytest.raises(UsageError, match=message):
            sweep_points([experiment], {experiment.id: experiment.settings()}, texts)
    scale = load("separation-scale")
    with pytest.raises(UsageError, match="a list of values already"):
        sweep_points([scale], {scale.id: scale.settings()}, ["scales=.1,.2"])


def test_the_thread_limits_of_the_user_are_kept():
    none = dict.fromkeys(_THREADS)
    assert set(thread_settings(none, 2).values()) == {"2"}
    assert set(thread_settings({**none, "OMP_NUM_THREADS": "1"}, 2).values()) == {"1"}
    mixed = thread_settings({**none, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "3"}, 2)
    assert (mixed["OMP_NUM_THREADS"], mixed["OPENBLAS_NUM_THREADS"], mixed["MKL_NUM_THREADS"]) == ("1", "3", "1")
    nested = thread_settings({**none, "OMP_NUM_THREADS": "3,1"}, 2)
    assert set(nested.values()) == {"3"}, "one number for each nested level is no number for the other libraries"
    for unusable in ("0", "-1", "many", ""):
        assert set(thread_settings({**none, "OMP_NUM_THREADS": unusable}, 2).values()) == {"2"}


def test_descriptions_hold_no_number_that_a_setting_can_change():
    """ "24 of 30" is false with another rank: what can be set is named by its symbol."""
    for id in MODULES:
        experiment = load(id)
        settings = dataclasses.asdict(experiment.settings())
        values = [part for value in settings.values() for part in (value if isinstance(value, tuple) else (value,))]
        numbers = {str(value) for value in values if isinstance(value, int | float) and value not in (0, 1, 2)}
        said = set(re.findall(r"(?<![\w^-])\d+(?![\w/(-])", f"{experiment.title} {experiment.why}"))
        assert not said & numbers, (id, said & numbers)
        assert not re.search(r"\d+ of \d+", experiment.why), id


def test_jobs_are_bounded():
    assert choose_jobs(8, ["a", "b"]) == 2
    assert choose_jobs(None, ["a"]) == 1
    assert choose_jobs(1, ["a", "b"]) == 1


def test_what_is_no_setting_is_refused_as_what_it_was_given():
    one = load("parsimony-svd")
    with pytest.raises(UsageError, match=r"'' in `sweep` is not NAME=VALUE\. For example: eps=\.5,1"):
        sweep_points([one], {one.id: one.settings()}, [""])
