import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest

from actors.filtering.filter import LedgerReport
from actors.types import Episodes, Summary, Times
from cluster.config.run_config import RunConfig
from cluster.reporting.metric_table import METRICS
from cluster.reporting.metrics import (
    REMEDIES,
    Clock,
    FilterReport,
    alerts,
    seconds_by_stage,
    step_metrics,
    where_the_time_went,
)
from cluster.running.loop import StepDone
from learner.types import UpdateStats
from rewards import Outcome, Verdict
from tests.builders import group, summary

STATS = UpdateStats(
    loss=0.5,
    tokens=30,
    computed=64,
    padding=4,
    shared=7,
    rows=2,
    sequences=6,
    entropy=0.2,
    clip_fraction=0.0,
    ratio_p99=1.0,
    mismatch_kl=0.001,
    capped=0.0,
    kl_start=0.01,
    kl_teacher=0.3,
    loss_told=1.5,
    grad_norm=2.0,
    lr=1e-6,
)


def line(graded: list, batch: list, trained: Sequence[UpdateStats] = (STATS, STATS)) -> dict:
    done = StepDone(
        step=3,
        batch=SimpleNamespace(summaries=batch),
        trained=list(trained),
        synced=SimpleNamespace(size=2**30, seconds=2.0, probe_gap=1e-6, probe_gap_mean=1e-7, probe_doubts=0),
        taken_at=100.0,
        seconds_wait=5.0,
        seconds_train=2.0,
        seconds_sync=1.0,
    )
    names = ("dispatched", "kept", "trained", "all_correct", "all_wrong", "failed", "dropped", "in_flight", "buffered")
    counts = {f"groups_{name}": 1 for name in names}
    report = FilterReport(ledger=LedgerReport(counts=counts, drops={"timeout": 1}, patience_spent=0.25), graded=graded)
    return step_metrics(
        done,
        report,
        Clock(
            wall=9.0,
            ended_at=1e9,
            other=1.0,
            updates=6,
            step=8.0,
            busy_generators=0.5,
            busy_verifiers=0.1,
            generators=1,
            verifiers=2,
        ),
    )


def test_too_many_time_outs_are_said_with_what_to_do() -> None:
    few = [summary([1.0] * 20)]
    assert (line(few, few)["timeout_share"], alerts(line(few, few))) == (0.0, {})
    many = [summary([1.0, -1.0]), summary([None, 1.0])]
    assert line(many, many[:1])["timeout_share"] == 0.25
    (said,) = alerts(line(many, many[:1])).values()
    assert said.startswith("timeout_share is 0.25, above 0.05: ")
    assert "reward.seconds" in said


def test_every_name_of_the_table_stands_in_every_line() -> None:
    metrics = line([summary([1.0, -1.0])], [summary([1.0, -1.0])])
    assert set(metrics) == set(METRICS) | {"bottleneck", "dropped"}
    assert (metrics["tokens_trained"], metrics["updates"], metrics["sync_gib_per_second"]) == (60, 6, 0.5)
    assert metrics["bottleneck"] == "generate"
    assert (metrics["patience_spent"], metrics["disk_used"], metrics["step_ended_at"]) == (0.25, None, 1e9)


def test_episodes_are_counted_where_there_are_any() -> None:
    names = ("turns_mean", "episode_seconds", "tool_calls", "tool_failures", "tokens_user", "tokens_tool")
    plain = summary([1.0, -1.0])
    assert {line([plain], [plain])[name] for name in names} == {None}
    calls = {"tool_calls": 2, "tool_failures": 1, "user_tokens": 5, "tool_tokens": 7}
    played = [replace(plain, episodes=Episodes(count=2, seconds=s, turns=t, **calls)) for s, t in ((1.0, 3), (3.0, 5))]
    metrics = line(played, played)
    assert [metrics[name] for name in names] == [2.0, 1.0, 4, 2, 10, 14]


def test_reward_and_accuracy_see_rejected_groups_and_no_failed_verdicts() -> None:
    graded = [summary([1.0, -1.0]), summary([-1.0, -1.0]), summary([None, 1.0])]
    metrics = line(graded, graded[:1])
    assert metrics["accuracy"] == pytest.approx(2 / 5)
    assert metrics["reward_mean"] == pytest.approx(-1 / 5)
    assert metrics["reward_trained"] == 0.0
    assert (metrics["responses_timeout"], metrics["responses_error"]) == (1, 0)


