"""The benchmark kit: its arithmetic, its files and its page. What it measures is measured by `make bench`."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.run_config import RunConfig
from tests.bench import against, control
from tests.bench.ablation import remarks
from tests.bench.figures import Chart, Figure, Part, Target, part_of, part_of_numbers
from tests.bench.limit import Alone, overlap, step_seconds
from tests.bench.measured import Step, rates
from tests.bench.page import number, write_page
from tests.bench.processes import Usage, usage
from tests.bench.reached import Watch
from tests.bench.rig import Mark, drawn
from tests.bench.run import BENCHMARKS, results_in
from tests.bench.workloads import WORKLOADS, winnow_settings

PART = Part(
    figures=[
        Figure(name="speed", reached=1.2, target=1.5, unit="x", note="slow <b>engine</b>"),
        Figure(name="seconds", reached=0.4, target=0.5, most=True),
        Figure(name="memory", reached=205.0, unit="MiB"),
    ],
    charts=[
        Chart(title="Cost", x="groups", y="ms", lines={"cpu": [(1.0, 2.0), (2.0, 2.5)], "wall": [(1.0, 1.0)]}),
        Chart(title="Speed", x="", y="samples/s", lines={"S = 0": [(0.0, 90.0)], "S = 1": [(0.0, 120.0)]}, bars=True),
    ],
    remarks=["Async loses here: S = 1 is slower."],
)


def marks(cpu_of_a_group: float = 0.002, steps: int = 10) -> list[Mark]:
    return [
        Mark(
            step=n,
            seconds=0.5 * n,
            graded=100 * n,
            trained=80 * n,
            used=Usage(cpu={"driver": 100 * n * cpu_of_a_group}, memory=200.0),
        )
        for n in range(steps + 1)
    ]


def test_a_target_is_the_least_or_the_most_that_is_allowed() -> None:
    assert [figure.met for figure in PART.figures] == [False, True, None]


def test_results_come_back_from_their_file_as_they_were() -> None:
    assert part_of(json.loads(json.dumps(PART.as_json()))).as_json() == PART.as_json()


def test_a_plain_mapping_of_numbers_becomes_figures_with_the_targets_that_are_named() -> None:
    tree = {"saved": {"tokens": 0.25, "method": "two stages"}, "seeds": 3}
    part = part_of_numbers(tree, {"saved, tokens": Target(value=0.5, most=True)})
    assert [(figure.name, figure.reached, figure.met) for figure in part.figures] == [
        ("saved, tokens", 0.25, True),
        ("seeds", 3.0, None),
    ]


def test_the_page_shows_every_target_with_the_figure_that_was_reached(tmp_path: Path) -> None:
    results = [
        {"name": "control", "about": "Bookkeeping.", "part": PART.as_json(), "problem": ""},
        {"name": "sync", "about": "Weights.", "part": None, "problem": "not there"},
    ]
    write_page(results, "2 cores", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "1 of 2 targets are reached" in text
    assert text.count("falls short") == 1
    assert "at least 1.5" in text
    assert "at most 0.5" in text
    assert "slow &lt;b&gt;engine&lt;/b&gt;" in text
    assert "Async loses here" in text
    assert "not there" in text
    assert text.count('class="chart"') == 2


def test_every_part_stands_on_the_page_measured_or_not(tmp_path: Path) -> None:
    assert [result["name"] for result in results_in(tmp_path)] == list(BENCHMARKS)


def test_all_parts_together_may_take_three_quarters_of_an_hour() -> None:
    assert sum(benchmark.minutes for benchmark in BENCHMARKS.values()) <= 45


def test_numbers_are_shown_with_the_digits_that_count() -> None:
    assert [number(value) for value in (0.9512, 1.5, 512.4, 12345.6, float("nan"))] == [
        "0.951",
        "1.5",
        "512",
        "12,346",
        "-",
    ]


def test_groups_a_second_and_their_cost_come_from_the_same_marks() -> None:
    assert control.rate(marks()) == pytest.approx(200.0)
    assert all(cpu == pytest.approx(2.0) and wall == pytest.approx(5.0) for _, cpu, wall in control.costs(marks()))
    assert step_seconds(marks()) == pytest.approx(0.5)


@given(
    st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    st.integers(1, 8),
)
def test_a_perfect_overlap_takes_at_least_the_longer_stage_and_the_work_over_the_cores(
    seconds: tuple[float, float], tokens: tuple[float, float], cores: int
) -> None:
    stages = [Alone(seconds=t, cpu=t) for t in seconds]  # each keeps one core busy
    found = overlap(*stages, tokens, cores)
    longest, total = (of(t * n for t, n in zip(seconds, tokens, strict=True)) for of in (max, sum))
    assert found == pytest.approx(total if cores == 1 else longest)


def test_stages_that_each_use_both_cores_gain_nothing_from_overlapping() -> None:
    stage = Alone(seconds=1.0, cpu=2.0)
    assert overlap(stage, stage, (3.0, 3.0), cores=2) == 6.0


@given(st.floats(0.01, 10), st.floats(0, 1.5), st.integers())
def test_drawn_seconds_are_positive_and_decided_by_their_seed(mean: float, sigma: float, seed: int) -> None:
    assert drawn(mean, sigma, seed) == drawn(mean, sigma, seed) > 0


def test_drawn_seconds_have_the_mean_that_was_asked_for() -> None:
    drawing = [drawn(0.1, 0.5, seed) for seed in range(20_000)]
    assert sum(drawing) / len(drawing) == pytest.approx(0.1, rel=0.05)
    assert max(drawn(0.1, 1.0, seed) for seed in range(2_000)) == pytest.approx(0.4)  # the cut


def test_an_accuracy_counts_as_reached_by_the_mean_of_three_steps() -> None:
    watch, seen = Watch(seconds=100.0, accuracy=0.5), []
    watch.begin(10.0)
    for now, correct in ((11.0, 4), (12.0, 0), (13.0, 1), (14.0, 3), (15.0, 4)):
        watch.sampled(correct, [5, 5, 5, 5])
        seen.append(watch.step(now))
        if watch.over:
            break
    assert [line["seconds"] for line in seen] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [line["reached"] for line in seen] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert seen[-1]["accuracy"] == pytest.approx(8 / 12)
    assert (seen[-1]["samples"], seen[-1]["tokens"]) == (20, 100)
    assert watch.cost({"learner": 0.8, "engine": 0.016}) == {"cpu": {"learner": 50.0, "engine": 1.0}}  # of 16 samples


def test_the_page_says_what_a_sample_costs_each_side() -> None:
    costs = {"winnow": [{}, {"engine": 0.5, "learner": 2.0, "raylet": 0.01}], "trl": [{}, {"TRL": 3.0}]}
    wanted = "CPU milliseconds a sample, short answers: winnow 2.51 (learner 2.00, engine 0.50), TRL 3.00."
    assert against.cost_remark("short", costs) == wanted


def test_sides_are_compared_by_what_they_did_after_their_first_step() -> None:
    def turn(step: float) -> list[dict[str, float]]:
        return [
            {"seconds": 5 + step * n, "samples": 8.0 * (n + 1), "tokens": 80.0 * (n + 1), "accuracy": 0.3 + 0.1 * n}
            for n in range(6)
        ]

    turns = {"winnow": [turn(1.0), turn(1.0)], "trl": [turn(2.0), turn(4.0)]}
    speed, tokens = against.speed_figures("short", turns)
    assert speed.reached == pytest.approx(8.0 / 3.0)
    assert tokens.reached == pytest.approx(80.0 / 30.0)
    (time,) = against.accuracy_figures("short", turns)
    assert time.reached == pytest.approx((5 + 2) / (5 + 6.0))
    assert "from 0.30 to 0.45" in time.note


def test_no_time_to_accuracy_is_claimed_where_nobody_learned() -> None:
    flat = [[{"seconds": 1.0, "samples": 8.0, "tokens": 80.0, "accuracy": 0.3}] * 3]
    (time,) = against.accuracy_figures("short", {"winnow": flat, "trl": flat})
    assert time.met is None
    assert "no side gained enough" in time.note


def test_rates_leave_out_the_steps_in_which_the_pipe_fills() -> None:
    def step(number: int) -> Step:
        seconds = 10.0 + number  # the first step came late
        counts = {"graded": 64 * number, "correct": 0, "trained": 32 * number}
        tokens = {"tokens_graded": 640 * number, "tokens_trained": 320 * number}
        return Step(seconds=seconds, cpu=2 * seconds, wait=0.25 * seconds, sync=0.0, **counts, **tokens)

    found = rates([step(number) for number in range(1, 7)])
    assert (found["steps/s"], found["samples/s"], found["graded/s"]) == (1.0, 32.0, 64.0)
    assert (found["cores busy"], found["share of time waited for batches"]) == (2.0, 0.25)
    assert rates([step(1)])["samples/s"] == pytest.approx(32 / 11)


def test_the_page_says_where_async_loses() -> None:
    speed = {"S = 0": 100.0, "S = 1": 90.0, "S = 2": 110.0, "S = 4": 120.0}
    speed |= {"S = 1, filter off": 99.0, "S = 1, in flight finished first": 45.0}
    said = remarks({name: {"samples/s": value} for name, value in speed.items()})
    assert said[0] == "Async loses here: S = 1 trains on 0.90 of the samples a second of S = 0."
    assert "Without the filter, the learner trains on 1.10" in said[1]
    assert "Finishing what is in flight, the learner trains on 0.50" in said[2]


def test_usage_counts_this_process_and_names_it_the_driver() -> None:
    before = usage(os.getpid())
    sum(n * n for n in range(3_000_000))
    assert usage(os.getpid()).since(before)["driver"] > 0.05
    assert before.memory > 10


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_a_run_of_winnow(name: str, tmp_path: Path) -> None:
    config = RunConfig(**winnow_settings(WORKLOADS[name], tmp_path, tmp_path / "start", files=tmp_path))
    assert config.reward.of(config.reward.name).kind == WORKLOADS[name].reward
    assert config.rollout.max_new_tokens == WORKLOADS[name].max_new_tokens
