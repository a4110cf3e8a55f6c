import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cluster.comparing.comparison import Comparison, read_comparison, rows
from cluster.comparing.page import CHARTS, _spaced, verdict, write_page
from cluster.comparing.table import COLUMNS
from tests.cluster.comparing.test_comparison import BASE, add_run, method, plan, two_methods

NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
VOID = {"meta", "input"}


class Balance(HTMLParser):
    """Checks that every tag is closed, and gathers attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


def page(comparison: Comparison, folder: Path) -> str:
    write_page(comparison, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, str]:
    """Two methods of three seeds, and their page: a page takes half a second."""
    folder = tmp_path_factory.mktemp("comparison")
    comparison = two_methods(folder)
    return comparison, page(comparison, folder)


def test_the_page_holds_the_tables_numbers_and_every_chart(drawn: tuple[Comparison, str]) -> None:
    comparison, text = drawn
    told = Balance(text)
    for row in rows(comparison):
        for show in COLUMNS.values():
            assert show(row) in told.texts
    assert "+0.200 ± 0.430" in told.texts
    assert "+0.200 ± 0.430, cannot be told apart" in told.texts
    assert "-0.300 ± 0.000, worse" in told.texts
    assert "(0.500, 0.600, 0.700)" in told.texts
    for title, about in CHARTS.values():
        assert {title, about} <= set(told.texts)
    assert told.texts.count("tokens generated") == len(CHARTS)
    assert told.open == []


def test_the_page_needs_nothing_else(drawn: tuple[Comparison, str]) -> None:
    text = drawn[1]
    told = Balance(text)
    loaded = [value for _, name, value in told.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(str(value).startswith("#") for value in loaded)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _, _ in told.attributes}
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= set(NAMESPACES)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_parts_of_charts_that_refer_to_each_other_find_each_other(drawn: tuple[Comparison, str]) -> None:
    text = drawn[1]
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|xlink:href=")#([^")]*)', text)) <= set(ids)


def test_the_same_comparison_gives_the_same_page(drawn: tuple[Comparison, str], tmp_path: Path) -> None:
    comparison, text = drawn
    assert page(comparison, tmp_path) == text


def test_charts_follow_the_theme(drawn: tuple[Comparison, str]) -> None:
    text = drawn[1]
    charts = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--method1)" in charts
    assert not re.findall(r"#fd00..|#fe0.00", charts)
    assert 'class="method2 band"' in charts


def test_words_of_the_plan_are_shown_as_they_are_written(tmp_path: Path) -> None:
    name = "<b>raft</b> & $x_1$"
    plan(
        tmp_path, [method(name)], seeds=[0], notes={name: "<script>alert(1)</script>"}, title="<i>t</i>", machine="a&b"
    )
    add_run(tmp_path, name, 0, (0.2, 0.5))
    text = page(read_comparison(tmp_path), tmp_path)
    told = Balance(text)
    assert not {"script", "b", "i"} & set(re.findall(r"<(\w+)", text))
    assert {"<script>alert(1)</script>", "<i>t</i>"} <= set(told.texts)
    assert told.texts.count(name) >= 1 + len(CHARTS)  # in the charts as well


def test_failed_and_missing_runs_are_named(tmp_path: Path) -> None:
    failure = {"method": "grpo", "seed": 0, "why": "loss is infinite"}
    plan(tmp_path, [BASE, method("raft"), method("grpo")], seeds=[0, 1], failed=[failure])
    add_run(tmp_path, "raft", 0, (0.2, 0.5))
    text = page(read_comparison(tmp_path), tmp_path)
    assert "grpo, seed 0 failed: loss is infinite" in text
    assert "grpo, seed 1 is missing: no folder" in text
    assert "raft (1 of 2 seeds)" in text
    assert "No run of it has finished." in text


def test_one_seed_says_that_it_tells_little(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft"), method("grpo")], seeds=[3])
    for name in ("raft", "grpo"):
        add_run(tmp_path, name, 3, (0.2, 0.5))
    comparison = read_comparison(tmp_path)
    text = page(comparison, tmp_path)
    assert "One seed gives no interval" in text
    assert "Student" not in text
    assert 'band"' not in text
    assert verdict(rows(comparison)[1]) == "one seed: cannot tell"


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.55, 0.45]),
        ([0.5, 0.5, 0.5, 0.9], [0.4, 0.5, 0.6, 0.9]),
        ([0.0, 0.02], [0.0, 0.1]),
        ([1.0, 0.98], [1.0, 0.9]),
    ],
)
def test_names_move_apart_as_little_as_they_must(wanted: list[float], given: list[float]) -> None:
    places = _spaced(np.array(wanted), gap=0.1, low=0.0, high=1.0)
    assert sorted(places) == pytest.approx(sorted(given))
    assert np.all((np.subtract.outer(wanted, wanted) <= 0) | (np.subtract.outer(places, places) > 0))


def test_importing_the_page_is_light() -> None:
    code = "import sys, cluster.comparing.page; sys.exit(any(n in sys.modules for n in ('matplotlib', 'torch', 'ray')))"
    subprocess.run([sys.executable, "-c", code], check=True)
