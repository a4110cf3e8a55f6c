import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cluster.report import page as pages
from cluster.report.charts import Axes, Line, Point, averaged, line_chart, stacked_chart
from cluster.report.page import Card, Chart, Page, Section, Table, html_of, write_page

HOSTILE = "</script><img src=x onerror=alert(1)><b>&amp;{{7*7}}"
VOID = {"meta", "input", "img", "link"}


class Balance(HTMLParser):
    """Checks that every tag is closed, and gathers tags, attributes and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1:] not in (["script"], ["style"]):
            self.texts.append(" ".join(data.split()))


def chart(name: str = "loss") -> Chart:
    lines = [Line(name=name, points=[Point(x=1, y=0.5), Point(x=2, y=0.25)])]
    return Chart(spec=line_chart(lines, Axes(y=name)), about=f"{name} falls.")


def page(text: str = "plain") -> Page:
    section = Section(
        title="First",
        sentence=text,
        charts=[chart(text)],
        tables=[Table(columns=["step", text], rows=[["1", text]])],
        cards=[Card(title=text, text=text, code=[text], pairs=[(text, text)])],
        note=text,
        text=text,
        text_title=text,
    )
    return Page(title=text, lead=[text], sections=[section], warnings=[text], warning_title=text)


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for the library, which takes seconds to make."""
    monkeypatch.setattr(pages, "library", lambda: "window.winnowEmbed = null;")


def told_in(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', text, re.S)
    assert found is not None
    return json.loads(found[1])


def test_a_page_holds_its_sections_with_sentence_chart_and_table() -> None:
    told = Balance(html_of(page()))
    assert told.open == []
    assert told.texts.count("plain") >= 10
    assert ("div", "id", "chart0") in told.attributes
    assert ("div", "aria-label", "plain falls.") in told.attributes


def test_hostile_text_is_shown_and_does_nothing() -> None:
    text = html_of(page(HOSTILE))
    told = Balance(text)
    assert told.open == []
    assert not {"img", "b"} & set(told.tags)
    assert told.tags.count("script") == 3
    assert HOSTILE in told.texts
    assert told_in(text)["charts"]["chart0"]["data"]["values"][0]["name"] == HOSTILE


def test_the_page_needs_nothing_else_and_runs_only_its_own_scripts() -> None:
    text = html_of(page())
    told = Balance(text)
    assert not {"link", "iframe", "img", "object", "embed"} & set(told.tags)
    assert not [value for _, name, value in told.attributes if name in ("src", "srcset", "data")]
    assert all(str(value).startswith("#") for _, name, value in told.attributes if name == "href")
    (policy,) = [value for _, name, value in told.attributes if name == "content" and "default-src" in str(value)]
    assert "default-src 'none'" in str(policy)
    assert len(re.findall(r"'sha256-[\w+/]{43}='", str(policy))) == 2
    assert "unsafe-eval" not in str(policy)
    assert "'unsafe-inline'" not in str(policy).split("script-src")[1]


def test_the_same_content_gives_the_same_bytes_and_a_failure_leaves_the_old_page(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(page(), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    broken = Page(
        title="x",
        lead=[],
        sections=[Section(title="x", sentence="", charts=[Chart(spec={"y": float("nan")}, about="")])],
    )
    with pytest.raises(ValueError, match="JSON"):
        write_page(broken, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_page_without_charts_has_no_script() -> None:
    text = html_of(Page(title="x", lead=[], sections=[Section(title="x", sentence="nothing yet")]))
    assert "<script" not in text
    assert "script-src 'none'" in text


def test_many_points_are_averaged() -> None:
    points, size = averaged([Point(x=x, y=float(x)) for x in range(1, 1001)], most=250)
    assert (len(points), size) == (250, 4)
    assert (points[0], points[-1].x) == (Point(x=4, y=2.5), 1000)
    assert averaged([Point(x=1, y=1.0)]) == ([Point(x=1, y=1.0)], 1)


def test_of_a_stack_the_tallest_part_of_each_bar_is_known() -> None:
    lines = [
        Line(name="train", points=[Point(x=1, y=5), Point(x=2, y=1)]),
        Line(name="sync", points=[Point(x=1, y=1), Point(x=2, y=3)]),
    ]
    spec = stacked_chart(lines, Axes(), {"train": "@c0"}, bars=True)
    assert {(value["x"], value["name"]) for value in spec["data"]["values"] if value["most"]} == {
        (1, "train"),
        (2, "sync"),
    }
