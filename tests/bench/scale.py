"""Scale on paper: the real loop, ledger and chooser on a virtual clock, for clusters of 8 to 4,096 GPUs that nobody
here owns. Prints the section of docs/benchmarks.md on it.

    python -m tests.bench.scale            the section
    python -m tests.bench.scale --write    puts it on the page
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.bench.scale_costs import ASSUMED, COSTS, MEASURED, SHEET, Arithmetic, Links, cost, workload
from tests.bench.scale_layout import GROUPS, LONGEST, MODELS, ROOT, SIBLINGS, Planned, planned
from tests.bench.scale_stages import Course, ScaledLoop

PAGE = ROOT / "docs/benchmarks.md"
BEGIN, END = (
    "## Scale, on paper\n",
    "\n## Scale, checked against runs\n",
)  # how the section begins, and the one behind it
STEPS, LEFT_OUT = {8: 10, 64: 7, 512: 5, 4096: 3}, {8: 4, 64: 3, 512: 2, 4096: 1}
STALE = (1, 3)  # rollout.max_staleness
LARGE = 4096  # GPUs from which on only the first of them is simulated: the second takes as long as all the others
FULL = 0.9  # of its time or of its speed that a part works, from which on it is what holds the others up
GIGA = 1e9
CHANGES = {
    "engines": "more generators",
    "learner": "larger micro-batches, or weights sharded within groups of nodes",
    "closing": "a recorder on each node",
    "recorder": "a recorder on each node",
    "syncs": "one call handed on from engine to engine",
    "driver": "several groups in a call",
    "filter": "several groups in an offer",
    "verifiers": "more of them (`cluster.verifiers`)",
}
BEFORE = f"""
How fast the loop would be on clusters that are not here. `python -m tests.bench.scale` runs the real loop, ledger,
chooser and plan of a step on a virtual clock, with stages that take as long as the last table says; layouts are what
`winnow init` fits on nodes of 8 H100 (80 GiB, 192 CPUs, 2 TiB), divided as the last line of `--plan` proposes. No GPU
was measured: what the control plane takes was measured on two busy cores of an AMD EPYC, the rest is data sheets and
assumptions. Prompts have 1,024 tokens, responses about 4,060 (lognormal, cut at {LONGEST:,}), {SIBLINGS} to a group;
three groups in ten are refused.
"""
AFTER = """
A part's share is of its time, the engines' of the tokens that they would sample with all places taken; `closing` is the
wait for the filter's recorder, which writes a step's groups before the next weights are published. Training, closing
and syncs are one after the other; the loop waits for a batch in the rest of the time, while engines have no slots or
decode the last long responses of a step. `--plan` counts half of the greatest length for every response, twice the mean
here, and no tails. With 4,096 GPUs only S = 1 is simulated.
"""
SPEEDS = (
    "model",
    "GPUs",
    "layout",
    "groups a step",
    "seconds a step (`--plan`)",
    "groups a second",
    "thousand sampled tokens a second",
    "engines / learner / closing / syncs / driver",
    "first bottleneck at S = 1, and what would move it",
    "with S = 3: groups a second; bottleneck",
)
BYTES = (
    "model",
    "GPUs",
    "a sync, GB",
    "out of rank 0, GB/s",
    "each rank to others, GB/s",
    "groups to the filter, GB/s",
    "to disk, GB/s",
    "a checkpoint, GB",
    "calls a second",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cluster and model."""

    model: str
    gpus: int
    run: Planned
    links: Links
    courses: Sequence[Course]  # for each of STALE, or the first alone
    fastest: float  # tokens a second of all engines with all seats taken
    paused: float  # seconds of a sync in which engines stand still

    @property
    def layout(self) -> str:
        """In words."""
        config = self.run.config
        cluster, learner = config.cluster, config.learner
        wide = f" of {cluster.tensor_parallel} GPUs" if cluster.tensor_parallel > 1 else ""
        away = f', offload "{learner.offload}"' if learner.offload else ""
        engines = f"{cluster.fewest_generators:,} engine{'s' if cluster.fewest_generators > 1 else ''}{wide}"
        return f"{engines}, {cluster.learner_ranks:,} ranks at ZeRO {learner.zero_stage}{away}"

    def shares(self, course: Course) -> dict[str, float]:
        """Of what each part can do, how much it does. Training, closing the step's file, syncs and the wait for a batch
        are one after the other, and so shares of the same time."""
        return {
            "engines": course.tokens / course.seconds / self.fastest,
            "learner": course.busy["learner"],
            "closing": course.busy["closing"],
            "syncs": self.paused * course.steps / course.seconds,
            "driver": course.busy["driver"],
            "filter": course.busy["filter"],
            "recorder": course.busy["recorder"],
            "verifiers": course.busy["verifiers"],
        }

    def limit(self, course: Course) -> str:
        """What holds the run up first, and what would move it: a part that is at its limit, else what the loop does
        most of where it never waits for a batch, else the bound of staleness: the engines have no slots, or decode the
        last long responses of a step."""
        shares = self.shares(course)
        fullest = max(shares, key=shares.__getitem__)
        if shares[fullest] >= FULL:
            return f"{fullest} {shares[fullest]:.0%}: {CHANGES[fullest]}"
        chain = max(("learner", "closing", "syncs"), key=shares.__getitem__)
        if 1 - course.waited >= FULL:
            return f"training, closing and sync {1 - course.waited:.0%}, {chain} most of it: {CHANGES[chain]}"
        waits = f"slots: {course.waited:.0%} of the time the loop waits for a batch"
        return f"{waits}; more staleness, then {chain} ({shares[chain]:.0%})"


