"""The sections about what a run learned: reward, accuracy, evaluation, entropy, KL, lengths, staleness, mismatch."""

from collections.abc import Mapping
from typing import Any

from cluster.report.charts import Axes, Line, Point, line_chart, thinned
from cluster.report.intervals import accuracy_interval
from cluster.report.page import Chart, Section, Table
from cluster.report.run_data import RunData
from cluster.report.series import MOST_ROWS, Measure, Reads, Runs, line_section, metric
from cluster.report.trajectories import StepResponses
from cluster.report.words import counted, number, share

BEFORE, AFTER = "all that were judged", "trained on"


def reward(runs: Runs) -> Section | None:
    """The score before and after the filter."""
    return line_section(
        runs,
        "Reward",
        [metric("reward_mean", BEFORE), metric("reward_trained", AFTER)],
        Axes(y="mean score"),
        what="the mean score of all responses",
        note="Before the filter: all responses that were judged since the last step (reward_mean). After it: those of "
        "the groups that were trained on (reward_trained).",
    )


def accuracy(runs: Runs) -> Section | None:
    """The share of correct responses before and after the filter."""
    after = Measure(name=AFTER, reads=_of_responses(lambda step: step.correct_trained))
    return line_section(
        runs,
        "Training accuracy",
        [metric("accuracy", BEFORE), after],
        Axes(y="share correct", form=".0%"),
        what="the share of correct responses",
        note="Before the filter: all responses that were judged since the last step (accuracy). After it: the "
        "responses that were trained on, counted in the trajectories. A filter that drops what is all correct or all "
        "wrong holds the second near the middle, however much is learned.",
    )


def agreement(runs: Runs) -> Section | None:
    """How well a reward model agrees with the rows that it learns from, and with held-out ones."""
    heldout = Measure(name="held out", reads=_of_evals("agreement"))
    return line_section(
        runs,
        "Agreement",
        [metric("agreement", "trained on"), heldout],
        Axes(y="share judged right", form=".0%"),
        what="the share of pairs or steps that the reward model judges right",
        note="Trained on: the rows of each update, before it. Held out: the rows of eval.path or eval.rows.",
    )


def agreement_loss(runs: Runs) -> Section | None:
    """The loss of a reward model on the same rows."""
    return line_section(
        runs,
        "Loss",
        [metric("agreement_loss", "trained on"), Measure(name="held out", reads=_of_evals("agreement_loss"))],
        Axes(y="nats"),
        what="the loss",
    )


def evaluation(runs: Runs) -> Section | None:
    """Held-out accuracy with its intervals."""
    lines, rows = [], []
    for name, run in runs.pairs:
        points = []
        for line in run.evals:
            interval = accuracy_interval(line)
            if interval is None:
                continue
            low, high = interval
            points.append(Point(x=float(line["step"]), y=float(line["accuracy"]), low=low, high=high))
            cells = [number(line["step"]), number(line["accuracy"]), f"{low:.3f} to {high:.3f}"]
            cells += [number(line.get(key)) for key in ("correct", "responses", "prompts")]
            rows.append(cells if runs.is_one else [name, *cells])
        if points:
            lines.append(Line(name="held-out accuracy" if runs.is_one else name, points=points))
    if not lines:
        return None
    told = [(_evaluated(name, run, alone=runs.is_one), _waited(run)) for name, run in runs.pairs if run.evals]
    sentence = "\n".join(" ".join(filter(None, said)) for said in told)
    columns = ["step", "accuracy", "95 % interval", "correct", "responses", "prompts"]
    kept = set(thinned(range(len(rows)), MOST_ROWS))
    return Section(
        title="Evaluation",
        sentence=sentence,
        charts=[Chart(spec=line_chart(lines, Axes(y="held-out accuracy", form=".0%"), dots=True), about=sentence)],
        tables=[
            Table(
                title=f"Table of {counted(len(kept), 'evaluation')}",
                columns=columns if runs.is_one else ["run", *columns],
                rows=[row for place, row in enumerate(rows) if place in kept],
            )
        ],
        note="The same held-out prompts and seeds each time. Bands are 95 % intervals (Wilson's, for as many "
        "independent responses as the differences between prompts leave): what other prompts of this kind would have "
        "shown. They say nothing of what another seed of training would have brought.",
    )


def _evaluated(name: str, run: RunData, *, alone: bool) -> str:
    told = [(line, interval) for line in run.evals if (interval := accuracy_interval(line))]
    if not told:
        return ""
    (first, before), (last, after) = told[0], told[-1]
    what = "Held-out accuracy" if alone else f"{name}: held-out accuracy"
    if len(told) == 1:
        return f"{what} was {_with_interval(first, before)}, evaluated once, after step {number(first['step'])}."
    moved = f"{what} went from {_with_interval(first, before)} to {_with_interval(last, after)}"
    if paired := _paired(first, last):
        return f"{moved}; {paired}."
    apart = "intervals do not overlap" if before[1] < after[0] or after[1] < before[0] else "intervals overlap"
    return f"{moved}; the two {apart}."


def _waited(run: RunData) -> str:
    """What evaluation cost, where the run has gone so far that it can be told."""
    waited = [line["waited"] for line in run.evals if isinstance(line.get("waited"), int | float)]
    walls = [wall for wall in run.column("wall_seconds") if wall]
    if not (waited and walls):
        return ""
    own = " on generators of its own" if any(line.get("evaluators") for line in run.evals) else ""
    return f"Training waited {sum(waited):.1f} s for evaluation{own}, {share(sum(waited) / walls[-1])} of its time."


