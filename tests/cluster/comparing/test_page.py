import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cluster.comparing.comparison import Comparison, read_comparison, rows
from cluster.comparing.page import CHARTS, page_of, verdict, write_comparison
from cluster.comparing.table import COLUMNS
from cluster.report import page as pages
from cluster.report.page import Page, Section, html_of
from tests.cluster.comparing.test_comparison import BASE, add_run, method, plan, two_methods


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for the library, which takes seconds to make."""
    monkeypatch.setattr(pages, "library", lambda: "window.winnowEmbed = null;")


def section(page: Page, title: str) -> Section:
    return next(each for each in page.sections if each.title == title)


def values_in(section: Section) -> str:
    return json.dumps([chart.spec for chart in section.charts])


def compared(folder: Path, names: list[str], seeds: list[int]) -> Comparison:
    plan(folder, [BASE, *map(method, names)], seeds=seeds)
    for place, name in enumerate(names):
        for seed in seeds:
            add_run(folder, name, seed, (0.2, 0.4 + seed / 100, 0.5 + place / 10 + seed / 50))
    return read_comparison(folder)


def test_the_page_holds_the_tables_numbers_and_every_measure_with_chart_and_table(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    page = page_of(comparison)
    results = section(page, "Results")
    (table,) = results.tables
    assert table.rows == [[show(row) for show in COLUMNS.values()] for row in rows(comparison)]
    assert "difference to raft" in table.columns
    assert "+0.200 ± 0.430" in table.rows[2]
    for title, about, _ in CHARTS.values():
        measured = section(page, title)
        assert about in measured.note
        assert measured.charts
        assert [row[0] for row in measured.tables[0].rows] == ["raft", "grpo"]
    cards = {card.title: dict(card.pairs) for card in section(page, "Method by method").cards}
    assert cards["grpo"]["against raft"] == "+0.200 ± 0.430, cannot be told apart"
    assert cards["base"]["against raft"] == "-0.300 ± 0.000, worse"
    assert cards["raft"]["accuracy at the end"] == "0.600 ± 0.248 (seeds: 0.500, 0.600, 0.700)"


def test_the_reference_is_named_and_who_differs_from_it(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    page = page_of(comparison)
    assert "The reference method, which the others are compared with, is raft." in page.lead[0]
    assert section(page, "Results").sentence == (
        "grpo ended highest, at a held-out accuracy of 0.800 ± 0.657, and raft lowest, at 0.600 ± 0.248. Against raft, "
        "seed by seed, grpo cannot be told apart."
    )


def test_dots_stand_where_something_was_evaluated_and_nowhere_else(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    (chart,) = section(page_of(comparison), "Held-out accuracy").charts
    dots = [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "point"]
    (layer,) = dots
    shown = {(value["name"], value["x"], value["y"]) for value in layer["data"]["values"]}
    assert shown == {(run.method, line["tokens"], line["accuracy"]) for run in comparison.runs for line in run.evals}


@pytest.mark.parametrize(("seeds", "has_bands"), [([0], False), ([0, 1], False), ([0, 1, 2], True)])
def test_bands_are_drawn_from_three_seeds_on(tmp_path: Path, seeds: list[int], has_bands: bool) -> None:
    page = page_of(compared(tmp_path, ["raft", "grpo"], seeds))
    assert ('"area"' in values_in(section(page, "Held-out accuracy"))) is has_bands
    assert ("Bands are 95 % intervals" in section(page, "Held-out accuracy").note) is has_bands


def test_bands_of_many_methods_would_lie_over_each_other(tmp_path: Path) -> None:
    page = page_of(compared(tmp_path, ["a", "b", "c", "d", "e", "f"], [0, 1, 2]))
    assert '"area"' not in values_in(section(page, "Held-out accuracy"))


def test_page_and_charts_are_written_the_same_each_time(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    files = []
    for _ in range(2):
        write_comparison(comparison, tmp_path)
        paths = [tmp_path / "report.html", *sorted((tmp_path / "charts").iterdir())]
        files.append({path.name: path.read_bytes() for path in paths})
    assert files[0] == files[1]
    assert {"results.svg", "held-out-accuracy.svg", "accuracy-against-kl.svg"} <= set(files[0])
    for name, text in files[0].items():
        if name.endswith(".svg"):
            assert ElementTree.fromstring(text).tag.endswith("svg")
            assert b"@c" not in text


def test_words_of_the_plan_are_shown_as_they_are_written(tmp_path: Path) -> None:
    name = "<b>raft</b> & $x_1$"
    plan(
        tmp_path, [method(name)], seeds=[0], notes={name: "<script>alert(1)</script>"}, title="<i>t</i>", machine="a&b"
    )
    add_run(tmp_path, name, 0, (0.2, 0.5))
    text = html_of(page_of(read_comparison(tmp_path)))
    assert "<script>alert" not in text
    assert "<b>raft" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;i&gt;t&lt;/i&gt;" in text


def test_failed_and_missing_runs_are_named(tmp_path: Path) -> None:
    failure = {"method": "grpo", "seed": 0, "why": "loss is infinite"}
    plan(tmp_path, [BASE, method("raft"), method("grpo")], seeds=[0, 1], failed=[failure])
    add_run(tmp_path, "raft", 0, (0.2, 0.5))
    page = page_of(read_comparison(tmp_path))
    assert "grpo, seed 0 failed: loss is infinite" in page.warnings
    assert "grpo, seed 1 is missing: no folder" in page.warnings
    assert section(page, "Results").tables[0].rows[1][0] == "raft (1 of 2 seeds)"
    assert [card.pairs for card in section(page, "Method by method").cards][2] == [("runs", "none has finished")]


def test_one_seed_says_that_it_tells_little(tmp_path: Path) -> None:
    comparison = compared(tmp_path, ["raft", "grpo"], [3])
    results = section(page_of(comparison), "Results")
    assert "One seed gives no interval" in results.note
    assert "Student" not in results.note
    assert "One seed cannot tell a difference from chance." in results.sentence
    assert verdict(rows(comparison)[2]) == "one seed: cannot tell"


def test_importing_the_page_is_light() -> None:
    code = "import sys, cluster.comparing.page; sys.exit(any(n in sys.modules for n in ('vl_convert', 'torch', 'ray')))"
    subprocess.run([sys.executable, "-c", code], check=True)
