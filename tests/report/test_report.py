import csv
import io
import json
import re
import warnings
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from lowdim._files import RunFolder
from lowdim._verdicts import Verdict
from lowdim.figures import Images, Lines, Panels, Series, Surface, Table
from lowdim.report import Page, Section, to_svg, write_report
from lowdim.report._interactive import to_plotly
from lowdim.report._page import to_html
from lowdim.report._svg import legend_names
from lowdim.report._tables import to_csv
from lowdim.report._terminal import to_terminal
from lowdim.report.answers import headline

HOSTILE = [
    "</script><script>alert(1)</script>",
    "$x$ and $\\frac{1",
    "two\nlines",
    '<b>bold</b> & "quotes" \' `',
    'a,b;"c"',
]
HOSTILE += ["\x00\x08\x1b[31mred", "𝔘nicode ü 漢字", "{{ 7 * 7 }}", "=HYPERLINK(1)", "\ud800"]


def lines(name="one", labels=None, title="title"):
    series = [
        Series(f"{title} {i}", np.arange(4), np.array([3.0, 1.0, np.nan, 0.1]) * i, style=style, labels=labels)
        for i, style in enumerate(("line", "points", "dashed", "line+points", "dotted"), start=1)
    ]
    band = Series("band", [0, 1], [1.0, 2.0], low=[0.5, 1.5], high=[1.5, np.inf])
    return Lines(
        name, title, f"x {title}", f"y {title}", [*series, band], log_y=True, x_ticks=[f"t{i}" for i in range(4)]
    )


def surface(title="surface"):
    return Surface(
        "s",
        title,
        [0.0, 1.0, 2.0],
        [0.0, 1.0],
        np.array([[1.0, 2.0, 0.0], [4.0, 5.0, np.nan]]),
        title,
        "y",
        "z",
        log_z=True,
    )


def figures(title="title"):
    image = np.arange(48, dtype=np.uint8)
    return [
        lines("a", labels=[title] * 4, title=title),
        surface(title),
        Panels("p", title, [lines(title=title), lines("b")], columns=2),
        Panels("q", title, [surface(), surface()]),
        Images("i", title, [(title, image.reshape(4, 4, 3)), ("grey", image[:16].reshape(4, 4))], title),
    ]


@pytest.mark.parametrize("index", range(5))
def test_the_same_data_gives_the_same_bytes(index):
    svg = to_svg(figures()[index])
    assert svg == to_svg(figures()[index])
    ElementTree.fromstring(svg)
    assert not re.search(r"20\d\d-\d\d-\d\dT", svg), "no date"


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_can_be_drawn_and_stays_text(name):
    for figure in (figures(name)[0], surface(name), figures(name)[-1]):
        svg = to_svg(figure)
        root = ElementTree.fromstring(svg.encode())
        assert not [node for node in root.iter() if node.tag.endswith(("script", "foreignObject"))]
    written = "".join(
        "".join(node.itertext()) for node in ElementTree.fromstring(to_svg(lines(title=name)).encode()).iter()
    )
    if name.isprintable():
        assert name in written


def test_what_does_not_fit_a_log_axis_is_no_error():
    zeros = Lines("z", "zeros", "x", "y", [Series("a", [0, 1], [0.0, 0.0]), Series("b", [], [])], log_y=True)
    ElementTree.fromstring(to_svg(zeros))
    json.dumps(to_plotly(zeros), allow_nan=False)
    assert to_csv(zeros).splitlines()[1:] == ["zeros,a,0,0.0,,,", "zeros,a,1,0.0,,,"]


EXTREMES = ([0.2, np.nextafter(0.2, 1)], [1e308, -1e308], [5e-324, 1e-320], [1e-300, 1e300], [np.nan, np.inf], [-1, -2])


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("log", [False, True])
def test_any_numbers_can_be_drawn(values, log):
    for x, y in ((values, [1.0, 2.0]), ([1.0, 2.0], values)):
        one = Series("a", x, y, low=y, high=y, style="points")
        ElementTree.fromstring(to_svg(Lines("z", "z", "x", "y", [one], log_x=log, log_y=log)))