def _with_interval(line: Mapping[str, Any], interval: tuple[float, float]) -> str:
    return f"{share(line['accuracy'])} ({share(interval[0])} to {share(interval[1])})"


def _paired(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """How many of the held-out prompts went better, and worse, where both evaluations say how each went."""
    before, after = first.get("by_prompt") or [], last.get("by_prompt") or []
    if not before or len(before) != len(after):
        return ""
    moves = [
        end[0] / end[1] - start[0] / start[1] for start, end in zip(before, after, strict=True) if start[1] and end[1]
    ]
    better, worse = sum(move > 0 for move in moves), sum(move < 0 for move in moves)
    return f"of {counted(len(moves), 'prompt')} {better} went better at the end than at the beginning and {worse} worse"


def entropy(runs: Runs) -> Section | None:
    """The policy's entropy."""
    return line_section(
        runs,
        "Entropy",
        [metric("entropy")],
        Axes(y="nats per token"),
        what="the policy's entropy",
        note="Of the next-token distribution, mean over the tokens that were trained on. Near 0 all responses to a "
        "prompt are the same, and groups teach nothing.",
    )


def kl(runs: Runs) -> Section | None:
    """How far the policy went from where it started."""
    return line_section(
        runs,
        "KL from the start",
        [metric("kl_start")],
        Axes(y="nats per token", zero=True),
        what="the KL divergence from the starting policy",
        note="The k3 estimate of KL(policy || starting policy) on a sample of the tokens that were trained on "
        "(kl_start).",
    )


def lengths(runs: Runs) -> Section | None:
    """How long responses are, from sampling to training."""
    measures = [
        metric("response_tokens_mean", "generated"),
        Measure(name="accepted", reads=_of_responses(lambda step: step.tokens_accepted)),
        Measure(name="trained", reads=_of_responses(lambda step: step.tokens_trained)),
    ]
    if not any(run.responses.steps for run in runs.runs):
        measures[1:] = [metric("response_tokens_kept", "accepted")]
    cut = [run.total("responses_truncated") for run in runs.runs]
    more = "Every response ended by itself." if not any(cut) else ""
    if any(cut) and runs.is_one:
        more = f"{counted(int(cut[0]), 'response was', 'responses were')} cut at the length limit."
    return line_section(
        runs,
        "Lengths",
        measures,
        Axes(y="tokens per response", zero=True),
        what="the mean length of a response",
        more=more,
        note="Generated: all responses since the last step. Accepted: those in groups that the filter let through. "
        "Trained: those that were trained on. Where the three part, the filter prefers short or long responses.",
    )


def staleness(runs: Runs) -> Section | None:
    """How old what is trained on is."""
    highest = max((value or 0 for run in runs.runs for value in run.column("staleness_max")), default=0)
    lead = (
        "Every token was sampled from the weights that it trained: nothing was stale."
        if not highest
        else f"No token was more than {counted(int(highest), 'version')} behind the weights that it trained."
    )
    section = line_section(
        runs,
        "Staleness",
        [metric("staleness_mean", "mean"), metric("staleness_max", "largest")],
        Axes(y="versions", zero=True),
        note="Versions between the weights that sampled a group's oldest token and those that it trained: the mean "
        "over the step's groups, and the largest.",
    )
    return None if section is None else _said(section, lead)


def mismatch(runs: Runs) -> Section | None:
    """Whether sampler and learner compute the same on what is trained on."""
    return line_section(
        runs,
        "Mismatch",
        [metric("mismatch_kl")],
        Axes(y="nats per token", form=".1~e", zero=True),
        what="the divergence of the sampler from the learner",
        more=_capped(runs),
        note="The k3 estimate of KL(sampler || learner at the start of the step) over the tokens that were trained on "
        "(mismatch_kl). Rounding alone gives next to nothing in float32 and up to about 0.01 in bfloat16; staleness "
        "adds to it.",
    )


def probe(runs: Runs) -> Section | None:
    """Whether generators and learner compute the same after a sync."""

    def above_zero(name: str, shown: str) -> Measure:
        measure = metric(name, shown)
        return Measure(name=shown, reads=lambda run: [(x, y or None) for x, y in measure.reads(run)])

    return line_section(
        runs,
        "Probe",
        [above_zero("probe_gap", "largest gap"), above_zero("probe_gap_mean", "mean gap")],
        Axes(y="nats", log=True),
        what="the largest gap of the probe",
        note="Difference of log-probabilities between a generator and the learner on one text after each sync, over "
        "its tokens (probe_gap, probe_gap_mean). In float32 it stays below 0.001, or the run ends; in lower precision "
        "it jumps by rounding, and its mean stays below 0.05.",
    )


def _capped(runs: Runs) -> str:
    highest = max((value or 0.0 for run in runs.runs for value in run.column("mismatch_capped")), default=0.0)
    return f"At most {share(highest)} of a step's tokens had their weight capped." if highest else ""


def _said(section: Section, sentence: str) -> Section:
    return Section(
        title=section.title, sentence=sentence, charts=section.charts, tables=section.tables, note=section.note
    )


def _of_responses(value: "Any") -> Reads:
    """A number of each step's responses, of steps that trained only."""

    def reads(run: RunData) -> list[tuple[float, float | None]]:
        known: list[StepResponses] = list(run.responses.steps)
        return [(float(step.step), value(step)) for step in known]

    return reads


def _of_evals(name: str) -> Reads:
    return lambda run: [(float(line["step"]), line.get(name)) for line in run.evals if "step" in line]
