"""Whether the simulation of scale says what real runs do: the same run is simulated with the stage costs that it
measured in every second pair of its steps, and both are compared.

    python -m tests.bench.scale_check            actors that are real and stages that sleep (starts Ray)
    python -m tests.bench.scale_check RUN ...    runs that have trained, from their folders
"""

import argparse
import json
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.bench.rig import Load, Mark, Plan, drawn, rig
from tests.bench.scale_costs import cost
from tests.bench.scale_stages import Costs, ScaledLoop, Workload

SECOND = 1000  # passes of an engine whose responses sleep: their tokens are milliseconds
PER_STEP, SIZE, STEPS, TOGETHER = 32, 8, 14, 64
SLEEPS = Load(response=0.5, tail=0.8, together=TOGETHER, update=1.2, update_tail=0.3)
SOLVED = 0.25 + 0.75 / 2 ** (SIZE - 1)  # share of the groups whose responses are all alike, as the rig makes them
WARM = 2  # steps that are left out: the pipe fills in them


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A run and its simulation."""

    name: str
    steps: int
    seconds: float  # of all of these steps, in the run
    simulated: float
    groups: float  # graded in a second, in the run
    simulated_groups: float

    @property
    def line(self) -> str:
        """A line of a table."""
        times = f"{self.seconds:.1f} | {self.simulated:.1f} ({self.simulated / self.seconds - 1:+.1%})"
        off = f"{self.simulated_groups / self.groups - 1:+.1%}"
        return f"| {self.name} | {self.steps} | {times} | {self.groups:.2f} | {self.simulated_groups:.2f} ({off}) |"


def sleeping(staleness: int) -> Compared:
    """Real actors, loop, ledger and files, and stages that sleep."""
    with rig() as parts, tempfile.TemporaryDirectory() as folder:
        parts.run(Plan(groups=4 * PER_STEP, per_step=PER_STEP), Path(folder) / "warm")
        wanted = int(STEPS * PER_STEP / (1 - SOLVED))
        plan = Plan(groups=wanted, load=SLEEPS, per_step=PER_STEP, size=SIZE, staleness=staleness)
        marks = parts.run(plan, Path(folder) / "run")
    return compared(f"stages that sleep, S = {staleness}", marks, sleeping_loop(staleness))


def sleeping_loop(staleness: int) -> ScaledLoop:
    """The simulation of it."""
    steps = iter(range(10**6))
    costs = Costs(
        engines=1,
        seats=TOGETHER,
        decoding=lambda count, cached: 1 / SECOND,
        dispatch=cost("group") / 2,
        reply=cost("group") / 2,
        filtering=cost("filter"),
        training=lambda tokens: drawn(SLEEPS.update, SLEEPS.update_tail, f"update/{next(steps) * PER_STEP}"),
    )
    work = Workload(
        groups_per_step=PER_STEP,
        group_size=SIZE,
        max_staleness=staleness,
        prompt=8,
        response=lambda draw: max(1, round(SECOND * drawn(SLEEPS.response, SLEEPS.tail, int(draw.integers(2**40))))),
        rejected=SOLVED,
    )
    return ScaledLoop(costs, work)


def compared(name: str, marks: Sequence[Mark], loop: ScaledLoop) -> Compared:
    """What the rig measured beside the simulation of as many steps."""
    start, end = marks[WARM], marks[-1]
    course = loop.run(end.step, WARM)
    return Compared(
        name=name,
        steps=end.step - WARM,
        seconds=end.seconds - start.seconds,
        simulated=course.seconds,
        groups=(end.graded - start.graded) / (end.seconds - start.seconds),
        simulated_groups=course.groups_per_second,
    )


def trained(folder: Path) -> Compared:
    """A run that has trained: its costs are those of every second pair of its steps, without the first two."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    start, steps = lines[WARM - 1], lines[WARM:]
    known, rollout = [step for step in steps if step["step"] // 2 % 2], settings["rollout"]
    lengths = _lengths(folder)
    costs = _costs(known, settings)
    work = Workload(
        groups_per_step=rollout["groups_per_step"],
        group_size=rollout["group_size"],
        max_staleness=rollout["max_staleness"],
        prompt=8,
        response=lambda draw: int(draw.choice(lengths)),
        rejected=1 - (steps[-1]["groups_kept"] - start["groups_kept"]) / (_graded(steps[-1]) - _graded(start)),
    )
    seconds = steps[-1]["wall_seconds"] - start["wall_seconds"]
    course = ScaledLoop(costs, work).run(len(lines), WARM)
    return Compared(
        name=f"{folder.name}, S = {work.max_staleness}",
        steps=len(steps),
        seconds=seconds,
        simulated=course.seconds,
        groups=(_graded(steps[-1]) - _graded(start)) / seconds,
        simulated_groups=course.groups_per_second,
    )


def _costs(known: Sequence[Any], settings: Any) -> Costs:
    """Of some steps. On a CPU an engine is bound by computing: each token takes the same share of the time in which a
    generator had a group in hand and was not paused, however many are decoded together."""

    def mean(name: str) -> float:
        return float(np.mean([step[name] or 0.0 for step in known]))

    whole = mean("seconds_wait") + mean("seconds_train") + mean("seconds_sync") + mean("seconds_other")
    sampling = mean("seconds_wait")
    if settings["rollout"]["max_staleness"]:
        sampling = max(0.0, mean("busy_generators") * whole - mean("seconds_sync"))
    sampling -= mean("seconds_wait_verify")
    token = sampling * mean("generators") / mean("tokens_generated")
    responses, seconds = (
        settings["rollout"]["groups_per_step"] * settings["rollout"]["group_size"],
        mean("seconds_train"),
    )
    return Costs(
        engines=max(1, round(mean("generators"))),
        seats=responses * 8,
        decoding=lambda count, cached: token * count,
        verifiers=responses * 8,
        verdict=mean("seconds_wait_verify"),
        dispatch=cost("group") / 2,
        reply=cost("group") / 2,
        filtering=cost("filter"),
        training=lambda tokens: seconds,
        transfer=mean("seconds_sync"),
        between=mean("seconds_other"),
    )


def _graded(line: Any) -> int:
    """Groups that have ended with a verdict until then."""
    return int(line["groups_kept"] + line["groups_all_correct"] + line["groups_all_wrong"] + line["groups_failed"])


def _lengths(folder: Path) -> np.ndarray:
    """Tokens of all sampled responses."""
    table = pq.read_table(folder / "trajectories", columns=["prompt_tokens", "tokens"])
    return pc.list_value_length(table["tokens"]).to_numpy() - table["prompt_tokens"].to_numpy()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="*", type=Path, help="folders of runs; none has stages sleep")
    runs: list[Path] = parser.parse_args().run
    checks: list[Callable[[], Compared]] = [lambda folder=each: trained(folder) for each in runs]  # type: ignore[misc]
    print("| run | steps | seconds | simulated | groups a second | simulated |\n|---|---|---|---|---|---|")
    for check in checks or [lambda: sleeping(0), lambda: sleeping(1)]:
        print(check().line, flush=True)


if __name__ == "__main__":
    main()
