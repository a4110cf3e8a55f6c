"""Winnow against TRL's GRPOTrainer: the same model, prompts, group size, lengths, learning rate and cores, in one run.

The sides take turns, each in processes of its own that no other work runs beside, and each turn begins from the same
weights. Time is counted from the first step on: starting up, compiling and reading are left out on both sides.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.figures import Chart, Figure, Part
from tests.bench.workloads import WORKLOADS, write_workload

ROOT = Path(__file__).parents[2]
PYTHONS = {"winnow": ROOT / ".venv/bin/python", "trl": ROOT / ".venv-bench/bin/python"}
MODULES = {"winnow": "tests.bench.peer_winnow", "trl": "tests.bench.peer_run"}
WARM = {"short": 250, "long": 0}
GAIN = 0.15  # of accuracy above that at the start is what the time is taken for
SPEED = {"short": 1.5, "long": 3.0}
HALF = 0.5
LITTLE = 0.02  # CPU milliseconds that the page leaves out
REASON = (
    "On two cores both sides are bound by CPU time, so their speeds are as what a sample costs them. TRL samples all "
    "prompts of a step as one batch, which is cheap while all answers are short and lasts until the longest has ended. "
    "winnow pays for each response: a request to the engine, its place in the engine's schedule, a verdict in a "
    "process of its own, its way through filter and ledger."
)
Line = Mapping[str, float]
Turns = Mapping[str, Sequence[Sequence[Line]]]  # side -> its turns -> their steps
Cost = Mapping[str, float]  # process -> CPU milliseconds for a sample


def measure(seconds: float = 42.0, rounds: int = 2, quick: bool = False) -> Part:
    """Both workloads, in turns of at most `seconds`, winnow first and then TRL, so many times."""
    if not PYTHONS["trl"].is_file():
        return Part(figures=[], remarks=["TRL is not there: make bench-env installs it."])
    seconds, rounds = (12.0, 1) if quick else (seconds, rounds)
    figures, charts, details, remarks = list[Figure](), list[Chart](), {}, list[str]()
    with tempfile.TemporaryDirectory() as place:
        for name, work in WORKLOADS.items():
            folder = Path(place) / name
            write_workload(work, folder)
            _process("winnow", folder, "warm", WARM[name] // (4 if quick else 1))
            turns: dict[str, list[list[Line]]] = {"winnow": [], "trl": []}
            costs: dict[str, list[Cost]] = {"winnow": [], "trl": []}
            for _ in range(rounds):
                for side in turns:
                    steps, cost = _process(side, folder, seconds, 2.0)
                    turns[side].append(steps)
                    costs[side].append(cost)
            figures += speed_figures(name, turns)
            figures += accuracy_figures(name, turns)
            charts.append(_chart(name, turns))
            details[name] = {"turns": turns, "CPU ms a sample": costs}
            remarks.append(cost_remark(name, costs))
    return Part(figures=figures, charts=charts, details=details, remarks=[*remarks, REASON])


def speed_figures(name: str, turns: Turns) -> list[Figure]:
    """Samples and trained tokens a second, medians over the turns, winnow's over TRL's."""
    rates = {side: [speed(lines) for lines in several] for side, several in turns.items()}
    found = []
    for at, what in enumerate(("samples/s", "trained tokens/s")):
        ours, theirs = (statistics.median(turn[at] for turn in rates[side]) for side in ("winnow", "trl"))
        found.append(
            Figure(
                name=f"{what} against TRL, {name} answers",
                reached=ours / theirs,
                unit="x",
                target=SPEED[name] if at == 0 else None,
                note=f"winnow {ours:.0f}, TRL {theirs:.0f}",
            )
        )
    return found


def speed(lines: Sequence[Line]) -> tuple[float, float]:
    """(samples, sampled tokens) a second, from the end of the first step to the end of the last; a turn of one step
    counts from its begin."""
    begin = {"seconds": 0.0, "samples": 0.0, "tokens": 0.0}
    first, last = lines[0] if len(lines) > 1 else begin, lines[-1]
    seconds = last["seconds"] - first["seconds"]
    return (last["samples"] - first["samples"]) / seconds, (last["tokens"] - first["tokens"]) / seconds


def accuracy_figures(name: str, turns: Turns) -> list[Figure]:
    """Seconds to the same accuracy, winnow's over TRL's: the highest that every turn reached, if that is a gain."""
    start = statistics.mean(lines[0]["accuracy"] for several in turns.values() for lines in several)
    best = min(max(line["accuracy"] for line in lines) for several in turns.values() for lines in several)
    wanted = min(best, start + GAIN)
    if wanted < start + GAIN / 3:
        note = f"no side gained enough in its turns to be compared: from {start:.2f} to {best:.2f} at the least"
        return [Figure(name=f"seconds to the same accuracy, {name} answers", reached=float("nan"), unit="x", note=note)]
    ours, theirs = (statistics.median(until(lines, wanted) for lines in turns[side]) for side in ("winnow", "trl"))
    return [
        Figure(
            name=f"seconds to the same accuracy against TRL, {name} answers",
            reached=ours / theirs,
            unit="x",
            target=HALF,
            most=True,
            note=f"from {start:.2f} to {wanted:.2f}: winnow {ours:.1f} s, TRL {theirs:.1f} s",
        )
    ]


def until(lines: Sequence[Line], accuracy: float) -> float:
    """Seconds until the mean accuracy of the last steps was so high."""
    return next(line["seconds"] for line in lines if line["accuracy"] >= accuracy)


def cost_remark(name: str, costs: Mapping[str, Sequence[Cost]]) -> str:
    """What a sample costs each side, in the last turn."""
    winnow, trl = (sorted(costs[side][-1].items(), key=lambda item: -item[1]) for side in ("winnow", "trl"))
    told = ", ".join(f"{process} {spent:.2f}" for process, spent in winnow if spent >= LITTLE)
    ours, theirs = (sum(spent for _, spent in found) for found in (winnow, trl))
    return f"CPU milliseconds a sample, {name} answers: winnow {ours:.2f} ({told}), TRL {theirs:.2f}."


def _process(side: str, folder: Path, *arguments: object) -> tuple[list[Line], Cost]:
    """One turn: its steps, and what a sample cost.

    Raises:
        RuntimeError: it failed; its last words are in the message.
    """
    command = [str(PYTHONS[side]), "-W", "ignore", "-m", MODULES[side], str(folder), *map(str, arguments)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} ended with status {done.returncode}: {done.stderr[-2000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    costs = [line["cpu"] for line in lines if "cpu" in line]
    return [line for line in lines if "cpu" not in line], costs[-1] if costs else {}


def _chart(name: str, turns: Turns) -> Chart:
    lines = {
        f"{'TRL' if side == 'trl' else side}, turn {number}": [(line["seconds"], line["accuracy"]) for line in turn]
        for side, several in turns.items()
        for number, turn in enumerate(several, start=1)
    }
    return Chart(title=f"Accuracy of samples, {name} answers", x="seconds", y="accuracy", lines=lines)


if __name__ == "__main__":
    print(json.dumps(measure(quick="--quick" in sys.argv).as_json(), indent=1))