def row(model: str, gpus: int) -> Row:
    """Plans and simulates one."""
    run = planned(model, gpus)
    sums = Arithmetic(run)
    costs, work = sums.costs(), workload(run)
    cached = sums.seats * (work.prompt + sums.at_a_time / 2)
    return Row(
        model=model,
        gpus=gpus,
        run=run,
        links=sums.links(),
        courses=[
            ScaledLoop(costs, replace(work, max_staleness=stale)).run(STEPS[gpus] + stale, LEFT_OUT[gpus] + stale)
            for stale in (STALE[:1] if gpus >= LARGE else STALE)
        ],
        fastest=costs.engines * costs.seats / costs.decoding(costs.seats, cached),
        paused=costs.sync_calls + costs.transfer,
    )


def speed_line(row: Row) -> str:
    """A line of the table of speeds."""
    now = row.courses[0]
    more = [f"{_number(course.groups_per_second)}; {row.limit(course)}" for course in row.courses[1:]]
    shares = row.shares(now)
    cells = [
        row.model,
        f"{row.gpus:,}",
        row.layout,
        f"{row.run.config.rollout.groups_per_step:,}",
        f"{_number(now.seconds / now.steps)} ({_number(row.run.seconds)})",
        f"{_number(now.groups_per_second)}",
        f"{_number(now.tokens / now.seconds / 1000)}",
        " / ".join(f"{shares[name]:.0%}" for name in ("engines", "learner", "closing", "syncs", "driver")),
        row.limit(now),
        *(more or ["-"]),
    ]
    return f"| {' | '.join(cells)} |"


def bytes_line(row: Row) -> str:
    """A line of the table of bytes."""
    course, links = row.courses[0], row.links
    step = course.seconds / course.steps
    arrow = (course.tokens + course.groups * SIBLINGS * 1024) / course.seconds * cost("token")
    disk = arrow / cost("token") * cost("disk_token")
    cells = [
        row.model,
        f"{row.gpus:,}",
        f"{links.sync / GIGA:.3g} in {_number(row.paused)} s",
        f"{links.sync / GIGA / step:.2g}",
        f"{links.exchanged / GIGA / step:.2g}",
        f"{arrow / GIGA:.2g}",
        f"{disk / GIGA:.2g}",
        f"{links.checkpoint / GIGA:,.0f}",
        f"{links.calls / step + 2 * course.groups_per_second:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def section(lines: Sequence[str], more: Sequence[str]) -> str:
    """The section of the page.

    Args:
        lines: of the table of speeds.
        more: of the table of bytes.
    """
    costs = (known for source in (MEASURED, SHEET, ASSUMED) for known in COSTS.values() if known.source == source)
    return "\n".join(
        [
            BEGIN + BEFORE.rstrip("\n"),
            "",
            _header(SPEEDS),
            *lines,
            AFTER,
            _header(BYTES),
            *more,
            "",
            "What the simulation takes, in seconds and bytes:",
            "",
            _header(("", "", "source")),
            *(f"| {known.about} | {f'{known.value:.3g} {known.unit}'.strip()} | {known.source} |" for known in costs),
            "",
        ]
    )


def _header(names: Sequence[str]) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def on_page(text: str, page: str) -> str:
    """The page with the section in place of the one that it has."""
    start = page.index(BEGIN) if BEGIN in page else page.index(END) + 1
    return page[:start] + text + page[page.index(END) :]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="puts the section on the page")
    asked = parser.parse_args()
    rows = [row(model, gpus) for model in MODELS for gpus in GROUPS]
    text = section([speed_line(each) for each in rows], [bytes_line(each) for each in rows])
    if asked.write:
        PAGE.write_text(on_page(text, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
