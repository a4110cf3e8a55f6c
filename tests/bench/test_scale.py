"""The simulation of scale: its engines and its loop against hand-computed times, and the page against the command."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.scale import BEGIN, END, PAGE, bytes_line, on_page, row, speed_line
from tests.bench.scale_check import sleeping_loop, trained
from tests.bench.scale_layout import GROUPS, MODELS
from tests.bench.scale_stages import Clock, Costs, Course, Engine, ScaledLoop, Workload, until
from tests.bench.virtual import in_virtual_time

COSTS = Costs(engines=2, seats=64, decoding=lambda count, cached: 0.01)
WORK = Workload(groups_per_step=4, group_size=2, max_staleness=0, prompt=10, response=lambda draw: 100, prompts=50)


def ends(costs: Costs, adds: list[tuple[float, list[int]]], pause: tuple[float, float] | None = None) -> list[float]:
    """When the responses that come to an engine at these times end."""
    found: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        engine = Engine(costs, Clock(costs.grain), 10, lambda group, moment: found.append(round(moment, 6)))
        for moment, lengths in adds:
            loop.call_at(moment, engine.add, 0, lengths)
        if pause is not None:
            loop.call_at(pause[0], engine.pause)
            loop.call_at(pause[1], engine.resume)
        await until(1000.0)

    in_virtual_time(play())
    return found


def test_responses_that_are_decoded_together_take_a_pass_for_each_token() -> None:
    assert ends(COSTS, [(0.0, [100, 300]), (1.0, [100])]) == [1.0, 2.0, 3.0]


def test_a_pass_gets_longer_with_the_responses_and_with_what_they_have_in_the_cache() -> None:
    together = replace(COSTS, decoding=lambda count, cached: 0.01 * count)
    assert ends(together, [(0.0, [100, 200])]) == [2.0, 3.0]  # 100 passes of two, then 100 of one
    reading = replace(COSTS, decoding=lambda count, cached: 0.001 * cached)
    assert ends(reading, [(0.0, [100])]) == [6.0]  # 10 tokens of the prompt at first and 110 at the end: 60 on average


def test_responses_beyond_the_seats_wait_and_prompts_hold_the_others_up() -> None:
    assert ends(replace(COSTS, seats=1), [(0.0, [100, 200])]) == [1.0, 3.0]
    assert ends(replace(COSTS, prefill=0.5), [(0.0, [100]), (0.2, [100])]) == [2.0, 2.0]


def test_ends_that_are_looked_at_together_have_their_own_times() -> None:
    adds = [(0.0, [100, 101, 300]), (1.005, [100])]
    assert ends(replace(COSTS, grain=0.5), adds) == pytest.approx(ends(COSTS, adds), abs=0.01)
    assert len(ends(replace(COSTS, grain=10.0), adds)) == 4


def test_an_engine_that_is_paused_goes_on_where_it_was() -> None:
    assert ends(COSTS, [(0.0, [100])], pause=(0.5, 2.5)) == [3.0]


def course(costs: Costs, work: Workload, steps: int = 6) -> Course:
    return ScaledLoop(costs, work).run(steps, left_out=2)


def test_stages_that_take_turns_take_as_long_as_both_and_stages_that_overlap_as_the_longer_one() -> None:
    costs = replace(COSTS, training=lambda tokens: 3.0, transfer=0.5, between=0.25)
    turns = course(costs, WORK)
    assert turns.seconds / turns.steps == pytest.approx(1.0 + 3.0 + 0.5)  # engines go on before the step is reported
    overlapped = course(costs, replace(WORK, max_staleness=1))
    assert overlapped.seconds / overlapped.steps == pytest.approx(3.0 + 0.5 + 0.25)
    assert overlapped.busy["learner"] == pytest.approx(3.0 / 3.75)
    assert overlapped.waited == pytest.approx(0.0)
    assert overlapped.groups == overlapped.trained == 4 * overlapped.steps
    assert overlapped.tokens == 200 * overlapped.groups


def test_the_driver_serves_one_group_after_the_other_and_the_step_waits_for_its_file() -> None:
    busy = course(replace(COSTS, dispatch=0.5, reply=0.5), WORK)
    assert busy.seconds / busy.steps == pytest.approx(4.0)  # sampling takes 1 s of these, and the driver is never idle
    assert busy.busy["driver"] == pytest.approx(1.0)
    slow = course(replace(COSTS, recording=0.01), WORK)  # 4 groups of 2 x (10 + 100) tokens
    assert slow.seconds / slow.steps == pytest.approx(1.0 + 8.8)
    assert slow.busy["closing"] == pytest.approx(8.8 / 9.8)


def test_verifiers_are_a_queue() -> None:
    graded = course(replace(COSTS, verdict=0.5, verifiers=2), WORK)
    assert graded.seconds / graded.steps == pytest.approx(1.0 + 0.5 * 8 / 2)
    assert graded.busy["verifiers"] == pytest.approx(2.0 / 3.0)


def test_refused_groups_cost_sampling_and_no_training() -> None:
    work = replace(WORK, rejected=0.5, max_staleness=1, prompts=1000)
    found = course(COSTS, work, steps=60)
    assert found.trained == 4 * found.steps
    assert found.groups / found.trained == pytest.approx(2.0, rel=0.25)


def test_the_same_seed_gives_the_same_run() -> None:
    work = replace(WORK, response=lambda draw: int(draw.integers(10, 200)), rejected=0.3)
    assert course(COSTS, work) == course(COSTS, work)


def test_thousands_of_responses_take_a_moment() -> None:
    found = sleeping_loop(1).run(14, 2)
    assert found.groups > 12 * 32
    assert 0.3 < found.busy["learner"] < 1.0


def test_a_run_is_simulated_from_half_of_its_steps(tmp_path: Path) -> None:
    """A run folder as it would be of stages that take 1 s, 2 s and 0.5 s, one after the other."""
    cluster = {"rollout": {"groups_per_step": 4, "group_size": 2, "max_staleness": 0}}
    told = "".join(f"{name} = {value}\n" for name, value in cluster["rollout"].items())
    (tmp_path / "config.toml").write_text(f"[rollout]\n{told}")
    same = {"seconds_wait": 1.0, "seconds_wait_verify": 0.0, "seconds_train": 2.0, "generators": 1}
    same |= {"tokens_generated": 4 * 2 * 100}
    same |= {
        "seconds_sync": 0.5,
        "seconds_other": 0.0,
        "groups_all_correct": 0,
        "groups_all_wrong": 0,
        "groups_failed": 0,
    }
    lines = [{"step": n, "wall_seconds": 3.5 * n, "groups_kept": 4 * n, **same} for n in range(1, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "trajectories").mkdir()
    rows = {"group": np.arange(32) // 2, "prompt_tokens": np.full(32, 10), "tokens": [list(range(110))] * 32}
    pq.write_table(pa.table(rows), tmp_path / "trajectories/groups.parquet")
    found = trained(tmp_path)
    assert found.steps == 6
    assert found.seconds == 21.0
    assert found.simulated == pytest.approx(21.0, rel=0.01)
    assert found.simulated_groups == pytest.approx(found.groups, rel=0.01)


def test_the_page_keeps_what_is_around_the_section() -> None:
    before = f"# Page\n\nsaid\n{END}\nmore\n"
    once = on_page(f"{BEGIN}\ntables\n", before)
    assert once == f"# Page\n\nsaid\n\n{BEGIN}\ntables\n{END}\nmore\n"
    assert on_page(f"{BEGIN}\nothers\n", once) == once.replace("tables", "others")


def test_the_page_has_a_line_for_every_model_and_cluster() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index(BEGIN) : page.index(END)]
    for model in MODELS:
        for gpus in GROUPS:
            assert section.count(f"| {model} | {gpus:,} |") == 2


@pytest.mark.slow
def test_the_lines_of_eight_gpus_are_what_the_command_prints() -> None:
    found, page = row("1.5B", 8), PAGE.read_text(encoding="utf-8")
    assert speed_line(found) in page, "write it anew: python -m tests.bench.scale --write"
    assert bytes_line(found) in page
