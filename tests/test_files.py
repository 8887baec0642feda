import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lowdim import _files
from lowdim._files import RunFolder, load_tensors, read_json, save_tensors, to_json, write_atomic
from lowdim.errors import InputError, ResourceError, UsageError


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != _files.LOCK)


def finished_run(path, config=None, result=None):
    with RunFolder(path, "measure", config or {"seed": 0}) as run:
        run.write("figures/one.svg", "<svg/>")
        write_atomic(run.state / "part", "half")
        run.finish(result or {"value": 1.5})
    return run


def test_a_failed_write_leaves_the_old_content_and_no_stray_file(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_atomic(file, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_write_makes_its_folders_and_can_be_read_by_others(tmp_path):
    file = tmp_path / "a" / "b" / "c"
    write_atomic(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert file.stat().st_mode & 0o777 == 0o644
    write_atomic(file, "ü")
    assert file.read_text(encoding="utf-8") == "ü"


def test_content_and_name_are_both_made_durable(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(_files.os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle)))
    write_atomic(tmp_path / "a", "content")
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_json_is_strict():
    value = {"nan": float("nan"), "inf": [np.float32("inf")], 3: np.int64(4), "array": np.arange(2), "ü": (True, None)}
    assert json.loads(to_json(value)) == {"nan": None, "inf": [None], "3": 4, "array": [0, 1], "ü": [True, None]}
    assert "NaN" not in to_json(value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damaged_json_is_an_input_error(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json cannot be read as JSON"):
        read_json(file)
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "y.json")


def test_tensors_come_back_whatever_their_layout(tmp_path):
    arrays = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "scalar": np.array(3.5, dtype=np.float32),
        "empty": np.zeros((0, 4)),
        "integers": np.arange(5)[::2],
    }
    save_tensors(tmp_path / "t", arrays, {"note": "ü"})
    back, metadata = load_tensors(tmp_path / "t")
    assert metadata == {"note": "ü"}
    assert sorted(back) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_every_flipped_bit_of_a_tensor_file_is_found(tmp_path):
    file = tmp_path / "t"
    save_tensors(file, {"a": np.arange(4, dtype=np.int16), "b": np.ones(2)}, {"key": "value"})
    raw = file.read_bytes()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        # White space in the header, and nothing else, can change without changing what is read.
        if raw[place] == 0x20 and damaged[place] in b"\t\n\r ":
            continue
        with pytest.raises(InputError):
            load_tensors(file)
    for size in (0, 5, len(raw) - 1):
        file.write_bytes(raw[:size])
        with pytest.raises(InputError):
            load_tensors(file)
    with pytest.raises(InputError, match="does not exist"):
        load_tensors(tmp_path / "nothing")


def test_a_run_is_continued_and_then_returned(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path, "measure", {"seed": 0}) as run:
        assert run.finished() is None
        write_atomic(run.state / "part", "half")
    with RunFolder(path, "measure", {"seed": 0}) as run:
        assert (run.state / "part").read_text() == "half"
        run.finish({"value": 1.5})
    assert names(path) == ["config.json", "manifest.json", "result.json"]
    with RunFolder(path, "measure", {"seed": 0}) as run:
        assert run.finished() == {"schema_version": 1, "command": "measure", "value": 1.5}
    assert names(path) == ["config.json", "manifest.json", "result.json"], "looking at a finished run adds nothing"


def test_another_configuration_is_refused_and_the_difference_named(tmp_path):
    finished_run(tmp_path, {"seed": 0, "layers": "a*", "same": [1, 2]})
    with (
        pytest.raises(UsageError) as raised,
        RunFolder(tmp_path, "measure", {"seed": 1, "layers": None, "same": (1, 2)}),
    ):
        pass
    message = str(raised.value)
    assert "seed: 0 in the folder, 1 now" in message
    assert "layers: a* in the folder, not set now" in message
    assert "same" not in message
    assert "`fresh`" in message
    with (
        pytest.raises(UsageError, match=r"holds a run of measure, not of rank\. Use another `out`"),
        RunFolder(tmp_path, "rank", {}),
    ):
        pass


def test_fresh_replaces_a_run_of_any_configuration(tmp_path):
    finished_run(tmp_path, {"seed": 0})
    (tmp_path / "link").symlink_to(tmp_path.parent)
    with RunFolder(tmp_path, "measure", {"seed": 1}, fresh=True) as run:
        assert run.finished() is None
        assert names(tmp_path) == ["config.json", "state"]
    assert tmp_path.parent.is_dir()


def test_fresh_survives_a_kill_half_way(tmp_path, monkeypatch):
    finished_run(tmp_path)
    unlink = _files.Path.unlink

    def dies(self, *args, **kwargs):
        if self.name in ("manifest.json", "result.json"):
            raise KeyboardInterrupt
        unlink(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(_files.Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path, "measure", {"seed": 1}, fresh=True):
            pass
    assert (tmp_path / "config.json").exists()
    with RunFolder(tmp_path, "measure", {"seed": 1}, fresh=True) as run:
        assert run.finished() is None


@pytest.mark.parametrize("name", ["result.json", "figures/one.svg", "config.json", "manifest.json"])
def test_a_flipped_bit_in_a_finished_run_is_found_and_named(tmp_path, name):
    finished_run(tmp_path)
    raw = (tmp_path / name).read_bytes()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1
        if name == "manifest.json" and json_equal(raw, damaged):
            continue
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError) as raised, RunFolder(tmp_path, "measure", {"seed": 0}):
            pass
        assert name in str(raised.value) or name == "manifest.json"
    (tmp_path / name).unlink()
    if name != "manifest.json":
        expected = UsageError if name == "config.json" else InputError
        with pytest.raises(expected), RunFolder(tmp_path, "measure", {"seed": 0}):
            pass


def json_equal(first, second):
    try:
        return json.loads(first) == json.loads(second)
    except ValueError:
        return False


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="not a lowdim run"), RunFolder(tmp_path, "measure", {}, fresh=fresh):
            pass
    assert names(tmp_path) == ["thesis.tex"]
    with pytest.raises(UsageError, match="is a file"), RunFolder(tmp_path / "thesis.tex", "measure", {}):
        pass


def test_what_a_killed_write_left_is_swept_away(tmp_path):
    with RunFolder(tmp_path, "measure", {}) as run:
        write_atomic(run.state / "kept", "x")
    for place in (tmp_path, run.state):
        (place / ".tmp-abc").write_text("half a file")
    with RunFolder(tmp_path, "measure", {}):
        assert names(tmp_path) == ["config.json", "state", "state/kept"]


def test_a_failure_with_nothing_to_continue_leaves_nothing(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(UsageError, match="typo"), RunFolder(path, "measure", {"layers": "typo"}):
        raise UsageError("typo")
    assert not path.exists()
    with RunFolder(path, "measure", {"layers": "right"}) as run:
        write_atomic(run.state / "part", "half")
    with pytest.raises(KeyboardInterrupt), RunFolder(path, "measure", {"layers": "right"}):
        raise KeyboardInterrupt
    assert (path / "state" / "part").exists(), "state is kept"
    with pytest.raises(UsageError, match="other settings"), RunFolder(path, "measure", {"layers": "other"}):
        pass
    assert (path / "config.json").exists()


def test_only_one_process_at_a_time(tmp_path):
    code = f"from lowdim._files import RunFolder; import time, pathlib\nwith RunFolder(pathlib.Path({str(tmp_path / 'run')!r}), 'measure', {{}}): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "in\n"
            with (
                pytest.raises(UsageError, match="Another process is using"),
                RunFolder(tmp_path / "run", "measure", {}),
            ):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
    with RunFolder(tmp_path / "run", "measure", {}):
        pass


def test_the_default_folder_is_named_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {RunFolder(None, "measure", {"seed": seed}).path.as_posix() for seed in (0, 1, 0)}
    assert len(paths) == 2
    assert all(path.startswith("lowdim-runs/measure-") for path in paths)
    assert not (tmp_path / "lowdim-runs").exists()


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_old_or_new(tmp_path):
    code = (
        "import pathlib, sys\nfrom lowdim._files import write_atomic\np = pathlib.Path(sys.argv[1])\n"
        "i = 0\nwhile True:\n    write_atomic(p, f'{i} ' * 50000); i += 1"
    )
    generator = np.random.default_rng(0)
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "f")]) as writer:
            time.sleep(0.4 + generator.uniform(0, 0.2))
            os.kill(writer.pid, signal.SIGKILL)
        words = (tmp_path / "f").read_text().split()
        assert len(words) == 50000
        assert len(set(words)) == 1


