"""What the documentation says of commands and names exists."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from lowdim.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]


def commands_of(page):
    """Command lines of a page: lines of code blocks, and what stands in backticks."""
    text = page.read_text()
    indented = re.findall(r"^ {4,}(?:\$ )?(lowdim [^\n#]*)", text, re.MULTILINE)
    fenced = [
        line
        for block in re.findall(r"```shell\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("lowdim ")
    ]
    return indented + fenced + re.findall(r"`(lowdim [^`\n]+)`", text)


def test_every_command_has_a_page():
    assert {page.stem for page in (DOCS / "commands").glob("*.md")} == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_command_lines_name_commands_and_options_that_exist(page):
    for line in commands_of(page):
        words = shlex.split(line.replace("…", ""), comments=True)[1:]
        if words[0].startswith("-") or words[0] == "COMMAND":
            continue
        assert words[0] in COMMANDS, line
        known = {option for parameter in COMMANDS[words[0]].params for option in parameter.opts}
        for word in words[1:]:
            assert not word.startswith("--") or word in known, line


def test_pages_show_commands():
    assert sum(len(commands_of(page)) for page in PAGES) > 50


def test_pictures_exist_and_are_small():
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / target).stat().st_size < 300_000
