"""The benchmark kit: its arithmetic, its files and its page. What it measures is measured by `make bench`."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.run_config import RunConfig
from tests.bench import against, control, paired
from tests.bench.ablation import remarks
from tests.bench.limit import Alone, overlap, step_seconds
from tests.bench.measured import Step, rates
from tests.bench.processes import Usage, usage
from tests.bench.reached import Watch
from tests.bench.rig import Mark, drawn
from tests.bench.workloads import WORKLOADS, winnow_settings


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
    generation, learning = (Alone(seconds=t, cpu=t) for t in seconds)  # each keeps one core busy
    found = overlap(generation, learning, tokens, cores)
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
    costs = {"winnow": {"engine": 0.5, "learner": 2.0, "raylet": 0.01}, "trl": {"TRL": 3.0}}
    wanted = "CPU milliseconds a sample, short answers: winnow 2.51 (learner 2.00, engine 0.50), TRL 3.00."
    assert against.cost_remark(WORKLOADS["short"], costs) == wanted


def turn(step: float, steps: int = 6) -> list[dict[str, float]]:
    """Steps of 1,000 samples, of which a tenth more each time is correct."""
    return [
        {"seconds": 5 + step * n, "samples": 1e3 * (n + 1), "tokens": 1e4 * (n + 1), "correct": 300.0 + 100 * n}
        | {"accuracy": 0.3 + 0.1 * n}
        for n in range(steps)
    ]


def test_sides_are_compared_by_what_they_did_after_their_first_step() -> None:
    turns = {"winnow": [turn(1.0), turn(1.0)], "trl": [turn(2.0), turn(4.0)]}
    speed, tokens = against.speed_figures(WORKLOADS["short"], turns)
    assert speed.reached == pytest.approx(8 / 3)  # 1,000 samples a second over the median of 500 and 250
    assert tokens.reached == pytest.approx(8 / 3)
    time = against.accuracy_figure(WORKLOADS["short"], turns)
    assert time.reached == pytest.approx((5 + 2) / (5 + 6.0))
    assert "from 0.30 to 0.45" in time.note


def test_no_time_to_accuracy_is_claimed_where_nobody_learned() -> None:
    flat = [[turn(1.0, steps=1)[0]] * 3]
    time = against.accuracy_figure(WORKLOADS["short"], {"winnow": flat, "trl": flat})
    assert time.met is None
    assert "too little to be compared" in time.note


def test_the_interval_of_a_speed_is_as_wide_as_its_steps_differ() -> None:
    even = paired.speed_interval([turn(1.0)], [turn(2.0)])
    assert even == pytest.approx((2.0, 2.0))
    low, high = paired.speed_interval([turn(1.0), turn(3.0)], [turn(2.0)]) or (0.0, 0.0)
    assert low < 1.0 < high  # 1,000 samples in 1 s or in 3 s, against 2 s
    assert paired.speed_interval([turn(1.0, steps=2)], [turn(2.0)]) is None


def test_the_interval_of_a_time_to_accuracy_holds_the_ratio_of_the_steps() -> None:
    low, high = paired.until_interval([turn(1.0)], [turn(3.0)], 0.5)  # means of three steps: 0.3, 0.35, 0.4, 0.5, ...
    assert low <= (5 + 3) / (5 + 9) <= high
    assert high - low < 0.6


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
    speed = {"S = 0": 100.0, "S = 1": 90.0, "S = 2": 110.0}
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


def test_a_model_that_was_warmed_up_before_is_taken_again_by_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed = []

    def warm(side: str, folder: Path, *words: object) -> None:
        warmed.append((side, *words))
        (folder / "start").mkdir()
        (folder / "start" / "weights").write_text("warm")

    monkeypatch.setattr(against, "turn", warm)
    code = ["a", "a", "b", "b+", "b+"]
    monkeypatch.setattr(against, "about_now", lambda: SimpleNamespace(code=code[0]))
    work = replace(WORKLOADS["tools"], warm=7)
    for place in range(5):
        folder = against.prepare(work, tmp_path / str(place), tmp_path / "starts")
        assert (folder / "start" / "weights").read_text() == "warm"
        code.pop(0)
    assert warmed == [("winnow", "warm", 7)] * 4  # the second one found it, changed code never does