def test_csv_holds_the_numbers_exactly():
    figure = Lines(
        "n",
        "t",
        "x",
        "y",
        [Series("s", [1.0, 2.0], [1 / 3, 1e-300], low=[0.1, 0.2], high=[1.0, 2.0], labels=["p", "q"])],
    )
    rows = list(csv.DictReader(io.StringIO(to_csv(figure))))
    assert [float(row["y"]) for row in rows] == [1 / 3, 1e-300]
    assert [(row["series"], row["low"], row["high"], row["label"]) for row in rows] == [
        ("s", "0.1", "1.0", "p"),
        ("s", "0.2", "2.0", "q"),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(surface()))))
    assert [(row["x"], row["y"], row["z"]) for row in rows][:4] == [
        ("0.0", "0.0", "1.0"),
        ("1.0", "0.0", "2.0"),
        ("2.0", "0.0", "0.0"),
        ("0.0", "1.0", "4.0"),
    ]
    assert len(list(csv.reader(io.StringIO(to_csv(figures()[2]))))) == 1 + 2 * (5 * 4 + 2)


@pytest.mark.parametrize("name", [name for name in HOSTILE if "\x00" not in name])
def test_csv_keeps_hostile_names(name):
    table = Table("t", name, [name, "n"], [[name, 1], ["x", None]])
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    told = f"'{name}" if name.startswith("=") else name  # a spreadsheet would run it
    assert rows == [[told, "n"], [told, "1"], ["x", ""]]


class Reader(HTMLParser):
    """What a browser would see: scripts, other elements, and text."""

    def __init__(self):
        super().__init__()
        self.scripts, self.tags, self.text, self.inside = [], [], [], None
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)


def page(name):
    verdict = Verdict.of(name, 1.0, "<=", 2.0)
    section = Section(
        id="layers", title=name, why=[name], figures=[lines("a", [name] * 4, name), figures(name)[-1]], tables=[Table("t", name, [name], [[name], [1.5]], name)],
        verdicts=[verdict], settings={name: [name], "seed": 0}, command=name, source=name, notes=[name], seconds=1.0, group=name,
    )  # fmt: skip
    broken = Section(id="broken", title="other", failure=name)
    return Page(name, name, [section, broken], overview=True, next_steps=[(name, name)])


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory):
    reader = Reader()
    with RunFolder(tmp_path_factory.mktemp("plain"), "measure", {}) as run:
        write_report(run, page("name"))
    reader.feed((run.path / "report.html").read_text(encoding="utf-8"))
    return reader


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_can_break_the_page(name, tmp_path, plain_page):
    with RunFolder(tmp_path / "run", "measure", {}) as run:
        written = write_report(run, page(name))
    html = (run.path / "report.html").read_text(encoding="utf-8")
    hostile = Reader()
    hostile.feed(html)
    # Each word of a command has an element of its own, and each folder in it a place where a line may end.
    tags, plain = ([tag for tag in one.tags if tag not in ("span", "wbr")] for one in (hostile, plain_page))
    assert tags == plain, "the same elements whatever the name"
    assert [key for key, _ in hostile.attributes] == [key for key, _ in plain_page.attributes]
    for script in hostile.scripts:
        if script.startswith("{"):
            json.loads(script)
    assert "49" not in "".join(hostile.text) or "49" in "".join(plain_page.text)
    for file in written:
        assert (run.path / file).is_file()
    assert sorted(written) == sorted(path.relative_to(run.path).as_posix() for path in (run.path / "figures").iterdir())


def test_the_page_is_complete_offline(tmp_path):
    with RunFolder(tmp_path, "measure", {}) as run:
        write_report(run, page("plain name"))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    for key, value in reader.attributes:
        if key in ("src", "href") and value:
            assert value.startswith(("data:", "#")), value
    assert "plain name" in "".join(reader.text)
    assert "default-src 'none'" in html


