"""Results in a notebook: a short text, the answer with its figure as HTML, a picture, a frame."""

import re

import pytest

CELLS = {
    "measure": 'import lowdim\nr = lowdim.measure("digits", "digits", limit=100)\nr',
    "plot": "r.plot()",
    "frame": "r.to_frame()",
    "complete": "import numpy as np, pandas as pd\n"
    "rows = np.random.default_rng(0).standard_normal((40, 1)) @ np.ones((1, 4))\n"
    'table = pd.DataFrame(rows, columns=list("abcd"))\n'
    "table.iloc[::7, 1] = np.nan\n"
    'table.to_csv("table.csv", index=False)\n'
    'c = lowdim.complete("table.csv")\nc',
    "completed plot": "c.plot()",
    "completed frame": "c.to_frame()",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What each cell shows last, by kind of content."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.values()])
    resources = {"metadata": {"path": tmp_path_factory.mktemp("book")}}
    nbclient.NotebookClient(book, timeout=120, resources=resources).execute()
    outputs = zip(CELLS, book.cells, strict=True)
    return {
        name: next(one["data"] for one in cell.outputs if one.output_type == "execute_result") for name, cell in outputs
    }


@pytest.mark.parametrize("name", ["measure", "complete"])
def test_a_result_is_a_few_lines_and_a_figure(shown, name):
    text, page = shown[name]["text/plain"], shown[name]["text/html"]
    assert len(text.splitlines()) <= 10 and max(map(len, text.splitlines())) < 400
    assert "<svg" in page and len(page) < 300_000
    assert re.sub(r"\s+", " ", text)[:30] in re.sub(r"\s+", " ", page), "the answer stands in both"


@pytest.mark.parametrize("name", ["plot", "completed plot"])
def test_a_plot_is_a_picture(shown, name):
    assert "image/png" in shown[name]


@pytest.mark.parametrize(("name", "column"), [("frame", "NCC accuracy"), ("completed frame", "filled")])
def test_a_frame_is_a_table(shown, name, column):
    assert f"<th>{column}</th>" in shown[name]["text/html"]
