"""Winnow against TRL's GRPOTrainer: the same model, prompts, group size, lengths, learning rate and cores, in one run.

The sides take turns, each in processes of its own that no other work runs beside, and each turn begins from the same
weights. Time is counted from the first step on: starting up, compiling and reading are left out on both sides.
"""

import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.figures import Chart, Figure, Part, number
from tests.bench.paired import Line, Turns, speed_interval, until_interval
from tests.bench.processes import in_time
from tests.bench.records import ROOT, about_now
from tests.bench.workloads import WORKLOADS, Workload, write_workload

PYTHONS = {"winnow": ROOT / ".venv/bin/python", "trl": ROOT / ".venv-bench/bin/python"}
MODULES = {"winnow": "tests.bench.peer_winnow", "trl": "tests.bench.peer_run"}
SIDES = ("winnow", "trl")
STARTS = ROOT / "runs" / "bench" / "starts"  # warmed-up models
STARTING = 80.0  # seconds that both sides may take to start and end, beside their turns
SPARE = 15.0  # seconds for which a turn may go on behind the end
GAIN = 0.15  # of accuracy above that at the start is what the time is taken for
HALF = 0.5
LITTLE = 0.02  # CPU milliseconds that the page leaves out
REASON = (
    "On two cores both sides are bound by CPU time, so their speeds are as what a sample costs them. TRL samples all "
    "prompts of a step as one batch, which is cheap while all answers are short and lasts until the longest has ended, "
    "and it reads a prompt once for each of its responses. winnow pays for each response: a request to the engine, its "
    "place in the engine's schedule, a verdict in a process of its own, its way through filter and ledger."
)
Cost = Mapping[str, float]  # process -> CPU milliseconds for a sample


def measure(run: int = 0, share: float = 1.0, names: Sequence[str] = tuple(WORKLOADS), minutes: float = 10.5) -> Part:
    """Each workload, a turn for each side.

    Args:
        run: runs recorded before this one; the side that goes first alternates with it.
        share: of the seconds of each workload's turns.
        names: of the workloads.
        minutes: for all; a workload that would take longer is left out.
    """
    if not PYTHONS["trl"].is_file():
        return Part(figures=[], remarks=["TRL is not there: make bench-env installs it."])
    ends = time.monotonic() + 60 * minutes
    figures, charts, details, remarks = list[Figure](), list[Chart](), {}, list[str]()
    with tempfile.TemporaryDirectory() as place:
        for number_of, name in enumerate(names):
            work = WORKLOADS[name]
            if time.monotonic() + STARTING + 2 * share * work.seconds > ends:
                remarks.append(f"{work.title}: no time was left for it.")
                continue
            order = SIDES if (run + number_of) % 2 == 0 else SIDES[::-1]
            try:
                folder = prepare(work, Path(place))
                found = {
                    side: turn(side, folder, share * work.seconds, 2.0, limit=ends + SPARE - time.monotonic())
                    for side in order
                }
            except RuntimeError as problem:  # the other workloads are measured all the same
                remarks.append(f"{work.title}: not measured. {problem}")
                continue
            turns = {side: [found[side][0]] for side in SIDES}
            figures += [*speed_figures(work, turns), accuracy_figure(work, turns)]
            charts.append(_chart(work, turns))
            costs = {side: found[side][1] for side in SIDES}
            details[name] = {"turns": turns, "CPU ms a sample": costs, "order": order}
            remarks.append(cost_remark(work, costs))
    if not figures:
        raise RuntimeError(" ".join(remarks))
    return Part(figures=figures, charts=charts, details=details, remarks=[*remarks, REASON])


def prepare(work: Workload, place: Path, starts: Path = STARTS) -> Path:
    """Writes a workload into a folder below `place`, with the warmed-up model in `start/`; the folder.

    Models are kept below `starts`, so that later runs of the same code begin from the same weights, and sooner.
    """
    folder = place / work.name
    write_workload(work, folder)
    code = about_now().code
    name = hashlib.sha256(f"{(folder / 'workload.json').read_text(encoding='utf-8')} {code}".encode()).hexdigest()[:16]
    kept = starts / name
    if not work.warm:
        shutil.copytree(folder / "model", folder / "start")
    elif kept.is_dir() and not code.endswith("+"):  # of code that was changed since, it may be another model
        shutil.copytree(kept, folder / "start")
    else:
        turn("winnow", folder, "warm", work.warm)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "start", kept)
    return folder


