"""A method is one record: nothing else in the package knows its name."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lowdim
from lowdim.data import load_data
from lowdim.errors import InputError, UsageError
from lowdim.finetuning import ASKED, METHODS, Plan, TunedModel, default_recipe, finetune, make_plan
from lowdim.finetuning._plan import Options
from lowdim.finetuning.methods import RECORDS, check_options, method_named, names_of
from lowdim.models import LoadedModel

SOURCE = Path(lowdim.__file__).parent
DOCS = Path(__file__).parents[2] / "docs" / "commands" / "finetune.md"
ROOMS = [
    *(SOURCE / "finetuning").glob("*.py"),
    *(SOURCE / "finetuning" / "methods").glob("_*.py"),
    *(SOURCE / "cli").glob("*.py"),
    SOURCE / "report" / "finetuning.py",
]


def strings(node: ast.expr) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def compared(source: str) -> list[str]:
    """Comparisons with a method's name, and cases of a match; of the words that mean other things too, those that ask a method."""
    names, shared = set(ASKED), {"auto", "full", "layer", "norm"}
    parts: list[tuple[str, list[ast.expr]]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts.append((ast.unparse(node), [node.left, *node.comparators]))
        if isinstance(node, ast.MatchValue):
            parts.append((ast.unparse(node), [node.value]))
    found = [(text, set().union(*map(strings, sides)) & names) for text, sides in parts]
    return [text for text, known in found if known - shared or (known and re.search(r"method(?!\.reads)", text))]


def test_no_name_is_compared_outside_its_record() -> None:
    for text in (
        'method in ("layer", "scl")',
        '"lora" == name',
        'plan.method != "full"',
        'match x:\n case "scl": pass',
    ):
        assert compared(text)
    assert not compared('layer == "auto" or "layer" in method.reads')
    assert len(ROOMS) > 30
    assert {path.name: compared(path.read_text()) for path in ROOMS if compared(path.read_text())} == {}


DUMMY = """
from lowdim.finetuning.methods._method import Method

METHOD = Method(
    name="dummy",
    title="the first convolution and the head",
    parameters=lambda base: list(base.get_submodule("conv").parameters()),
    exports=("torch", "checkpoint"),
)
"""
SCRIPT = """
import sys
from pathlib import Path

import torch
from typer.testing import CliRunner

import lowdim
from lowdim.cli import app

folder = Path(sys.argv[1])
assert lowdim.__file__.startswith(str(folder.parent)), lowdim.__file__
shown = CliRunner().invoke(app, ["finetune", "--help"], env={"COLUMNS": "200"}).stdout
assert "dummy" in shown, shown
base, data = lowdim.load_model("digits-0-4"), lowdim.load_data("digits-5-9", shots=4, limit=50)
tuned = lowdim.finetune(base, data, method="dummy", epochs=2)
before, after = base.module.state_dict(), tuned.model.get_submodule("base").state_dict()
changed = {name for name in after if not torch.equal(before[name], after[name])}
assert changed and all(name.startswith("conv.") for name in changed), changed
assert tuned.save(folder, base)["verified"]
again = lowdim.load_delta(lowdim.load_model("digits-0-4").module, folder)
inputs = torch.rand(3, 1, 8, 8)
assert torch.equal(again(inputs), tuned.model(inputs))
"""


def test_a_new_method_is_one_file_and_one_line(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "lowdim")  # with what is compiled
    methods = tmp_path / "lowdim" / "finetuning" / "methods"
    (methods / "dummy.py").write_text(DUMMY)
    registry = methods / "__init__.py"
    registry.write_text(registry.read_text().replace('    "zero_shot",\n', '    "zero_shot",\n    "dummy",\n'))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "delta")]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_records_need_no_torch() -> None:
    code = "import sys; from lowdim.finetuning import methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_reference_has_a_row_for_each_record() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)`(?: \(default\))? \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    for name, record in RECORDS.items():
        assert rows.get(name, "").startswith(record.title), name


