"""Hostile files, calls, kills and damages: a short version of each here, the long ones with `make test-slow`."""

import functools
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from tests.harness import damages, fuzz, hostile, kills, process, world

from lowdim import cli
from lowdim.cli import _session


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    process.preload()
    return world.build(tmp_path_factory.mktemp("harness") / "world")


def test_some_mutated_files(root: Path) -> None:
    report = fuzz.run(root, 150, seed=0)
    assert report.tried == 150 and not report.failed, report.failed


def test_some_damages(root: Path) -> None:
    report = damages.run(root, 24, seed=0)
    assert report.tried == 24 and not report.failed, report.failed


def test_every_command_is_killed() -> None:
    commands = {one.callback.__name__ for one in cli.app.registered_commands if one.callback is not None}
    assert {words[0] for words in kills.COMMANDS.values()} == commands


def _some_kills(root: Path) -> kills.Report:
    process.preload()
    return kills.run(root, 5, seed=0, names=("measure", "finetune", "check", "checkpoint"), chain=2)


def test_some_kills(root: Path) -> None:
    """From a process of its own: what is forked from one that has trained, as other tests do, cannot train."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        report = pool.submit(_some_kills, root).result(timeout=600)
    assert report.tried >= 5 and not report.failed, report.failed


CALLS = [
    (("measure", "--model", "sys:exit", "--data", "images.npz"), 3, "it ends Python"),
    (("measure", "--model", "nets.py:exits", "--data", "images.npz"), 3, "it ends Python"),
    (("measure", "--model", "nets.py:interrupts", "--data", "images.npz"), 3, "raised KeyboardInterrupt"),
    (("measure", "--model", ":", "--data", "images.npz"), 2, "names no Python module"),
    (("measure", "--model", "../x:y", "--data", "images.npz"), 2, "names no Python module"),
    (("measure", "--model", "os:getcwd", "--data", "images.npz"), 3, "expected a torch.nn.Module"),
    (("measure", "--model", "nets.py:narrow", "--data", "images.npz"), 3, "fails on inputs of shape"),
    (("finetune", "--model", "nets.py:fails", "--data", "images.npz", "--method", "linear-probe"), 3, "own fault"),
    (("measure", "--model", "nets.py:lazy", "--data", "images.npz"), 3, "has no shape yet"),
    (("measure", "--model", "features", "--data", "features.npz", "--out", "x" * 4100), 2, "cannot be written"),
    (("measure", "--model", "features", "--data", "features.npz", "--out", "/"), 2, "not a lowdim run"),
    *(
        (words, 3, "is longer than file names can be")
        for words in (
            ("complete", "x" * 4100),
            ("check", "x" * 4100, "--theorem", "parsimony"),
            ("predict", "--delta", "x" * 4100, "--data", "images.npz"),
            ("reproduce", "parsimony-svd", "--out", "x" * 4100),
        )
    ),
    (("reproduce", "parsimony-svd", "--set", "seed=-1"), 2, "seed must be at least 0"),
    (("reproduce", "parsimony-svd", "--set", f"depth={'9' * 5000}"), 2, "depth"),
    (("complete", "table.csv", "--rank", "9" * 5000), 2, "--rank takes"),
    (("complete", "table.csv", "--missing", "nan"), 2, "no finite number"),
]


@pytest.mark.parametrize(
    ("words", "code", "message"), CALLS, ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else ""
)
def test_a_hostile_call_is_answered(root: Path, words: tuple[str, ...], code: int, message: str) -> None:
    done = process.run(words, root)
    assert done.code == code and message in done.err, done.err
    assert "internal error" not in done.err


def test_streams_and_limits(root: Path) -> None:
    words = ("measure", "--model", "features", "--data", "features.npz")
    closed = process.run(words, root, before=functools.partial(hostile.closed, "stdout"))
    assert closed.code == 2 and "standard output is closed" in closed.err
    assert process.run((*words, "--json"), root, before=hostile.broken_pipe).code == 141
    full = process.run((*words, "--json"), root, before=hostile.full_output)
    assert full.code == 5 and "no space left" in full.err
    small = process.run((*words, "--out", "small"), root, before=hostile.small_files)
    assert small.code == 5 and "larger than" in small.err


@pytest.mark.slow
def test_ten_thousand_mutated_files(root: Path) -> None:
    report = fuzz.run(root, 10_000, seed=2)
    print(f"\nseed 2: {report}")
    assert not report.failed, report.failed
    assert report.megabytes < 2000


@pytest.mark.slow
def test_four_hundred_damages(root: Path) -> None:
    report = damages.run(root, 400, seed=3)
    print(f"\nseed 3: {report}")
    assert not report.failed, report.failed


@pytest.mark.slow
def test_two_hundred_kills(root: Path) -> None:
    kills.warm(root)
    report = kills.run(root, 200, seed=5)
    print(f"\nseed 5: {report}")
    assert not report.failed, report.failed


@pytest.mark.slow
def test_every_hostile_call(root: Path) -> None:
    tried, failed = 0, []
    for call in hostile.calls(root):
        tried += 1
        done = process.run(call.words, root, before=call.before)
        if done.internal or done.code not in call.codes or done.megabytes > 2000:
            failed.append(f"{call.name}: exit {done.code}: {done.err[-300:]}")
    print(f"\n{tried} hostile calls, {len(failed)} failed")
    assert not failed, failed


def test_a_signal_that_is_no_signal_is_told_apart() -> None:
    signals = _session.Signals()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), signals.caught():
        signal.raise_signal(signal.SIGTERM)
    assert signals.received == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before


def test_a_signal_inside_a_finaliser_still_stops_the_command() -> None:
    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    signals = _session.Signals()
    with pytest.raises(KeyboardInterrupt), signals.caught():
        Dropped()
        time.sleep(10)
    assert signals.received == signal.SIGTERM


def test_an_interrupt_that_became_another_error_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(**_: object) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
        return 0

    monkeypatch.setattr(cli, "app", importing)
    monkeypatch.setattr("sys.argv", ["lowdim", "check"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 128 + signal.SIGTERM
