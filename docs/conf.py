"""Sphinx settings of the documentation; ``make docs`` builds it."""

import re
from importlib.metadata import version as version_of
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

project = "lowdim"
author = "The lowdim developers"
release = version_of("lowdim")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
# Formulas as MathML, which browsers draw themselves: no script, and no network.
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "examples"]

html_theme = "furo"
html_title = f"lowdim {release}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
# Nothing is loaded from elsewhere, and a sentence of the page stands in the results of a search.
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
html_show_sourcelink = False
html_show_copyright = False
copybutton_prompt_text = "$ "
# Tutorials run when the documentation is built, so that what they show is what comes.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_in_temp = True
nb_merge_streams = True

# Docstrings put code in single backticks; names that the reference holds become links.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)", re.DOTALL)


def _markdown_to_roles(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write formulas as Markdown does; reStructuredText has roles and directives."""
    text = _MATH.sub(_formula, "\n".join(lines))
    # The axis "*batch" of a shape is no emphasis.
    lines[:] = [line.replace("*", r"\*") if line.startswith(":vartype") else line for line in text.split("\n")]


def _formula(found: re.Match[str]) -> str:
    block, inline = found.groups()
    return f":math:`{inline}`" if inline else f"\n\n.. math:: {' '.join(block.split())}\n\n"


def _inline_formula(page: Any, node: Any) -> None:
    page.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block_formula(page: Any, node: Any) -> None:
    page.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("autodoc-process-docstring", _markdown_to_roles)
