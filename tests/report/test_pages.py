"""The page of every command in a real browser: fits any width, shows its figure first, is accessible, and its commands run."""

import contextlib
import io
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lowdim.cli import main
from lowdim.finetuning import Recipe
from lowdim.finetuning._bench import Bench

pytestmark = pytest.mark.browser
LINES = {
    "measure": "lowdim measure --model digits-split --data digits-noisy --limit 40 --outliers 3 --out measure",
    "rank": "lowdim rank --model digits-split --model digits-0-4 --data digits-noisy --limit 40 --out rank",
    "advise": "lowdim advise --data digits-noisy --model digits-split --limit 40 --shots 2 --out advise",
    "finetune": "lowdim finetune --model digits-split --data digits-noisy --limit 40 --out finetune",
    "predict": "lowdim predict --delta finetune/delta --data digits-noisy --limit 40 --page predict/report.html",
    "export": "lowdim export --delta finetune/delta --to torch --page export/report.html",
    "complete": "lowdim complete 'a table.csv' --out complete",
    "check": "lowdim check weights --theorem parsimony --page check/report.html",
    "reproduce": "lowdim reproduce separation-scale --set per_class=20 --out reproduce",
}


recipe = Bench.recipe


def few_epochs(found: Recipe | None) -> Recipe | None:
    """What the pages show does not need a good network."""
    return found and replace(found, epochs=3)


FOLLOWED = """[...document.querySelectorAll('.interactive .svg-container')].every(
    drawn => drawn.offsetWidth <= drawn.closest('.interactive').offsetWidth)"""


def run(line: str) -> str:
    """A command line as pasted: by the shell's rules, in this process where it is lowdim's."""
    words = shlex.split(line)
    if words[0] != "lowdim":
        words[0] = sys.executable if words[0] == "python" else words[0]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as stopped,
    ):
        patch.setattr(sys, "argv", words)
        patch.setattr(Bench, "recipe", lambda *arguments: few_epochs(recipe(*arguments)))
        main()
    assert not stopped.value.code, f"{line}\n{err.getvalue()}"
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the page of every command, each made by its line."""
    from lowdim.cli.demo import TOUR
    from lowdim.experiments import load
    from lowdim.experiments._runner import Finished
    from lowdim.report._page import to_html
    from lowdim.report.demo import as_tour
    from lowdim.report.reproduce import experiments_page

    where = tmp_path_factory.mktemp("pages")
    with contextlib.chdir(where):
        random = np.random.default_rng(0)
        table = random.standard_normal((40, 1)) @ random.standard_normal((1, 4)) + random.standard_normal((40, 4)) / 9
        rows = [",".join("" if random.random() < 0.1 else f"{cell:.3f}" for cell in row) for row in table]
        Path("a table.csv").write_text("\n".join(["a,b,c,a column of a very long name indeed", *rows]) + "\n")
        Path("weights").mkdir()
        weights = [np.linalg.svd(random.standard_normal((8, 8)))[0] for _ in range(3)]
        target = np.outer(random.standard_normal(8), random.standard_normal(8))
        for step in range(3):
            save_file({str(i): w for i, w in enumerate(weights, 1)}, f"weights/{step}.safetensors")
            a, b, c = weights
            error = c @ b @ a - target
            slopes = [b.T @ c.T @ error, c.T @ error @ a.T, error @ a.T @ b.T]
            weights = [w - 1e-2 * slope for w, slope in zip(weights, slopes, strict=True)]
        for name, line in LINES.items():
            Path(name).mkdir(exist_ok=True)
            run(line)
        small = {
            "few-labels": {"draws": 1},
            "damaged-picture": {"height": 40, "width": 60},
            "parsimony-svd": {"depth": 2, "iterations": 40},
        }
        experiments = [load(id) for id in small]
        settings = {one.id: one.settings(**small[one.id]) for one in experiments}
        outcomes = {one.id: one.run(settings[one.id], lambda done, total: None) for one in experiments}
        finished = {id: Finished(id=id, status="done", outcome=found, seconds=1.0) for id, found in outcomes.items()}
        page = as_tour(experiments_page(experiments, finished, settings, {}), experiments, finished, TOUR)
        Path("demo").mkdir()
        Path("demo/report.html").write_text(to_html(page))
        yield where


@pytest.fixture(scope="module", params=[*LINES, "demo"])
def page(window: Any, folder: Path, request: pytest.FixtureRequest) -> Any:
    window.set_viewport_size({"width": 1400, "height": 900})
    window.goto((folder / request.param / "report.html").as_uri())
    window.name = request.param
    return window


def test_the_page_fits_shows_its_figure_first_and_is_accessible(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    place = "document.querySelector('figure, .cards .still, .cards .pictures').getBoundingClientRect().top"
    for width, scheme in ((1400, "light"), (768, "light"), (390, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("scrollTo(0, 0); document.querySelectorAll('details').forEach(one => one.open = false)")
        assert page.evaluate(place) < 900, f"the first figure at {width}"
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        for drawing in page.locator(".interactive").all():
            drawing.scroll_into_view_if_needed()
            drawing.locator(".main-svg, canvas").first.wait_for(state="attached")
        for _ in range(50):  # drawings follow the width of the window
            if page.evaluate(FOLLOWED):
                break
            page.wait_for_timeout(100)
        assert page.evaluate(FOLLOWED), f"a drawing kept its width at {width}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"overflow at {width}"
        if width != 768:
            found = Axe().run(page).response["violations"]
            assert [(one["id"], [node["html"][:160] for node in one["nodes"][:3]]) for one in found] == []


def test_the_printed_commands_run_as_pasted(page: Any, folder: Path) -> None:
    printed = page.locator(".command code").all_text_contents()
    made = page.locator("footer .command code").all_text_contents()
    if page.name == "demo":  # its commands are for the reader's own photos
        assert page.locator(".cards .command code").count() == 3
        return
    assert made == [LINES[page.name]]
    for line in dict.fromkeys(printed):
        if line not in made:  # which was run to make the page
            run(line)
