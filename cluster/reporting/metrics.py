"""How a step's metrics are made from what its stages reported; what each is says `cluster.reporting.metric_table`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.filtering.filter import LedgerReport
from actors.filtering.ledger import INTERRUPTED, UNPACKABLE
from actors.types import Episodes, Summary
from cluster.reporting.steps import TrainedStep
from rewards import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """When a metric is said aloud, once in a run."""

    above: float  # the value that it has to exceed
    remedy: str  # what to look at


ALERTS: dict[str, Alert] = {
    "timeout_share": Alert(
        above=0.05,
        remedy="responses that take too long score like wrong ones (reward.timeout); where the machine is slow and not "
        "the responses, raise reward.seconds or add verifiers (cluster.verifiers)",
    ),
    "judge_unread": Alert(
        above=0.05,
        remedy="responses score like wrong ones where the judge is asked twice and says neither yes nor no "
        "(reward.judge.unread); read `why` of these rows, and take a judge or a prompt whose answers can be read",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterReport:
    """What the filter tells after a step."""

    ledger: LedgerReport
    graded: Sequence[Summary]  # groups since the last report, kept or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Times of a step that the stages do not know."""

    wall: float  # seconds since the first step began
    ended_at: float  # when the step ended, seconds since 1970
    other: float  # seconds of the step outside wait, train and sync
    step: float  # seconds of the whole step
    busy_generators: float  # mean share of the step in which a generator had work
    busy_verifiers: float  # mean share of the step that a verifier worked
    generators: int  # that are alive
    verifiers: int  # that are alive
    updates: int  # optimizer updates so far
    restarts: int = 0  # of the learner by this driver
    eval_accuracy: float | None = None  # where the step was evaluated
    disk_used: float | None = None  # share of the run folder's disk


def step_metrics(done: TrainedStep, report: FilterReport, clock: Clock) -> dict[str, Any]:
    """One line of metrics.jsonl: every name of `METRICS`, and `bottleneck` and `dropped` in words."""
    graded, batch, stats = report.graded, done.batch.summaries, done.trained
    seen = [update for update in stats if update.tokens]  # where all responses were worth nothing there is none to see
    lags = [done.step - 1 - summary.oldest_version for summary in batch if summary.oldest_version >= 0]
    outcomes = [outcome for summary in graded for outcome in summary.outcomes]
    lengths = [length for summary in graded for length in summary.lengths]
    metrics: dict[str, Any] = {
        "step": done.step,
        "version": done.step,
        "updates": clock.updates,
        "wall_seconds": clock.wall,
        "step_ended_at": clock.ended_at,
        "reward_mean": _mean([score for summary in graded for score in summary.scores]),
        "reward_trained": _mean([score for summary in batch for score in summary.scores]),
        "accuracy": _mean([outcome is Outcome.CORRECT for outcome in outcomes if outcome.scored]),
        "eval_accuracy": clock.eval_accuracy,
        **group_metrics(report.ledger),
        "responses_unparsable": outcomes.count(Outcome.UNPARSABLE),
        "responses_timeout": outcomes.count(Outcome.TIMEOUT),
        "responses_error": outcomes.count(Outcome.ERROR),
        "timeout_share": _mean([outcome in (Outcome.LATE, Outcome.TIMEOUT) for outcome in outcomes]),
        "judge_unread": _share([s.unread for s in graded], [len(s.outcomes) for s in graded]),
        "verifier_disagreement": _share([s.disagreed for s in graded], [s.checked for s in graded]),
        "generators": clock.generators,
        "verifiers": clock.verifiers,
        "restarts": clock.restarts,
        "verifier_queue": max((summary.times.queue for summary in graded), default=0),
        "responses_truncated": sum(summary.truncated for summary in graded),
        "response_tokens_mean": _mean(lengths),
        "response_tokens_kept": _mean([length for summary in batch for length in summary.lengths]),
        **_episode_metrics([summary.episodes for summary in graded if summary.episodes is not None]),
        "tokens_generated": sum(lengths) + sum(summary.extra_tokens for summary in graded),
        "tokens_trained": sum(update.tokens for update in stats),
        "tokens_padding": sum(update.padding for update in stats),
        "tokens_shared": sum(update.shared for update in stats),
        "sequences_per_row": sum(update.sequences for update in stats) / max(1, sum(update.rows for update in stats)),
        "staleness_mean": _mean(lags),
        "staleness_max": max(lags, default=0),
        "entropy": _mean([update.entropy for update in seen]),
        "kl_start": _mean([update.kl_start for update in stats if update.kl_start is not None]),
        "loss_told": _mean([update.loss_told for update in stats if update.loss_told is not None]),
        "kl_teacher": _mean([update.kl_teacher for update in stats if update.kl_teacher is not None]),
        "clip_fraction": _mean([update.clip_fraction for update in seen]),
        "ratio_p99": max(update.ratio_p99 for update in stats),
        "mismatch_kl": _mean([update.mismatch_kl for update in seen]),
        "mismatch_capped": _mean([update.capped for update in seen]),
        "probe_gap": done.synced.probe_gap,
        "probe_gap_mean": done.synced.probe_gap_mean,
        "probe_doubts": done.synced.probe_doubts,
        "loss": _mean([update.loss for update in stats]),
        "grad_norm": _mean([update.grad_norm for update in stats]),
        "lr": stats[-1].lr,
        "tokens_per_second": sum(lengths) / clock.step,
        "tokens_trained_per_second": sum(update.tokens for update in stats) / clock.step,
        "busy_generators": clock.busy_generators,
        "busy_verifiers": clock.busy_verifiers,
        "busy_learner": done.seconds_train / clock.step,
        "seconds_generate": _mean([summary.times.generate for summary in graded]),
        "seconds_verify": _mean([summary.times.verify for summary in graded]),
        "seconds_wait": done.seconds_wait,
        "seconds_wait_verify": waited_for_verdicts(done),
        "seconds_train": done.seconds_train,
        "seconds_sync": done.seconds_sync,
        "seconds_other": clock.other,
        "disk_used": clock.disk_used,
        "sync_gib_per_second": done.synced.size / 2**30 / max(done.synced.seconds, 1e-9),
    }
    return metrics | {"bottleneck": bottleneck(metrics), "dropped": dict(report.ledger.drops)}