def test_the_wait_for_verdicts_begins_when_the_last_response_has_been_sampled() -> None:
    def waited(*spans: tuple[float, float]) -> float:
        times = [Times(generated_at=generated, verified_at=verified) for generated, verified in spans]
        return line([], [Summary.of(group([1.0, -1.0]), of) for of in times])["seconds_wait_verify"]

    assert waited((97.0, 99.5)) == 2.5  # the learner waited from 95 to 100
    assert waited((90.0, 99.5)) == 4.5  # sampled before the learner began to wait
    assert waited((97.0, 99.5), (99.0, 99.2)) == 0.5
    assert waited((80.0, 81.0)) == 0.0


def test_the_stage_with_most_of_the_wait_is_the_bottleneck() -> None:
    slow = Summary.of(group([1.0, -1.0]), Times(generated_at=95.5, verified_at=100.0))
    assert line([], [slow])["bottleneck"] == "verify"


def test_disagreement_counts_only_responses_that_both_checkers_saw() -> None:
    both = Summary.of(
        replace(
            group([1.0, -1.0, 1.0]),
            verdicts=(
                Verdict(outcome=Outcome.CORRECT, score=1.0, why="", parts={"quick": 0.0}),
                Verdict(outcome=Outcome.WRONG, score=-1.0, why="", parts={"quick": 0.0}),
                Verdict(outcome=Outcome.CORRECT, score=1.0, why=""),
            ),
        ),
        Times(queue=7),
    )
    metrics = line([both, summary([1.0])], [])
    assert (metrics["verifier_disagreement"], metrics["verifier_queue"]) == (0.5, 7)
    assert line([summary([1.0])], [])["verifier_disagreement"] is None


def test_staleness_counts_from_the_version_that_the_step_trained_on() -> None:
    metrics = line([], [summary([1.0, -1.0])])  # the builder samples from version 0, step 3 trains on version 2
    assert (metrics["staleness_mean"], metrics["staleness_max"]) == (2.0, 2)
    assert metrics["accuracy"] is None


def test_the_stages_add_up_to_the_step_and_one_sentence_names_the_longest() -> None:
    first = line([summary([1.0, -1.0])], [summary([1.0, -1.0])])
    stages = seconds_by_stage([first, first])
    assert stages == {"generate": 10.0, "verify": 0.0, "train": 4.0, "sync": 2.0, "other": 2.0}
    said = where_the_time_went([first])
    assert said.startswith(
        "time of the learner: generate 56%, verify 0%, train 22%, sync 11%, other 11%. Most is waited"
    )
    assert "rollout.max_staleness" in said
    assert (first["busy_learner"], first["tokens_trained_per_second"]) == (0.25, 7.5)


def test_every_setting_that_a_remedy_names_is_there() -> None:
    fields = RunConfig.model_fields
    for section, name in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", " ".join(REMEDIES.values())):
        assert name in fields[section].annotation.model_fields


def test_verdicts_that_a_judge_could_not_give_are_counted_alone_and_in_a_combination() -> None:
    verdicts = tuple(
        Verdict(outcome=Outcome.WRONG, score=-1.0, why="", parts=parts)
        for parts in ({"unread": 1.0}, {"judge.unread": 1.0}, {"unread": 0.0}, {})
    )
    one = Summary.of(replace(group([-1.0] * 4), verdicts=verdicts), Times())
    assert line([one], [])["judge_unread"] == 0.5
    assert "reward.judge.unread" in alerts(line([one], []))["judge_unread"]


def test_an_update_of_responses_that_are_worth_nothing_has_no_entropy() -> None:
    empty = replace(STATS, tokens=0, entropy=0.0, mismatch_kl=0.0, kl_start=None)
    told = line([], [], trained=[STATS, empty])
    assert (told["entropy"], told["mismatch_kl"], told["kl_start"]) == (0.2, 0.001, 0.01)
    assert line([], [], trained=[empty])["entropy"] is None