def speed_figures(work: Workload, turns: Mapping[str, Turns]) -> list[Figure]:
    """Samples and trained tokens a second, medians over the turns, winnow's over TRL's."""
    rates = {side: [speed(lines) for lines in several] for side, several in turns.items()}
    found = []
    for at, what in enumerate(("samples", "tokens")):
        ours, theirs = (statistics.median(each[at] for each in rates[side]) for side in SIDES)
        within = speed_interval(turns["winnow"], turns["trl"], what)
        found.append(
            Figure(
                name=f"{'samples/s' if at == 0 else 'trained tokens/s'} against TRL, {work.title}",
                reached=ours / theirs,
                unit="x",
                target=work.speed if at == 0 else None,
                note=f"{interval(within)}winnow {number(ours)}, TRL {number(theirs)}",
            )
        )
    return found


def interval(within: tuple[float, float] | None) -> str:
    """An interval in words, in front of other words."""
    return "" if within is None else f"95 % of the steps drawn anew: {number(within[0])} to {number(within[1])}; "


def speed(lines: Sequence[Line]) -> tuple[float, float]:
    """(samples, sampled tokens) a second, from the end of the first step to the end of the last; a turn of one step
    counts from its begin."""
    begin = {"seconds": 0.0, "samples": 0.0, "tokens": 0.0}
    first, last = lines[0] if len(lines) > 1 else begin, lines[-1]
    seconds = last["seconds"] - first["seconds"]
    return (last["samples"] - first["samples"]) / seconds, (last["tokens"] - first["tokens"]) / seconds


def accuracy_figure(work: Workload, turns: Mapping[str, Turns]) -> Figure:
    """Seconds to the same accuracy, winnow's over TRL's: the highest that every turn reached, if that is a gain."""
    start = statistics.mean(lines[0]["accuracy"] for several in turns.values() for lines in several)
    best = min(max(line["accuracy"] for line in lines) for several in turns.values() for lines in several)
    wanted = min(best, start + GAIN)
    ours, theirs, note = float("nan"), 1.0, f"from {start:.2f} to {best:.2f} at the least: too little to be compared"
    if wanted >= start + GAIN / 3:
        ours, theirs = (statistics.median(until(lines, wanted) for lines in turns[side]) for side in SIDES)
        within = until_interval(turns["winnow"], turns["trl"], wanted)
        note = f"{interval(within)}from {start:.2f} to {wanted:.2f}: winnow {ours:.1f} s, TRL {theirs:.1f} s"
    return Figure(
        name=f"seconds to the same accuracy against TRL, {work.title}",
        reached=ours / theirs,
        unit="x",
        target=HALF,
        most=True,
        note=note,
    )


def until(lines: Sequence[Line], accuracy: float) -> float:
    """Seconds until the mean accuracy of the last steps was so high."""
    return next(line["seconds"] for line in lines if line["accuracy"] >= accuracy)


def cost_remark(work: Workload, costs: Mapping[str, Cost]) -> str:
    """What a sample costs each side."""
    winnow = sorted(costs["winnow"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{process} {spent:.2f}" for process, spent in winnow if spent >= LITTLE)
    ours, theirs = (sum(costs[side].values()) for side in SIDES)
    return f"CPU milliseconds a sample, {work.title}: winnow {ours:.2f} ({told}), TRL {theirs:.2f}."


def turn(side: str, folder: Path, *arguments: object, limit: float = 600.0) -> tuple[list[Line], Cost]:
    """One turn: its steps, and what a sample cost. It may take so many seconds.

    Raises:
        RuntimeError: it failed; its last words are in the message.
    """
    command = [str(PYTHONS[side]), "-W", "ignore", "-m", MODULES[side], str(folder), *map(str, arguments)]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
    started = time.monotonic()
    try:
        out, _ = in_time(command, limit, env)
    except RuntimeError as problem:
        raise RuntimeError(f"{side} {problem}") from None
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    costs = [line["cpu"] for line in lines if "cpu" in line]
    steps = [line for line in lines if "cpu" not in line]
    print(f"  {folder.name}, {side}: {len(steps)} steps, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return steps, costs[-1] if costs else {}


def _chart(work: Workload, turns: Mapping[str, Turns]) -> Chart:
    lines = {
        {"trl": "TRL"}.get(side, side): [(line["seconds"], line["accuracy"]) for line in turn]
        for side, several in turns.items()
        for turn in several
    }
    return Chart(title=f"Accuracy of samples, {work.title}", x="seconds", y="accuracy", lines=lines)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="winnow against TRL")
    parser.add_argument("--names", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--share", type=float, default=1.0, help="of the seconds of each turn")
    words = parser.parse_args()
    print(json.dumps(measure(0, words.share, words.names).as_json(), indent=1))
