import subprocess
import sys

import pytest

import lowdim
from lowdim import errors
from lowdim.errors import LowdimError, MissingDependencyError, did_you_mean, is_out_of_memory, require

CODES = {
    "LowdimError": 1,
    "UsageError": 2,
    "InputError": 3,
    "EmptyClassError": 3,
    "UnreadableError": 3,
    "NonFiniteError": 3,
    "ResourceError": 5,
    "MissingDependencyError": 2,
}
BUILT_IN = {"UsageError": ValueError, "InputError": ValueError, "ResourceError": RuntimeError}


def test_every_error_has_its_exit_code_and_its_built_in():
    found = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, LowdimError)}
    assert {name: kind.exit_code for name, kind in found.items()} == CODES
    for name, base in BUILT_IN.items():
        assert issubclass(found[name], base)
    assert issubclass(errors.NonFiniteError, errors.InputError)
    assert issubclass(MissingDependencyError, ImportError)


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(errors._EXTRAS, "nowhere", "vision")
    with pytest.raises(
        MissingDependencyError, match=r"A picture needs the package 'nowhere'.*pip install 'lowdim\[vision\]'"
    ):
        require("nowhere.inside", "A picture")
    with pytest.raises(MissingDependencyError, match="pip install elsewhere"):
        require("elsewhere", "It")
    assert require("json", "It").__name__ == "json"


def test_an_import_that_fails_inside_a_package_is_not_mistaken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as raised:
        require("broken_one", "It")
    assert not isinstance(raised.value, MissingDependencyError)


def test_the_public_names_say_which_extra_they_need(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(lowdim.importlib, "import_module", absent)
    missing = "torch"
    with pytest.raises(MissingDependencyError, match=r"lowdim.profile needs the package 'torch'.*lowdim\[torch\]"):
        _ = lowdim.profile
    missing = "elsewhere"
    with pytest.raises(ModuleNotFoundError, match="elsewhere"):
        _ = lowdim.profile


def test_suggestions():
    assert did_you_mean("layr3", ["layer3", "layer4", "fc"]) == "Did you mean layer3 or layer4?"
    assert did_you_mean("q", []) == "There are none."
    many = did_you_mean("q", [f"x{i}" for i in range(20)])
    assert many.endswith("… (20 in all).")
    assert "x11" in many
    assert "x12" not in many


def test_a_library_that_finds_no_room_is_out_of_memory() -> None:
    mapped = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    found = OSError("Could not find/load shared object file 'libllvmlite.so'")
    assert is_out_of_memory(mapped) and not is_out_of_memory(found)
    found.__context__ = mapped
    assert is_out_of_memory(found)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of addresses")
@pytest.mark.parametrize(("gigabytes", "code"), [(1, 5), (200, 0)])
def test_a_limit_of_memory_is_answered(gigabytes: int, code: int) -> None:
    limit = gigabytes * 2**30
    words = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
from lowdim.cli import main
sys.argv = ["lowdim", "measure", "--model", "digits", "--data", "digits", "--list-layers"]
main()
"""
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert code == 0 or (
        done.stderr.count("\n") == 1
        and "allow more with ulimit -v" in done.stderr
        and "--batch-size" not in done.stderr
    )