def test_the_disk_error_tells_what_to_do(tmp_path):
    error = _files.disk_full(OSError(errno.ENOSPC, "full"), tmp_path)
    assert isinstance(error, ResourceError)
    assert "`out`" in str(error)


def test_a_missing_file_offers_its_neighbours(tmp_path):
    (tmp_path / "weights.safetensors").write_text("")
    with pytest.raises(InputError, match=r"Did you mean weights\.safetensors"):
        _files.existing_file(tmp_path / "weight.safetensors", "The checkpoint")
    with pytest.raises(InputError, match="is a folder"):
        _files.existing_file(tmp_path, "The checkpoint")
    with pytest.raises(InputError, match="does not exist or is empty"):
        _files.existing_file(tmp_path / "no" / "x", "The checkpoint")


def test_what_another_run_lacks_altogether_is_told_once(tmp_path):
    with RunFolder(tmp_path, "reproduce", {"experiments": {"one": {"seed": 1, "d": 5}, "two": {"seed": 1, "d": 5}}}):
        pass
    expected = r"\(experiments.one.seed: 1 in the folder, 2 now; experiments.two: set in the folder, not set now\)"
    with (
        pytest.raises(UsageError, match=expected),
        RunFolder(tmp_path, "reproduce", {"experiments": {"one": {"seed": 2, "d": 5}}}),
    ):
        pass


