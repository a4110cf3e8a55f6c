"""How near the pipeline comes to a perfect overlap of its stages: with sleeps for stages, and with the real ones."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.figures import Chart, Figure, Part
from tests.bench.rig import Load, Mark, Plan, Rig, drawn, rig
from tests.bench.virtual import Course, Pipeline

SLEEPS = 0.95
RATIOS = (0.5, 1.0, 2.0)  # seconds of learning over seconds of generation
STALENESS = (1, 2)
FULL = 4  # S of sampling alone: engines never wait for slots
TAIL = 1.0
UPDATE_TAIL = 0.3
Lines = dict[float, list[tuple[float, float]]]  # ratio -> share of the ideal for each S


def with_sleeps(quick: bool = False) -> Part:
    """Stages that sleep, with heavy tails, under the real loop, pool, verifiers, filter and ledger.

    Each stage's own time is measured with the other at no cost; sampling alone has the most slots, so that engines are
    always full. The ideal is the slower of the two. The same in virtual time tells what S allows at all.
    """
    steps, per_step, mean = (5, 16, 0.03) if quick else (10, 32, 0.07)
    groups = int(steps * per_step * 4 / 3)  # a quarter of the groups is rejected
    load = Load(response=mean, tail=TAIL, together=per_step)
    shares, allowed = Lines(), Lines()
    with rig() as parts, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts.run(Plan(groups=per_step * 4, per_step=per_step), folder / "warm")
        plan = Plan(groups=groups, load=load, per_step=per_step, staleness=FULL)
        generation = step_seconds(parts.run(plan, folder / "generation"))
        for ratio in RATIOS:
            update = ratio * generation
            learning = _learning(parts, folder / f"learning{ratio}", groups, per_step, update)
            both = replace(load, update=update, update_tail=UPDATE_TAIL)
            shares[ratio] = []
            for staleness in STALENESS if ratio == 1.0 else (1,):
                plan = Plan(groups=groups, load=both, per_step=per_step, staleness=staleness)
                marks = parts.run(plan, folder / f"{ratio}-{staleness}")
                shares[ratio].append((staleness, max(generation, learning) / step_seconds(marks)))
            allowed[ratio] = [(s, allowed_share(load, ratio, steps, per_step, s)) for s, _ in shares[ratio]]
    return _report(shares, allowed, generation)


def allowed_share(load: Load, ratio: float, steps: int, per_step: int, staleness: int) -> float:
    """What the stages of `load` reach of the slower one in virtual time: nothing but the bound S stands in the way."""

    def seconds(response: float, update: float, staleness: int) -> float:
        course = Course(
            responses=lambda group: [drawn(response, TAIL, f"{group}/{n}") if response else 0.0 for n in range(8)],
            update=lambda step: drawn(update, UPDATE_TAIL, f"update/{step}") if update else 0.0,
            publish=0.0,
            rejected=lambda group: group % 4 == 0,
            seats=load.together,
        )
        pipeline = Pipeline(course, groups_per_step=per_step, max_staleness=staleness)
        pipeline.run(steps)
        return (pipeline.ends[-1] - pipeline.ends[0]) / (steps - 1)

    generation = seconds(load.response, 0.0, FULL)
    update = ratio * generation
    return max(generation, seconds(0.0, update, staleness)) / seconds(load.response, update, staleness)


def _learning(parts: Rig, folder: Path, groups: int, per_step: int, update: float) -> float:
    load = Load(update=update, update_tail=UPDATE_TAIL)
    return step_seconds(parts.run(Plan(groups=groups, load=load, per_step=per_step), folder))


def step_seconds(marks: Sequence[Mark]) -> float:
    """Seconds a step, the first one left out: the pipe fills in it."""
    return (marks[-1].seconds - marks[1].seconds) / (len(marks) - 2)


def _report(shares: Lines, allowed: Lines, generation: float) -> Part:
    names = {ratio: f"learning takes {ratio:g} of generation" for ratio in shares}
    figures = [
        Figure(
            name=f"stages that sleep, {names[ratio]}, S = {staleness}",
            reached=dict(line)[staleness],
            unit="of max(stage)",
            target=SLEEPS,
            note=f"S = {staleness} allows {dict(allowed[ratio])[staleness]:.3f}",
        )
        for ratio, line in shares.items()
        for staleness in ((1, 2) if ratio == 1.0 else (1,))
    ]
    chart = Chart(
        title="Throughput over that of the slower stage alone, stages that sleep",
        x="S, versions that sampling may run ahead",
        y="of max(stage)",
        lines={names[ratio]: line for ratio, line in shares.items()} | {f"{names[1.0]}, what S allows": allowed[1.0]},
    )
    return Part(
        figures=figures,
        charts=[chart],
        details={"generation_seconds_a_step": generation},
        remarks=[
            "With S = 1 there are slots for two steps' groups. While one step's groups are trained on, the others are "
            "sampled, and where both stages take equally long the engines run dry on the longest responses of a step "
            "before slots are free again. Each further version of S adds a step's slots and fills that gap. "
            "What S allows is the same loop and ledger in virtual time, where nothing but the stages takes any."
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a stage costs by itself, for each token that goes through."""

    seconds: float
    cpu: float  # core seconds


def overlap(generation: Alone, learning: Alone, tokens: tuple[float, float], cores: int) -> float:
    """Seconds that a perfect overlap of both stages takes for (generated, trained) tokens.

    The longer stage bounds it, and so do the cores, which overlapping does not multiply:
    max(t_g n_g, t_l n_l, (c_g n_g + c_l n_l) / cores), t seconds and c core seconds of a token.
    """
    generated, trained = tokens
    work = generation.cpu * generated + learning.cpu * trained
    return max(generation.seconds * generated, learning.seconds * trained, work / cores)


if __name__ == "__main__":
    import sys

    print(json.dumps(with_sleeps(quick="--quick" in sys.argv).as_json(), indent=1))
