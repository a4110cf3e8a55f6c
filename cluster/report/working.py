"""The sections about how a run worked: the ledger, stage times, verdicts, checkers, episodes, and single prompts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.report.charts import Axes, Line, Point, Spec, averaged, stacked_chart
from cluster.report.page import Card, Chart, Section
from cluster.report.run_data import RunData
from cluster.report.series import Measure, Runs, averaging, line_section, metric, step_table_of
from cluster.report.trajectories import SeenGroup
from cluster.report.words import counted, listed, number, share
from cluster.reporting.metrics import REMEDIES, seconds_by_stage
from cluster.reporting.terminal import plain
from cluster.reporting.words import duration

LEDGER = {  # metric -> its name on the page, and its colour
    "groups_kept": ("kept", "@c2"),
    "groups_all_correct": ("all correct", "@c0"),
    "groups_all_wrong": ("all wrong", "@c1"),
    "groups_failed": ("failed", "@c7"),
    "groups_dropped": ("dropped", "@grey"),
}
STAGES = {"generate": "@c0", "verify": "@c5", "train": "@c2", "sync": "@c4", "other": "@grey"}
OUTCOMES = {
    "correct": "@c2",
    "wrong": "@c1",
    "unparsable": "@c5",
    "late": "@c4",
    "timeout": "@c3",
    "error": "@c7",
}
Stacks = Mapping[str, Mapping[float, float]]  # name -> step -> value
LONGEST_TEXT = 700  # characters of a prompt or response


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacked:
    """A section with a stacked chart of each run."""

    title: str
    note: str
    found: Callable[[RunData], Stacks]
    told: Callable[[RunData, Stacks], str]  # the sentence above it
    drawn: Callable[[Sequence[Line]], Spec]  # the chart
    sums: bool = False  # whether what is never there is left out, and a run that has nothing else
    is_wide: bool = False  # also with one run

    def of(self, runs: Runs) -> Section | None:
        """The section; None where no run has anything of it."""
        charts, tables, sentences, largest = [], [], [], 1
        for name, run in runs.pairs:
            stacks = self.found(run)
            if not any(any(values.values()) if self.sums else values for values in stacks.values()):
                continue
            lines, size = _stacks(stacks, sums=self.sums)
            largest = max(largest, size)
            sentence, shown = self.told(run, stacks), "" if runs.is_one else name
            sentences.append(f"{shown}: {sentence}" if shown else sentence)
            charts.append(Chart(spec=self.drawn(lines), about=sentence, title=shown))
            tables.append(step_table_of(stacks, name=shown))
        if not charts:
            return None
        return Section(
            title=self.title,
            sentence="\n".join(sentences),
            charts=charts,
            tables=tables,
            note=f"{self.note} {averaging(largest)}".strip(),
            is_wide=self.is_wide or len(charts) > 1,
        )


def ledger(runs: Runs) -> Section | None:
    """What became of the groups, step by step."""
    return Stacked(
        title="Ledger",
        note="Groups by what became of them, in the step in which it was known: accepted by the filter, rejected "
        "because every response was correct or none was, failed because fewer than two had a verdict, or dropped for "
        "another reason.",
        found=lambda run: {shown: _gains(run, key) for key, (shown, _) in LEDGER.items()},
        told=lambda run, _: _fates(run),
        drawn=lambda lines: stacked_chart(lines, Axes(y="groups", zero=True), dict(LEDGER.values())),
    ).of(runs)


def _gains(run: RunData, key: str) -> dict[float, float]:
    """How much a total grew in each step."""
    found, before = {}, 0.0
    for step, total in zip(_steps(run), run.column(key), strict=True):
        if total is not None:
            found[step] = max(0.0, total - before)
            before = total
    return found


def _fates(run: RunData) -> str:
    """What became of all groups, in a sentence."""
    totals = {shown: int(sum(_gains(run, key).values())) for key, (shown, _) in LEDGER.items()}
    ended = sum(totals.values())
    if not ended:
        return "No group was graded yet."
    parts = [f"{count:,} {shown} ({share(count / ended)})" for shown, count in totals.items() if count]
    last = run.steps[-1].get("dropped")
    reasons = [f"{plain(str(why))}: {number(count)}" for why, count in last.items()] if isinstance(last, dict) else []
    why = f" Drops by reason: {listed(reasons)}." if reasons else ""
    return f"Of {counted(ended, 'group')}, {listed(parts)}.{why}"


def stages(runs: Runs) -> Section | None:
    """Where the time went."""
    return Stacked(
        title="Time of the stages",
        note="How the learner's time in each step divides: waiting for responses (generate), for verdicts alone "
        "(verify), training, syncing weights, and the rest. The stage that took longest, the bottleneck of the step, "
        "is in full colour.",
        found=_stage_times,
        told=_bottleneck,
        drawn=lambda lines: stacked_chart(lines, Axes(y="seconds", zero=True), STAGES, bars=True),
        is_wide=True,
    ).of(runs)


def _stage_times(run: RunData) -> dict[str, dict[float, float]]:
    spent: dict[str, dict[float, float]] = {stage: {} for stage in STAGES}
    for step, line in zip(_steps(run), run.steps, strict=True):
        try:
            seconds = seconds_by_stage([line])
        except (KeyError, TypeError):
            continue  # of a line that lacks a time
        for stage, value in seconds.items():
            spent[stage][step] = max(0.0, value)
    return spent


def _bottleneck(run: RunData, spent: Stacks) -> str:
    totals = {stage: sum(times.values()) for stage, times in spent.items()}
    whole = sum(totals.values()) or 1.0
    worst = max(totals, key=totals.__getitem__)
    steps = Counter(str(line.get("bottleneck")) for line in run.steps)
    shares = ", ".join(f"{stage} {share(seconds / whole)}" for stage, seconds in totals.items())
    return (
        f"Most of {duration(whole)} went to {worst}, which was the bottleneck in {steps.get(worst, 0)} of "
        f"{counted(len(run.steps), 'step')} ({shares}). To shorten it, {REMEDIES[worst]}."
    )


def outcomes(runs: Runs) -> Section | None:
    """How verdicts ended."""
    return Stacked(
        title="Verdicts",
        note="Unparsable: no answer was found, scored like a wrong one. Late: the response made its own grading take "
        "too long, scored like a wrong one. Timeout and error: there is no verdict, and nothing is learned from it.",
        found=_outcome_counts,
        told=_outcomes_told,
        drawn=lambda lines: stacked_chart(lines, Axes(y="share of responses", form=".0%"), OUTCOMES, share=True),
        sums=True,
    ).of(runs)


def _outcomes_told(run: RunData, counts: Stacks) -> str:
    totals = {outcome: int(sum(steps.values())) for outcome, steps in counts.items()}
    whole = sum(totals.values())
    told = [f"{count:,} {outcome} ({share(count / whole)})" for outcome, count in totals.items() if count]
    return f"Of {counted(whole, 'response')}, {listed(told)}."


def _outcome_counts(run: RunData) -> dict[str, dict[float, float]]:
    """Counts by outcome and step; nothing without trajectories, as no metric counts every outcome."""
    seen = {outcome for step in run.responses.steps for outcome in step.outcomes}
    names = [outcome for outcome in OUTCOMES if outcome in seen] + sorted(seen - set(OUTCOMES))
    return {
        outcome: {float(step.step): float(step.outcomes.get(outcome, 0)) for step in run.responses.steps}
        for outcome in names
    }


def checkers(runs: Runs) -> Section | None:
    """Where a second checker judges otherwise, or a judge could not be read."""
    return line_section(
        runs,
        "Disagreement of the checkers",
        [metric("verifier_disagreement", "second checker"), _unless_zero("judge_unread", "judge unread")],
        Axes(y="share of responses", form=".1%", zero=True),
        what="the share of responses that a second, cheap checker judges otherwise",
        note="Where it is high, read responses that they differ about (`winnow look`): one of the two is wrong. Known "
        "of rewards with a second checker only.",
    )


def _unless_zero(name: str, shown: str) -> Measure:
    """A metric, unless it was 0 all along."""
    measure = metric(name, shown)
    return Measure(name=shown, reads=lambda run: measure.reads(run) if any(run.column(name)) else [])


def episodes(runs: Runs) -> Section | None:
    """Turns and tools, where the policy meets an environment."""
    return line_section(
        runs,
        "Episodes",
        [metric("turns_mean", "turns in an episode")],
        Axes(y="turns", zero=True),
        what="the mean number of turns in an episode",
    )


def changes(runs: Runs) -> Section | None:
    """The prompts that changed most between two steps."""
    cards, sentences = [], []
    for name, run in runs.pairs:
        told = run.responses
        before = "" if runs.is_one else f"{name}: "
        if told.lacking:
            sentences.append(f"{before}{told.lacking}.")
        elif not told.visited_twice:
            sentences.append(f"{before}no prompt was sampled in two steps yet, so none can be compared.")
        elif not told.changes:
            sentences.append(
                f"{before}{counted(told.visited_twice, 'prompt was', 'prompts were')} sampled in two steps or more, "
                "and none had another score the last time than the first."
            )
        else:
            better = sum((change.last.score or 0) > (change.first.score or 0) for change in told.changes)
            sentences.append(
                f"{before}{counted(told.visited_twice, 'prompt was', 'prompts were')} sampled in two steps or more; of "
                f"the {len(told.changes)} that changed most, {better} went better the last time than the first."
            )
        for change in told.changes if runs.is_one else told.changes[:2]:
            cards.append(
                Card(
                    title=f"{before}prompt {plain(change.first.prompt_id)}: {_of_correct(change.first)} in step "
                    f"{change.first.step}, {_of_correct(change.last)} in step {change.last.step}",
                    pairs=[
                        ("prompt", _cut(change.first.prompt)),
                        *([("reference", _cut(change.first.reference))] if change.first.reference else []),
                        *_example(change.first),
                        *_example(change.last),
                    ],
                )
            )
    sentence = "\n".join(sentences)
    return Section(
        title="Groups that changed most",
        sentence=sentence[:1].upper() + sentence[1:],
        cards=cards,
        note="By the mean score of a prompt's group, the first time that it was sampled against the last."
        if cards
        else "",
        is_wide=True,
    )


def _of_correct(group: SeenGroup) -> str:
    return f"{group.correct} of {len(group.responses)} correct"


def _example(group: SeenGroup) -> list[tuple[str, str]]:
    """The response of a group that stands for most of it."""
    wants_correct = 2 * group.correct >= len(group.responses)
    fitting = [response for response in group.responses if (response.outcome == "correct") == wants_correct]
    shown = (fitting or list(group.responses))[0]
    why = f" ({plain(shown.why)[:200]})" if shown.why else ""
    return [(f"step {group.step}, {shown.outcome}", _cut(shown.text) + _cut(why))]


def _cut(text: str) -> str:
    text = plain(text)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _steps(run: RunData) -> list[float]:
    return [float(line.get("step") or 0) for line in run.steps]


def _stacks(stacks: Stacks, *, sums: bool) -> tuple[list[Line], int]:
    """Lines with equal x; with `sums` a line without anything is left out."""
    steps = sorted({step for values in stacks.values() for step in values})
    lines, size = [], 1
    for name, values in stacks.items():
        if sums and not any(values.values()):
            continue
        points, size = averaged([Point(x=step, y=values.get(step, 0.0)) for step in steps])
        lines.append(Line(name=name, points=points))
    return lines, size