def test_another_run_is_told_apart_by_the_settings_that_differ(tmp_path):
    def config(limit, digest):
        data = {"name": "photos", "limit": limit, "train": {"sha256": digest}}
        return {"models": [{"name": "a", "width": 3}, {"name": "b", "width": limit}], "data": data, "pool": ["avg"]}

    with RunFolder(tmp_path / "run", "rank", config(None, "1a")):
        pass
    with (
        pytest.raises(UsageError) as raised,
        RunFolder(tmp_path / "run", "rank", config(9, "2b") | {"pool": ["avg", "cls"], "note": "x" * 99}),
    ):
        pass
    assert (
        "(data.limit: not set in the folder, 9 now; models.2.width: not set in the folder, 9 now; "
        f"note: not set in the folder, {'x' * 57}... now; pool: avg in the folder, avg, cls now)"
    ) in str(raised.value)
    with (
        pytest.raises(UsageError, match=r"\(data.train.sha256: the content is another one\)"),
        RunFolder(tmp_path / "run", "rank", config(None, "2b")),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    for target in (tmp_path / "folder", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match=r"cannot be written: .* Choose another place"):
            write_atomic(target, "text")
    with pytest.raises(UsageError, match="cannot be written"), RunFolder(tmp_path / "file" / "run", "measure", {}):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_umask_decides_about_a_new_file_and_an_old_one_keeps_its_mode(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "new", "a")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    for mode in (0o600, 0o640, 0o755):
        (tmp_path / "new").chmod(mode)
        write_atomic(tmp_path / "new", "b")
        assert (tmp_path / "new").stat().st_mode & 0o777 == mode
    assert (tmp_path / "new").read_text() == "b"
    assert names(tmp_path) == ["new"]


def test_links_are_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    (tmp_path / "ahead").symlink_to(tmp_path / "far" / "not yet")
    write_atomic(tmp_path / "link", "new")
    write_atomic(tmp_path / "ahead", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "ahead").is_symlink()
    assert [(tmp_path / "far" / name).read_text() for name in ("file", "not yet")] == ["new", "new"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in the file system")
def test_pipes_and_devices_are_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(tmp_path / "pipe", "content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    write_atomic(tmp_path.__class__("/dev/null"), "content")
    with pytest.raises(UsageError, match="cannot be written"):
        write_atomic(tmp_path, "content")


def test_places_where_nothing_can_be_written_are_said_in_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / ("x" * 4100), tmp_path / "a\0b", tmp_path / "loop" / "x", tmp_path / "file" / "x"):
        with pytest.raises(UsageError, match="cannot be written") as raised:
            write_atomic(path, "a")
        assert len(str(raised.value)) < 400
        with pytest.raises(UsageError, match=r"cannot be written|is a file"), RunFolder(path, "measure", {}):
            pass
    with pytest.raises(UsageError, match="Too many levels of symbolic links"):
        write_atomic(tmp_path / "loop", "a")
    assert (tmp_path / "loop").is_symlink() and names(tmp_path) == ["file", "loop"]


def test_a_damaged_configuration_is_no_other_setting(tmp_path):
    with RunFolder(tmp_path / "run", "measure", {"seed": 3, "layers": ["a"]}) as run:
        write_atomic(run.state / "part", "half")
    file = tmp_path / "run" / "config.json"
    raw = file.read_bytes()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        if raw[place] in b" \n" and damaged[place] in b"\t\n\r ":
            continue
        with (
            pytest.raises(InputError, match=r"config\.json"),
            RunFolder(tmp_path / "run", "measure", {"seed": 3, "layers": ["a"]}),
        ):
            pass


def test_a_damaged_list_of_checksums_is_the_file_that_is_named(tmp_path):
    finished_run(tmp_path / "run")
    file = tmp_path / "run" / "manifest.json"
    raw = file.read_bytes()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        if raw[place] in b" \n" and damaged[place] in b"\t\n\r ":
            continue
        with pytest.raises(InputError, match=r"manifest\.json"), RunFolder(tmp_path / "run", "measure", {"seed": 0}):
            pass


def test_runs_of_earlier_versions_are_found_again(tmp_path):
    finished_run(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del manifest["own"], config["sha256"]
    (tmp_path / "run" / "config.json").write_text(to_json(config))
    manifest["sha256"]["config.json"] = _files.sha256(tmp_path / "run" / "config.json")
    (tmp_path / "run" / "manifest.json").write_text(to_json(manifest))
    with RunFolder(tmp_path / "run", "measure", {"seed": 0}) as run:
        assert run.finished()["value"] == 1.5


def test_a_state_that_is_a_link_is_refused(tmp_path):
    with RunFolder(tmp_path / "run", "measure", {}) as run:
        write_atomic(run.state / "part", "half")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("kept")
    (tmp_path / "run" / "state" / "part").unlink()
    (tmp_path / "run" / "state").rmdir()
    (tmp_path / "run" / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"), RunFolder(tmp_path / "run", "measure", {}):
        pass
    assert (tmp_path / "elsewhere" / "mine").read_text() == "kept"


def test_a_link_says_where_it_ends(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("nowhere")
    os.mkfifo(tmp_path / "d.npz")
    with pytest.raises(InputError, match=r"The matrix .*d\.npz is a pipe; a regular file is needed"):
        _files.existing_file(tmp_path / "d.npz", "The matrix")
    with pytest.raises(InputError, match="a cannot be reached: its links lead in a circle"):
        _files.existing_file(tmp_path / "a", "The matrix")
    with pytest.raises(InputError, match="c does not exist"):
        _files.existing_file(tmp_path / "c", "The matrix")
