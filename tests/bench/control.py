"""The control plane alone: how many groups a second go through generator, verifier, filter and learner when engines
answer at once, what a group costs after many others, and whether the driver's memory stays flat."""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.bench.figures import Chart, Figure, Part
from tests.bench.rig import Mark, Plan, rig

SIZES = (64, 128, 256)  # P
FAST = 500.0  # groups a second
FLAT = 0.10
EVERY = 8  # steps of the long run between two marks
LONG = 180.0  # seconds that the long run may take; the page says how many groups it came to


def measure(groups: int = 100_000, quick: bool = False) -> Part:
    """Groups a second over one long run of `groups` groups at P = 128, and over short ones at each P."""
    warm, each, long = (500, 1000, 3000) if quick else (2000, 5000, groups)
    with rig() as parts, tempfile.TemporaryDirectory() as folder:
        parts.run(Plan(groups=warm), Path(folder) / "warm")
        rates = {}
        for size in SIZES:
            rates[size] = round(rate(parts.run(Plan(groups=each, per_step=size, every=2), Path(folder) / str(size))))
        marks = parts.run(Plan(groups=long, seconds=LONG, every=EVERY), Path(folder) / "long")
    spent = marks[-1].used.since(marks[0].used)
    cost = {name: 1000 * seconds / marks[-1].graded for name, seconds in spent.items()}
    told = ", ".join(f"{name} {each:.2f}" for name, each in list(cost.items())[:6])
    return Part(
        figures=[
            Figure(
                name="groups through generator, verifier, filter, learner",
                reached=rate(marks),
                unit="groups/s",
                target=FAST,
                note=f"8 responses to a group; in short runs, by P: {rates}; CPU ms a group: {told}",
            ),
            *_flatness(marks),
        ],
        charts=[_chart(marks)],
        details={"groups_per_second": rates, "cpu_ms_per_group": cost, "long_run_groups": marks[-1].graded},
    )


def rate(marks: Sequence[Mark]) -> float:
    """Groups a second over the run without its first fifth."""
    start = marks[len(marks) // 5]
    return (marks[-1].graded - start.graded) / (marks[-1].seconds - start.seconds)


def costs(marks: Sequence[Mark], windows: int = 20) -> list[tuple[float, float, float]]:
    """(groups so far, CPU ms a group, wall ms a group) in windows of the run, the first step left out."""
    at = np.unique(np.linspace(1, len(marks) - 1, min(windows, len(marks) - 1) + 1).astype(int))
    found = []
    for a, b in pairwise(at):
        first, last = marks[a], marks[b]
        groups = last.graded - first.graded
        cpu = last.used.seconds - first.used.seconds
        found.append((last.graded, 1000 * cpu / groups, 1000 * (last.seconds - first.seconds) / groups))
    return found


def _flatness(marks: Sequence[Mark]) -> list[Figure]:
    """The cost of a group at the end against that near the start, and the driver's memory between them."""
    windows = costs(marks)
    count = max(1, len(windows) // 5)
    early, late = (np.mean([cpu for _, cpu, _ in some]) for some in (windows[:count], windows[-count:]))
    near = next(mark for mark in marks if mark.graded >= marks[-1].graded / 10)
    return [
        Figure(
            name="cost of a group at the end of the run against that at its start",
            reached=float(late / early),
            unit="x",
            target=1 + FLAT,
            most=True,
            note=f"{marks[-1].graded:,} groups; CPU seconds of all processes, last fifth over first fifth",
        ),
        Figure(
            name="driver memory, at the end against a tenth of the run",
            reached=marks[-1].used.memory / near.used.memory,
            unit="x",
            target=1.05,
            most=True,
            note=f"{near.used.memory:.0f} MiB after {near.graded:,} groups, {marks[-1].used.memory:.0f} at the end",
        ),
    ]


def _chart(marks: Sequence[Mark]) -> Chart:
    windows = costs(marks)
    lines = {
        "CPU, all processes": [(n, cpu) for n, cpu, _ in windows],
        "wall clock": [(n, wall) for n, _, wall in windows],
    }
    return Chart(title="Cost of a group", x="groups so far", y="ms", lines=lines)


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv).as_json(), indent=1))
