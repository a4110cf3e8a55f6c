"""The report in a browser: every chart is drawn, a person can use it, nothing is asked of the network, and hostile text
runs nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.comparing.page import write_comparison
from cluster.report.run_report import write_report
from tests.browsers import PHONE, chromium, needs_chromium, new_page
from tests.cluster.comparing.test_comparison import two_methods
from tests.run_folders import graded_group, run_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "</script><img src=x onerror=\"document.title='HACKED'\"><svg onload=\"document.title='HACKED'\">"
pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of one run with hostile texts, of two runs, and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    groups = {
        step: [graded_group(step, HOSTILE, ["correct"] * step + ["wrong"] * 4, prompt=HOSTILE, response=HOSTILE)]
        for step in (1, 2)
    }
    one = run_folder(folder / "made", 2, groups=groups, changes={2: {"dropped": {HOSTILE: 1}}})
    write_report([one], folder / "one.html")
    write_report([one, run_folder(folder / "other", 12)], folder / "two.html")
    (folder / "compared").mkdir()
    write_comparison(two_methods(folder / "compared"), folder / "compared")
    return folder


def show(page: "Page", file: Path) -> None:
    """Opens a file and waits until its charts are drawn."""
    page.goto(file.as_uri())
    page.locator("html[data-drawn=yes]").wait_for()


@pytest.mark.parametrize(
    ("name", "title", "charts"),
    [
        ("one.html", "Run made", 12),
        ("two.html", "2 runs: made and other", 12),
        ("compared/report.html", "A small one", 5),
    ],
)
def test_every_chart_is_drawn_and_hostile_text_does_nothing(
    browser: "Browser", folder: Path, name: str, title: str, charts: int
) -> None:
    asked: list[str] = []
    with new_page(browser) as page:
        page.on("request", lambda request: asked.append(request.url))
        show(page, folder / name)
        assert page.title() == title
        assert page.locator(".chart").count() >= charts
        assert page.locator(".chart svg.marks").count() == page.locator(".chart").count()
        assert page.get_by_text("cannot be drawn").count() == 0
        assert page.locator("main img, main script, [onload], [onerror]").count() == 0
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        if name == "one.html":
            page.locator("summary").evaluate_all("all => all.forEach(one => one.click())")
            assert HOSTILE in page.locator("main").inner_text()


def test_a_legend_chooses_a_line_pointing_tells_numbers_and_a_chart_can_be_saved(
    browser: "Browser", folder: Path, tmp_path: Path
) -> None:
    with new_page(browser) as page:
        show(page, folder / "two.html")
        section = page.locator("section").filter(has=page.get_by_role("heading", name="Training accuracy"))
        chart, lines = section.locator(".chart").first, section.locator(".chart .mark-line path")
        shown = "all => all.map(one => one.getAttribute('opacity'))"
        assert set(lines.evaluate_all(shown)) == {"1"}
        chart.locator(".role-legend-label", has_text="other").click()
        chart.locator('.mark-line path[opacity="0.12"]').first.wait_for(state="attached")
        assert set(lines.evaluate_all(shown)) == {"1", "0.12"}
        chart.locator(".mark-symbol.role-mark path").last.hover(force=True)
        assert "step" in page.locator("#vg-tooltip-element.visible").inner_text()
        chart.locator("summary").click()
        with page.expect_download() as saved:
            chart.get_by_text("Save as SVG").click()
        assert saved.value.suggested_filename == "2-runs-made-and-other-training-accuracy.svg"
        saved.value.save_as(tmp_path / "chart.svg")
        assert (tmp_path / "chart.svg").read_text().startswith("<svg")


def test_the_page_follows_theme_and_width(browser: "Browser", folder: Path) -> None:
    axis = "one => getComputedStyle(one).fill || one.getAttribute('fill')"
    with new_page(browser, color_scheme="light") as page:
        show(page, folder / "one.html")
        label = page.locator(".chart .role-axis-label text").first
        light = label.evaluate(axis)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            f"light => ({axis})(document.querySelector('.role-axis-label text')) !== light", arg=light
        )
    for name in ("one.html", "two.html", "compared/report.html"):
        with new_page(browser, viewport=PHONE) as page:
            show(page, folder / name)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
            wide = "all => all.filter(one => one.firstElementChild.getBoundingClientRect().width > 390).length"
            assert page.locator(".chart").evaluate_all(wide) == 0


def test_without_a_script_the_tables_hold_the_numbers(browser: "Browser", folder: Path) -> None:
    with new_page(browser, java_script_enabled=False) as page:
        page.goto((folder / "one.html").as_uri())
        page.get_by_text("Table of 2 steps").first.click()
        assert page.locator("details[open] td").count() > 0
