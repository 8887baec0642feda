"""The library speaks Python: options of the command line stand in no string below it."""

import ast
import re
from pathlib import Path

import lowdim

SOURCE = Path(lowdim.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_no_option_is_named_below_the_command_line() -> None:
    found: list[str] = []
    for file in SOURCE.rglob("*.py"):
        if "cli" in file.relative_to(SOURCE).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPTION.search(node.value):
                found.append(f"{file.relative_to(SOURCE)}:{node.lineno}: {OPTION.findall(node.value)}")
    assert not found
