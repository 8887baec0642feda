"""The page in a real browser: offline, accessible, complete, and names stay text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowdim._files import RunFolder
from lowdim._verdicts import Verdict
from lowdim.figures import Images, Lines, Matrix, Panels, Series, Surface, Table
from lowdim.report import Page, Section, write_report
from lowdim.report._page import to_html

pytestmark = pytest.mark.browser
HOSTILE = "</script><script>document.title='taken'</script>\n<b>$x$</b>"


def _page() -> Page:
    x = np.arange(1, 6)
    lines = Lines(
        "lines", "Loss", "iteration", "loss", [Series(HOSTILE, x, 1.0 / x), Series("b", x, 2.0 / x, style="points")]
    )
    surfaces = [
        Surface(f"s{i}", f"Layer {i}", x, np.arange(4), np.outer(np.arange(4) + 1, x), "index", "time", "value")
        for i in range(3)
    ]
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    first = Section(
        id="first",
        title="First",
        why=["What is shown, and why."],
        figures=[lines, Images("pictures", "Pictures", [(HOSTILE, picture)])],
        tables=[Table("rows", "Rows", ["name", "value"], [[HOSTILE, 1.5], ["b", None]])],
        verdicts=[
            Verdict.of("below", 1, "<", 2),
            Verdict.of("above", 1, ">", 2),
            Verdict.of("open", 1, ">", 2, judged=False),
        ],
        settings={"seed": 0, "names": [HOSTILE]},
        command="lowdim reproduce first",
        source="A source.",
        notes=[HOSTILE],
        seconds=1.0,
        group="Section 1",
    )
    second = Section(
        id="second", title="Second", figures=[Panels("surfaces", "Surfaces", surfaces)], failure="It failed."
    )
    return Page("A page", "Its lead.", [first, second], overview=True, next_steps=[("Your data:", "lowdim measure")])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    with RunFolder(folder, "test", {}) as run:
        write_report(run, _page())
    return folder / "report.html"


@pytest.fixture(scope="module", params=["light", "dark"])
def opened(window: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Any, list[str]]]:
    """The page and what went wrong on it; one for all tests, in their order, because drawing its figures takes seconds."""
    problems: list[str] = []
    heard = {
        "console": lambda message: problems.append(message.text) if message.type == "error" else None,
        "pageerror": lambda error: problems.append(str(error)),
        "request": lambda sent: None if sent.url.startswith(("file:", "data:", "blob:")) else problems.append(sent.url),
    }
    for event, listener in heard.items():
        window.on(event, listener)
    window.set_viewport_size({"width": 1200, "height": 900})
    window.emulate_media(color_scheme=request.param, media="screen")
    window.goto(report.as_uri())
    yield window, problems
    for event, listener in heard.items():
        window.remove_listener(event, listener)


def _scroll_through(page: Any) -> None:
    for place in page.locator(".interactive").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg, canvas").first.wait_for(state="attached")


def test_nothing_leaves_and_nothing_fails(opened: tuple[Any, list[str]]) -> None:
    page, problems = opened
    _scroll_through(page)
    assert problems == []
    assert page.title() == "A page"


def test_figures_hold_their_data(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    _scroll_through(page)
    drawn = page.evaluate(
        "[...document.querySelectorAll('.interactive')].map(e => JSON.parse(e.nextElementSibling.textContent).data.map(t => t.y.length))"
    )
    assert drawn == [[5, 5], [4], [4], [4]]
    page.locator(".interactive").first.scroll_into_view_if_needed()
    assert page.locator(".interactive").first.locator(".scatterlayer path.js-line").count() == 1
    assert page.locator("img").evaluate_all(
        "all => all.every(i => i.naturalWidth > (i.closest('.pictures') ? 0 : 50) || !i.offsetParent)"
    )


def test_hostile_names_stay_text(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    assert page.locator("b").count() == 0
    assert "<b>$x$</b>" in "".join(page.locator("table").all_inner_texts())
    assert "<b>$x$</b>" in page.locator(".legendtext").first.text_content()


def test_keyboard_reaches_everything(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    wanted = page.evaluate("document.querySelectorAll('a[href], summary, [tabindex=\"0\"]').length")
    reached: set[str] = set()
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(e => e.outerHTML.slice(0, 200) + (e.closest('[id]') || e).id)(document.activeElement)")
        )
    assert len(reached) >= wanted
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open] img").first.is_visible()


def test_no_accessibility_violation(opened: tuple[Any, list[str]]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, _ = opened
    _scroll_through(page)
    found = Axe().run(page)
    assert [
        (item["id"], [node["html"][:160] for node in item["nodes"][:3]]) for item in found.response["violations"]
    ] == []


def test_prints_stills_instead_of_interactive_figures(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator(".interactive").first.is_visible()
    assert page.locator(".still img").first.is_visible()


def test_on_a_telephone_wide_tables_say_so_and_every_class_has_its_tick(window: Any, tmp_path: Path) -> None:
    names = ["BUBBLY", "Polka Dots (old)", "Ärmelstoff mit sehr langem Namen", "braided"]
    matrix = Matrix("confusion", "Which", names, names, np.eye(4, dtype=int), "class given", "class of the label")
    wide = Table("wide", "Wide", ["model", *(f"column number {index}" for index in range(9))], [["net", *range(9)]])
    narrow = Table("narrow", "Narrow", ["model", "x"], [["net", 1]])
    (tmp_path / "page.html").write_text(
        to_html(Page("A page", "Its lead.", [Section("one", "One", figures=[matrix], tables=[wide, narrow])]))
    )
    page = window
    page.set_viewport_size({"width": 390, "height": 900})
    page.emulate_media(media="screen")
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".xtick text").first.wait_for(state="attached")
    assert page.locator(".scroll.more caption").all_text_contents() == ["Wide"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for axis in (".xtick text", ".ytick text"):
        shown = page.locator(axis).all_text_contents()
        assert [text.rstrip("…") for text in shown] == [
            name[: len(text.rstrip("…"))] for name, text in zip(names, shown, strict=True)
        ]