def test_labels_of_logarithmic_axes_are_numbers():
    lines = Lines("l", "t", "x", "y", [Series("s", [1, 10, 100], [1e-4, 1e-2, 1.0])], log_x=True, log_y=True)
    svg = to_svg(lines)
    assert "mathdefault" not in svg
    assert ">0.01<" in svg


def test_a_name_in_a_table_for_spreadsheets_is_no_formula():
    table = Table("t", "t", ("=head", "n"), (("=1+1", -1.5), ("@cmd", "-2"), ("+a", None), ("cat", "=")))
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows == [["'=head", "n"], ["'=1+1", "-1.5"], ["'@cmd", "-2"], ["'+a", ""], ["cat", "'="]]


def test_many_curves_of_one_colour_are_one_entry_of_the_legend():
    many = [Series(f"sigma_{n}", [0, 1], [1.0, float(n)], colour=0) for n in range(1, 31)]
    panels = Panels(
        "p", "P", [Lines("f", "F", "x", "y", [*many, Series("3 silent", [0, 1], [1.0, 1.0], style="points")])] * 8
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # thirty names leave no room for the axes
        svg = to_svg(panels)
    assert "sigma_1 … sigma_30" in svg and "sigma_2" not in svg and "3 silent" in svg
    drawn = to_plotly(panels.panels[0])[0]["data"]
    assert [trace.get("showlegend", True) for trace in drawn] == [True, *[False] * 29, True]
    assert legend_names(many[:4]) == [one.name for one in many[:4]]


def test_settings_of_matplotlib_that_lie_around_change_nothing():
    figure = figures()[0]
    plain = to_svg(figure)
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert to_svg(figure) == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_experiments_begin_with_what_was_shown():
    def entry(title, *holds):
        verdicts = [{"judged": True, "holds": one} for one in holds]
        return {"id": title.lower(), "title": title, "status": "done", "passed": all(holds), "verdicts": verdicts}

    few = [entry("Modes grow", True, True), entry("Blocks stay", True)]
    assert headline("reproduce", {"experiments": few}) == "“Modes grow” and “Blocks stay”: shown, 3 of 3 verdicts hold."
    many = [*few, entry("D falls", True, False), entry("Rank is low", True)]
    assert headline("reproduce", {"experiments": many}) == (
        "3 of 4 experiments show what is claimed: 5 of 6 verdicts hold; not as it should be: d falls."
    )


def test_an_experiment_of_which_nothing_could_be_judged_shows_nothing():
    def entry(id, judged):
        verdicts = [{"judged": judged, "holds": True}]
        return {"id": id, "title": id, "status": "done", "passed": True, "verdicts": verdicts, "notes": []}

    entries = [entry("a", True), entry("b", True), entry("c", True), entry("d", False)]
    said = headline("reproduce", {"experiments": entries})
    assert said == "3 of 4 experiments show what is claimed: 3 of 3 verdicts hold; nothing could be judged in d."


def test_experiments_without_a_judged_verdict_say_what_is_missing():
    verdict = Verdict.of("a", 0.5, ">=", 0.9, judged=False).as_dict()
    entry = {
        "id": "a",
        "title": "A",
        "passed": True,
        "status": "done",
        "verdicts": [verdict],
        "notes": ["Set data=FOLDER."],
    }
    assert headline("reproduce", {"experiments": [entry]}) == "A: nothing could be judged: Set data=FOLDER."


def test_an_experiment_folds_what_lies_below_its_verdicts(tmp_path):
    figures = [Lines(f"f{n}", f"Figure {n}", "x", "y", [Series("s", [0, 1], [1.0, 2.0])]) for n in range(4)]
    section = Section("s", "S", figures=figures, verdicts=[Verdict.of("v", 1, ">", 0)])
    with RunFolder(tmp_path, "test", {}, fresh=False) as folder:
        write_report(folder, Page("T", "L", [section]))
    page = (tmp_path / "report.html").read_text()
    assert "<summary>2 more figures: Figure 2; Figure 3</summary>" in page


def test_powers_of_ten_have_room_on_a_narrow_axis():
    drawn = to_plotly(Lines("n", "t", "x", "y", [Series("s", [0, 1], [1e-16, 1.0])], log_y=True))
    assert drawn[0]["layout"]["yaxis"]["dtick"] == 3


def test_terms_of_a_page_come_before_those_of_all():
    from lowdim.report._terms import Terms

    assert Terms().new(["by chance"], {"chance": "of this page"}) == [("chance", "of this page")]


def checked(**more):
    check = {
        "name": "spectrum",
        "holds": False,
        "residual": 0.5,
        "tolerance": 1e-10,
        "reason": "what was compared. It broke.",
    }
    shares = {
        "steps": [str(n) for n in range(11)],
        "share": [[None]] + 10 * [[1 - 4.6e-8]],
        "chance": [0.25],
        "rank": 3,
        "block": "law",
    }
    config = {"theorem": "parsimony"}
    return {
        "config": config,
        "checks": [check],
        "read": [],
        "seconds": 1.0,
        "causes": ["It broke."],
        "shares": shares,
        **more,
    }


def test_the_answer_of_a_check_names_law_reason_and_number():
    assert headline("check", checked()) == (
        "The law of parsimony does not hold on these weights: It broke. Not held: spectrum (0.5, 1e-10 allowed). Of the squared change until "
        "step 10 the law with r = 3 allows at least 1 - 4.6e-08 of every factor (factor 1; by chance 0.25)."
    )
    exact = {**checked()["shares"], "share": [[1.0]], "steps": ["9"]}
    held = checked(checks=[{**checked()["checks"][0], "holds": True}], shares=exact)
    assert headline("check", held) == (
        "The law of parsimony holds on these weights: spectrum. The law with r = 3 allows all of the change until step 9."
    )


def test_a_check_shows_equally_distant_times_and_each_reason_once():
    from lowdim.report.check import check_sections

    statements, shares, compared = check_sections(checked())[0].tables
    assert statements.rows == [["spectrum", "does not hold", 0.5, 1e-10]]
    assert list(shares.columns) == ["factor", "by chance", *(f"step {n}" for n in (2, 4, 6, 8, 10))]
    assert shares.rows[0][2:] == ["1-4.6e-08"] * 5
    assert compared.rows == [["spectrum", "what was compared."]]
    assert all(series.style == "points" for series in check_sections(checked())[0].figures[0].series)


@pytest.mark.filterwarnings("error")
def test_memory_that_matplotlib_has_not_written_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It pads the polygons of a surface, of four corners and more, with what happens to lie there."""
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda shape, *given, **named: _huge(empty(shape, *given, **named)))
    x, y = np.arange(30.0), np.arange(50.0)  # more than are drawn, so that polygons have corners between
    assert "<svg" in to_svg(Surface("s", "", x, y, 1e-9 * np.outer(y, x), "x", "y", "z"))


def _huge(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        array.fill(-1.7e308)
    return array


def test_a_page_holds_no_control_character():
    hostile = Section("x", "cat\x1b]0;owned\x07.png", notes=["left out: a\x00b"], settings={"data": "\x9b2J"})
    made = to_html(Page("What is in a\x1b[31m", "Nothing.", [hostile]))
    assert "cat\ufffd]0;owned\ufffd.png" in made
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", made)


def test_a_terminal_shows_the_first_rows_of_a_long_table() -> None:
    table = Table("t", "title", ("name", "value"), [(f"c{row}", row) for row in range(30)], most=20)
    text = to_terminal(table, 80)
    assert "c19" in text
    assert "c20" not in text
    assert "and 10 more (in the page)" in text
