"""What is handed to others beside the wheel says the same as the project's own settings."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "packaging").exists(), reason="needs the source tree")
CONDA_NAMES = {"matplotlib": "matplotlib-base"}


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_recipe_for_conda_needs_what_the_project_needs():
    recipe = (ROOT / "packaging" / "conda-forge" / "recipe.yaml").read_text()
    run = recipe.split("  run:\n")[1].split("  run_constraints:")[0]
    asked = dict(re.findall(r"^    - ([a-z][\w-]*) (>=[\d.]+)$", run, re.MULTILINE))
    needed = dict(re.fullmatch(r"([\w-]+)(>=[\d.]+)", one).groups() for one in settings()["dependencies"])
    assert asked == {CONDA_NAMES.get(name, name): bound for name, bound in needed.items()}
    assert f'version: "{settings()["version"]}"' in recipe
    least = re.search(r'python_min: "([\d.]+)"', recipe)[1]
    assert settings()["requires-python"] == f">={least}"


def test_a_citation_has_the_version_that_is_released():
    assert f"\nversion: {settings()['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{settings()['version']}}}" in (ROOT / "docs" / "citing.md").read_text()


def test_the_release_stores_no_password():
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "secrets." not in workflow and "password" not in workflow.split("jobs:")[1]
    assert "id-token: write" in workflow and "attest-build-provenance" in workflow
