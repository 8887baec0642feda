"""Every public name is explained, shown in an example that runs as a doctest, and stands in the reference."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import lowdim

REFERENCE = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
PACKAGES = ("metrics", "profiling", "dynamics", "completion", "ranking", "finetuning", "models", "data")
MODULES = ("statistics", "features", "watch")
NAMES = [
    (home, name)
    for home in (*PACKAGES, *MODULES)
    for name in importlib.import_module(f"lowdim.{home}").__all__
] + [("report", "Result")]  # fmt: skip
# A network whose weights would have to be downloaded, so that no example can run.
NO_EXAMPLE = {("models", "text_encoder")}


def named(home, name):
    return getattr(importlib.import_module(f"lowdim.{home}"), name)


def members(kind):
    """Public functions and properties that a class defines itself."""
    found = {}
    for name, member in vars(kind).items():
        member = getattr(member, "__func__", member)
        member = getattr(member, "fget", None) or getattr(member, "func", None) or member
        if not name.startswith("_") and inspect.isfunction(member) and member.__module__.startswith("lowdim."):
            found[name] = member
    return found


def is_record(found):
    """Frozen fields that a function returns; its example shows them."""
    fields = dataclasses.is_dataclass(found) or hasattr(found, "_fields")
    return inspect.isclass(found) and fields and not {*members(found)} - {"as_dict"}


def needs_example(found):
    raised = inspect.isclass(found) and issubclass(found, BaseException)
    return callable(found) and not raised and not is_record(found)


def test_the_top_level_names_are_those_of_their_modules():
    assert lowdim.__all__ == sorted(lowdim.__all__)
    assert dir(lowdim) == lowdim.__all__
    for name in set(lowdim.__all__) - {"__version__"}:
        home = lowdim._HOMES[name]
        assert (home, name) in NAMES or home == f"cli.{name}"
        assert getattr(lowdim, name) is named(home, name)
        assert f"`lowdim.{name}`" in REFERENCE
    source = inspect.getsource(lowdim)
    assert set(re.findall(r"import (\w+) as \1", source)) == set(lowdim.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lowdim.nothing


@pytest.mark.parametrize(("home", "name"), NAMES)
def test_a_public_name_is_explained_and_shown(home, name):
    found = named(home, name)
    if not callable(found):
        assert f"py:data:: lowdim.{home}.{name}\n" in REFERENCE
        return
    text = inspect.getdoc(found) or ""
    assert text, "no docstring"
    if needs_example(found) and (home, name) not in NO_EXAMPLE:
        shown = (
            [text, *(inspect.getdoc(member) or "" for member in members(found).values())]
            if inspect.isclass(found)
            else [text]
        )
        assert any(">>> " in part for part in shown), "no doctest"
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters:
            assert re.search(rf"^    (\w+, )*{parameter}(, \w+)*: ", text, re.MULTILINE), (
                f"{parameter} is not explained"
            )


def raises(function):
    """Whether the function's own lines raise one of our errors."""
    nodes = [ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]]
    while nodes:
        node = nodes.pop()
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and ast.unparse(node.exc.func).endswith("Error")
        ):
            return True
        nodes += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.FunctionDef)]
    return False


@pytest.mark.parametrize(("home", "name"), NAMES)
def test_errors_are_documented(home, name):
    found = named(home, name)
    functions = members(found) if inspect.isclass(found) else {name: found} if inspect.isfunction(found) else {}
    silent = [key for key, one in functions.items() if raises(one) and "Raises:" not in (inspect.getdoc(one) or "")]
    assert silent == []


@pytest.mark.parametrize("home", PACKAGES)
def test_a_package_stands_in_the_reference(home):
    assert f"automodule:: lowdim.{home}\n   :members:" in REFERENCE


@pytest.mark.parametrize(("home", "name"), [pair for pair in NAMES if pair[0] not in PACKAGES])
def test_a_name_of_a_module_stands_in_the_reference(home, name):
    section = REFERENCE.split(f"currentmodule:: lowdim.{home}\n")[1].split("```")[0]
    assert re.search(rf"auto(class|function):: {name}\n", section)