def group_metrics(ledger: LedgerReport) -> dict[str, float]:
    """The metrics of what the ledger counts, which are known at any time."""
    return {
        **ledger.counts,
        "groups_unpackable": ledger.drops.get(UNPACKABLE, 0),
        "groups_interrupted": ledger.drops.get(INTERRUPTED, 0),
        "patience_spent": ledger.patience_spent,
    }


def _episode_metrics(groups: Sequence[Episodes]) -> dict[str, float | None]:
    """What went on in the episodes of some groups; nothing where there is no environment."""
    if not groups:
        return dict.fromkeys(
            ("turns_mean", "episode_seconds", "tool_calls", "tool_failures", "tokens_user", "tokens_tool")
        )
    counts = [group.count for group in groups]
    return {
        "turns_mean": _share([group.turns for group in groups], counts),
        "episode_seconds": _share([group.seconds for group in groups], counts),
        "tool_calls": sum(group.tool_calls for group in groups),
        "tool_failures": sum(group.tool_failures for group in groups),
        "tokens_user": sum(group.user_tokens for group in groups),
        "tokens_tool": sum(group.tool_tokens for group in groups),
    }


def alerts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What is to be said of a step, by the name of the metric."""
    return {
        name: f"{name} is {metrics[name]:.3g}, above {alert.above:g}: {alert.remedy}"
        for name, alert in ALERTS.items()
        if metrics[name] is not None and metrics[name] > alert.above
    }


REMEDIES = {  # stage -> what makes it shorter
    "generate": "allow staleness (rollout.max_staleness), add generators (cluster.generators), or spend fewer tokens "
    "on groups that are rejected (rollout.choose, rollout.rounds)",
    "verify": "add verifiers (cluster.verifiers), or shorten reward.seconds where verdicts time out",
    "train": "add learner ranks (cluster.learner_ranks), or raise learner.micro_batch_tokens",
    "sync": "train on more groups between syncs (rollout.groups_per_step), or raise sync.bucket_mib",
    "other": "evaluate beside training (eval.generators), or evaluate (eval.every) and save (run.checkpoint_every) "
    "less often",
}


def bottleneck(metrics: Mapping[str, float]) -> str:
    """The stage that the step spent most of its time on."""
    stages = seconds_by_stage([metrics])
    return max(stages, key=stages.__getitem__)


def seconds_by_stage(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Where the time of some steps went: seconds of the learner's stages, which add up to all of it."""
    waits, verdicts = (sum(line[name] for line in lines) for name in ("seconds_wait", "seconds_wait_verify"))
    rest = {stage: sum(line[f"seconds_{stage}"] for line in lines) for stage in ("train", "sync", "other")}
    return {"generate": waits - verdicts, "verify": verdicts} | rest


def where_the_time_went(lines: Sequence[Mapping[str, float]]) -> str:
    """One sentence: the stages' shares of the time, which of them is the bottleneck, and what to change."""
    stages = seconds_by_stage(lines)
    total = sum(stages.values()) or 1.0
    shares = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in stages.items())
    worst = max(stages, key=stages.__getitem__)
    waited = "waited for: " if worst in ("generate", "verify") else ""
    return f"time of the learner: {shares}. Most is {waited}{worst}; to shorten it, {REMEDIES[worst]}"


def waited_for_verdicts(done: TrainedStep) -> float:
    """Seconds of the learner's wait after the last response of its batch had been sampled: what faster verifiers would
    have saved."""
    times = [summary.times for summary in done.batch.summaries]
    sampled = max([done.taken_at - done.seconds_wait, *(time.generated_at for time in times)])
    verified = min(done.taken_at, max((time.verified_at for time in times), default=0.0))
    return max(0.0, verified - sampled)


def _share(parts: Sequence[float], wholes: Sequence[int]) -> float | None:
    return sum(parts) / sum(wholes) if sum(wholes) else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
