"""Several processes: who gets what, that nothing is lost or counted twice, and what happens when one of them is gone."""

import itertools
import json

import pytest
import torch

import runner
from lowdim._processes import Processes, processes
from lowdim.errors import ResourceError

START = """
import json, os, pathlib, sys, time, torch
from datetime import timedelta
from lowdim import _processes
from lowdim._processes import Processes, processes
_processes.PATIENCE = timedelta(seconds=float(os.environ.get("PATIENCE", "60")))
"""


@pytest.fixture
def launch(tmp_path):
    """Runs the code in `count` processes of one job; their exit codes, outputs and errors."""

    def run(code, count, patience=60.0, timeout=120):
        started = runner.job(count, START + code, folder=tmp_path, environment={"PATIENCE": str(patience)})
        done = [process.done(timeout) for process in started]
        return [(one.returncode, one.stdout, one.stderr) for one in done]

    return run


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_item_belongs_to_exactly_one_process(count):
    for items in range(51):
        parts = [list(Processes(rank, count).share(items)) for rank in range(count)]
        assert sorted(itertools.chain(*parts)) == list(range(items))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_everything_is_the_identity():
    alone = Processes()
    value, tensor = object(), torch.ones(2)
    assert alone.gather(value) == [value]
    alone.sum([tensor])
    assert tensor.tolist() == [1, 1]
    with processes() as job:
        assert job == Processes(0, 1)


def test_sums_and_values_are_those_of_all_processes_and_the_same_bits_everywhere(launch):
    code = """
with processes() as job:
    values = torch.arange(3, dtype=torch.float64) * 0.1 + job.index / 3
    counts = torch.tensor([job.index + 1])
    job.sum([values, counts])
    print(json.dumps([values.tolist(), counts.tolist(), job.gather({"rank": job.index})]))
assert not torch.distributed.is_initialized()
"""
    found = launch(code, 3)
    assert [code for code, _, _ in found] == [0, 0, 0], found
    results = [json.loads(out) for _, out, _ in found]
    expected = sum(torch.arange(3, dtype=torch.float64) * 0.1 + rank / 3 for rank in range(3))
    assert results[0] == results[1] == results[2]
    torch.testing.assert_close(torch.tensor(results[0][0], dtype=torch.float64), expected, rtol=1e-15, atol=0)
    assert results[0][1:] == [[6], [{"rank": 0}, {"rank": 1}, {"rank": 2}]]


def test_a_process_that_dies_gives_the_others_a_clear_error(launch):
    code = """
with processes() as job:
    job.gather(None)
    if job.index == 1:
        os._exit(7)
    try:
        job.gather(None)
    except _processes.ResourceError as error:
        print(error)
        os._exit(5)
"""
    (code, out, _), (dead, _, _) = launch(code, 2, patience=20)
    assert (code, dead) == (5, 7)
    assert "Process 0 of 2" in out
    assert "lost one of them" in out


def test_a_process_that_hangs_is_not_waited_for_for_ever(launch, tmp_path):
    """The second process goes on living until the first has given up, so only its patience can have ended the wait."""
    code = f"""
given_up = pathlib.Path({str(tmp_path / "given-up")!r})
with processes() as job:
    job.gather(None)
    if job.index == 1:
        while not given_up.exists():
            time.sleep(0.05)
        os._exit(0)
    try:
        job.sum([torch.ones(1)])
    except _processes.ResourceError as error:
        print(error, flush=True)
        given_up.touch()
        os._exit(5)
"""
    (code, out, _), (other, _, _) = launch(code, 2, patience=2, timeout=60)
    assert (code, other) == (5, 0)
    assert "waited more than 2 seconds" in out


def test_a_process_that_never_comes_is_a_clear_error(launch):
    code = """
if os.environ["RANK"] == "1":
    sys.exit(0)
try:
    with processes() as job:
        job.gather(None)
except _processes.ResourceError as error:
    print(error)
    sys.exit(5)
"""
    (code, out, err), _ = launch(code, 2, patience=3)
    assert code == 5, err
    assert "Process 0 of 2" in out


def test_the_error_is_a_resource_error_with_its_cause():
    from lowdim._processes import waiting

    with pytest.raises(ResourceError, match="Process 1 of 4") as raised, waiting(1, 4):
        raise RuntimeError("connection closed")
    assert "connection closed" in str(raised.value.__cause__)
