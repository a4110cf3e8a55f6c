"""Recorded runs: what of them is put together, the tables and the page of them, and whether a short run fell behind."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import regression
from tests.bench.figures import Chart, Figure, Part, Target, number, part_of, part_of_numbers
from tests.bench.kit import BENCHMARKS
from tests.bench.page import write_page
from tests.bench.records import About, Record, about_now, alike, begin, keep, records
from tests.bench.run import measure, run_all, told
from tests.bench.spread import Spread, markdown, spreads, write_table

ABOUT = About(began="2026-01-02_03-04-05", machine="2 cores", commit="abc", code="a-b", versions={"ray": "1"}, load=0.5)
PART = Part(
    figures=[
        Figure(name="speed", reached=1.2, target=1.5, unit="x", note="slow <b>engine</b>"),
        Figure(name="seconds", reached=0.4, target=0.5, most=True, unit="x"),
        Figure(name="memory", reached=205.0, unit="MiB"),
    ],
    charts=[
        Chart(title="Cost", x="groups", y="ms", lines={"cpu": [(1.0, 2.0), (2.0, 2.5)], "wall": [(1.0, 1.0)]}),
        Chart(title="Speed", x="", y="samples/s", lines={"S = 0": [(0.0, 90.0)], "S = 1": [(0.0, 120.0)]}, bars=True),
    ],
    remarks=["Async loses here: S = 1 is slower."],
)


def runs_of(folder: Path, speeds: Sequence[float]) -> list[Record]:
    """A recorded run for each speed of the part `peer`; `sync` failed in all of them."""
    for place, speed in enumerate(speeds):
        run = begin(folder, replace(ABOUT, began=f"run-{place}"))
        figures = [replace(PART.figures[0], reached=speed), *PART.figures[1:]]
        keep(run, "peer", replace(PART, figures=figures).as_json())
        keep(run, "sync", None, "failed: no gloo")
    return records(folder)


def peer(folder: Path, speeds: Sequence[float]) -> list[Spread]:
    return spreads(runs_of(folder, speeds), ["peer", "sync"])


def test_a_target_is_the_least_or_the_most_that_is_allowed() -> None:
    assert [figure.met for figure in PART.figures] == [False, True, None]


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, [1.2])
    assert run.about == replace(ABOUT, began="run-0")
    assert part_of(run.parts["peer"]["part"]).as_json() == PART.as_json()
    assert run.parts["sync"]["problem"] == "failed: no gloo"


def test_a_plain_mapping_of_numbers_becomes_figures_with_the_targets_that_are_named() -> None:
    tree = {"saved": {"tokens": 0.25, "method": "two stages"}, "seeds": 3}
    part = part_of_numbers(tree, {"saved, tokens": Target(value=0.5, most=True, title="tokens of all")})
    assert [(figure.name, figure.reached, figure.met) for figure in part.figures] == [
        ("tokens of all", 0.25, True),
        ("seeds", 3.0, None),
    ]


def test_runs_of_another_machine_or_other_code_are_not_put_together(tmp_path: Path) -> None:
    for place, changed in enumerate(
        [{}, {"machine": "64 cores"}, {"code": "a-c"}, {"commit": "later, documents only"}]
    ):
        begin(tmp_path, replace(ABOUT, began=f"run-{place}", **changed))
    found = records(tmp_path)
    assert [run.about.began for run in alike(found, found[-1].about)] == ["run-0", "run-3"]


def test_a_record_tells_commit_and_packages_of_this_machine() -> None:
    about = about_now()
    assert "cores of" in about.machine
    assert set(about.versions) >= {"ray", "vllm", "torch"}
    assert about.code.count("-") == 3


def test_median_and_spread_are_over_the_runs_that_have_a_figure(tmp_path: Path) -> None:
    speed, seconds, memory = peer(tmp_path, [1.4, float("nan"), 1.9, 1.6])
    assert (speed.median, speed.low, speed.high, speed.met) == (1.6, 1.4, 1.9, True)
    assert speed.shown == "1.6 (1.4 to 1.9)"
    assert (seconds.shown, seconds.met, memory.met) == ("0.4 (0.4 to 0.4)", True, None)
    assert peer(tmp_path / "one", [1.4])[0].shown == "1.4"


def test_a_figure_that_no_run_has_is_neither_reached_nor_short(tmp_path: Path) -> None:
    speed = peer(tmp_path, [float("nan")])[0]
    assert (speed.met, speed.shown) == (None, "-")
    assert "| speed | at least 1.5 | - | not measured |" in markdown([speed])


def test_the_table_has_all_targets_and_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks: all -->\nold\n<!-- end -->\nafter\n")
    found = peer(tmp_path / "runs", [1.2, 1.4])
    for _ in range(2):  # writing it again changes nothing
        assert write_table(page, found, "Two runs.") == 1
    assert page.read_text() == (
        "before\n<!-- benchmarks: all -->\n\nTwo runs.\n\n"
        "| | target | median (least to most) | |\n|---|---|---|---|\n"
        "| speed | at least 1.5 | 1.3 (1.2 to 1.4) | falls short |\n"
        "| seconds | at most 0.5 | 0.4 (0.4 to 0.4) | reached |\n\n<!-- end -->\nafter\n"
    )


def test_the_page_shows_every_target_with_the_figure_of_each_run(tmp_path: Path) -> None:
    runs = runs_of(tmp_path / "runs", [1.2, 1.4])
    write_page(runs, {"peer": "Two sides.", "sync": "Weights."}, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "The medians of 2 runs reach 1 of 2 targets" in text
    assert all(shown in text for shown in ("run-0", "run-1", "1.3 (1.2 to 1.4)", ">1.4<", "commit abc"))
    assert "at least 1.5" in text
    assert "at most 0.5" in text
    assert '<th scope="row">speed</th><td>slow &lt;b&gt;engine&lt;/b&gt;</td>' in text  # why it falls short
    assert "Async loses here" in text
    assert "failed: no gloo" in text
    assert "Not measured yet." in text
    assert text.count('class="chart"') == 2


def test_a_ratio_has_fallen_when_it_is_worse_by_a_quarter(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    assert regression.write_recorded(peer(tmp_path / "full", [1.9, 2.0, 2.1]), "3 runs", file) == 1
    ratios = regression.recorded(file)["ratios"]
    assert ratios == {"speed": {"median": 2.0, "low": 1.9, "high": 2.1}}
    assert regression.fallen(peer(tmp_path / "near", [1.51]), ratios) == []
    low = peer(tmp_path / "low", [1.4])
    (sentence,) = regression.fallen(low, ratios)
    assert sentence == "speed: 1.4, and recorded were 2 (1.9 to 2.1); at least 1.5 would do."
    assert regression.compared(low, ratios) == 1
    assert regression.compared(peer(tmp_path / "nothing", [float("nan")]), ratios) == 0


def test_ratios_that_differ_much_between_runs_may_fall_as_much(tmp_path: Path) -> None:
    regression.write_recorded(peer(tmp_path / "full", [1.0, 2.0, 2.2]), "3 runs", tmp_path / "recorded.json")
    ratios = regression.recorded(tmp_path / "recorded.json")["ratios"]
    assert regression.tolerance(ratios["speed"]) == pytest.approx(0.6)
    assert regression.fallen(peer(tmp_path / "short", [0.85]), ratios) == []


def test_every_part_of_the_kit_can_be_found_and_takes_what_it_is_given() -> None:
    beginnings = BENCHMARKS["beginnings"]
    assert measure(replace(beginnings, module="builtins", function="dict", full={"a": 1.0}), False, 0)["figures"]
    assert next(iter(BENCHMARKS)) == "peer"


def test_what_has_no_time_left_is_left_out_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.run.MINUTES", 0.0)
    run = begin(tmp_path, ABOUT)
    run_all(run, ["learning", "limit"])
    assert {part["problem"] for part in records(tmp_path)[0].parts.values()} == {"no time was left for it"}


def test_a_table_says_of_how_many_runs_and_of_which_commit_it_is(tmp_path: Path) -> None:
    assert told(runs_of(tmp_path, [1.0, 2.0])) == "2 runs of `make bench` at abc, the last of run-1, on 2 cores."


def test_numbers_are_shown_with_the_digits_that_count() -> None:
    shown = [number(value) for value in (0.9512, 1.5, 512.4, 12345.6, float("nan"))]
    assert shown == ["0.951", "1.5", "512", "12,346", "-"]