def test_what_is_asked_of_the_records(network: LoadedModel) -> None:
    assert set(METHODS) == set(ASKED) - {"auto", "ensemble", "ensemble-adapt"}
    assert names_of(also=True) == ["lp-ft", "full", "lora", "norm"]
    assert names_of(exports="peft") == ["linear-probe", "layer"]
    assert {part for record in RECORDS.values() for part in record.parts} <= set(METHODS)
    plan = make_plan(network.module, "lora", layer="blocks.1", combine="concat", rank=3)
    assert plan == Plan("lora", rank=3), "what a method does not read is left out"


@pytest.mark.parametrize("name", METHODS)
def test_what_a_record_trains(name: str, network: LoadedModel) -> None:
    record = RECORDS[name]
    if record.adapt is not None:
        pytest.importorskip("peft")
    model = TunedModel(network.module, make_plan(network.module, name), 3, torch.zeros(2, 1, 8, 8))
    trained = {part.partition(".")[0] for part in model.trained()}
    base = {"base"} if record.recipe or record.blocks else set[str]()
    assert trained == base | (set() if record.head else {"head"})


def test_the_recipes_by_method() -> None:
    block = (1e-3, 3e-4, True), (1e-3, 1e-3, True)
    steady = (1e-3, 1e-3, True), (1e-3, 1e-3, True)
    expected = {
        "layer": block,
        "scl": block,
        "full": ((3e-4, 1e-3, False),) * 2,
        "lp-ft": ((3e-4, 3e-4, True),) * 2,
        "adapt": ((3e-4 * 2**0.5,) * 2 + (True,), (6e-4, 6e-4, True)),
        "norm": steady,
        "lora": steady,
    }
    assert set(expected) == {name for name in METHODS if RECORDS[name].recipe}
    for name, pair in expected.items():
        recipes = [default_recipe(name, samples, 10) for samples in (100, 200)]
        for recipe, wanted in zip(recipes, pair, strict=True):
            assert (recipe.rate, recipe.head_rate, recipe.from_probe) == pytest.approx(wanted), name
        softer = {"adapt": [10.0, 10.0]}.get(name, [1.0, 3.0 if pair is block else 1.0])
        assert [recipe.temperature for recipe in recipes] == softer, name
    assert [default_recipe("adapt", samples, 10).rate for samples in (600, 50_000)] == [1e-3, 1e-3]


def test_what_cannot_be_is_refused(network: LoadedModel) -> None:
    with pytest.raises(UsageError, match="Did you mean layer"):
        method_named("layers")
    with pytest.raises(UsageError, match="no method 'auto'"):
        method_named("auto", single=True)
    with pytest.raises(UsageError, match="not trained by steps"):
        default_recipe("linear-probe", 100, 10)
    with pytest.raises(UsageError, match='goes with `method="lp-ft"` or `method="adapt"` or `method="full"`'):
        check_options(RECORDS["layer"], Options(batch_norm="batch"))
    with pytest.raises(UsageError, match='`also` goes with `method="auto"`, not scl'):
        finetune(network, load_data("digits", limit=60), method="scl", also="lp-ft")
    with pytest.raises(UsageError, match=r"cannot also try 'lpft'\. Did you mean lp-ft"):
        check_options(RECORDS["auto"], Options(also=("lpft",)))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["rate", "epochs", "views", "rank"])
def test_numbers_that_no_training_has_are_refused(network: LoadedModel, name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"`{name}` must be a number above 0"):
        finetune(network, load_data("digits", limit=60), method="layer", **{name: value})  # pyright: ignore[reportArgumentType]


def test_a_rank_above_that_of_every_weight_is_refused(network: LoadedModel) -> None:
    with pytest.raises(InputError, match="rank 99999 is above that of every weight of the network, at most"):
        finetune(network, load_data("digits", limit=60), method="lora", rank=99_999)
