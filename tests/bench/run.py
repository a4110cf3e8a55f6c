"""`make bench`: the benchmarks one after another, each in a process of its own, recorded beside earlier runs.

python -m tests.bench.run [--only NAME ...]      a run in runs/bench/runs/, and the page of all that are like it
python -m tests.bench.run --short                a short one, and whether ratios fell: status 1 where one did
python -m tests.bench.run --page                 the page alone
python -m tests.bench.run --write FILE ...       the page's tables, into Markdown files
python -m tests.bench.run --record               the page's ratios, for later short runs to be compared with
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import regression
from tests.bench.figures import Part, part_of_numbers
from tests.bench.kit import BENCHMARKS, Benchmark
from tests.bench.page import write_page
from tests.bench.processes import GRACE, in_time
from tests.bench.records import ROOT, About, Record, about_now, alike, begin, keep, records
from tests.bench.spread import spreads, write_table

OUT = ROOT / "runs" / "bench"
MINUTES = 23.0  # most that a run takes; what has not begun by then is left out
SHORT_MINUTES = 6.0


def main() -> int:
    """Does what is asked for; the status to exit with."""
    parser = argparse.ArgumentParser(description="winnow's benchmarks")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="these parts alone")
    parser.add_argument(
        "--short", action="store_true", help="six minutes: whether ratios fell since they were recorded"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    parser.add_argument("--write", nargs="+", type=Path, metavar="FILE", help="write the tables into these pages")
    parser.add_argument("--record", action="store_true", help=f"write the ratios into {regression.FILE.name}")
    parser.add_argument("--inside", nargs=3, metavar=("NAME", "FOLDER", "NUMBER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        name, folder, number = asked.inside
        keep(Path(folder), name, measure(BENCHMARKS[name], asked.short, int(number)))
        return 0
    if asked.short:
        return _short(asked.only)
    folder = OUT / "runs"
    if not (asked.page or asked.write or asked.record):
        about = about_now()
        number = len(alike(records(folder), about))
        run_all(begin(folder, about), asked.only, number=number)
    return _publish(records(folder), asked.write or [], asked.record)


def _short(names: Sequence[str]) -> int:
    about = about_now()
    run = begin(OUT / "short", about)
    run_all(run, [name for name in names if BENCHMARKS[name].short is not None], short=True)
    found = spreads(records(run.parent)[-1:], list(BENCHMARKS))
    tree = regression.recorded()
    fallen = regression.fallen(found, tree["ratios"])
    count = regression.compared(found, tree["ratios"])
    print(f"{count} ratios compared with those recorded ({tree['about'] or 'there are none'}), {len(fallen)} fell.")
    print(*fallen, sep="\n")
    if tree["ratios"] and not count:
        print("Nothing could be compared: the parts above did not end well.")
        return 1
    return int(bool(fallen))


def _publish(found: Sequence[Record], pages: Sequence[Path], record: bool) -> int:
    """Writes the page of the newest run and those like it, and what else is asked for."""
    if not found:
        print("No run is recorded: make bench makes one.", file=sys.stderr)
        return 2
    runs = alike(found, found[-1].about)
    write_page(runs, {name: benchmark.about for name, benchmark in BENCHMARKS.items()}, OUT / "report.html")
    print(f"page of {len(runs)} runs: {OUT / 'report.html'}")
    rows, about = spreads(runs, list(BENCHMARKS)), told(runs)
    for page in pages:
        print(f"{page}: {write_table(page, rows, about)} tables written")
    if record:
        print(f"{regression.FILE}: {regression.write_recorded(rows, about)} ratios recorded")
    return 0


def told(runs: Sequence[Record]) -> str:
    """What the figures of a table are of, in a sentence."""
    last: About = runs[-1].about
    how_many, when = ("One run", "") if len(runs) == 1 else (f"{len(runs)} runs", "the last of ")
    return f"{how_many} of `make bench` at {last.commit}, {when}{last.began[:10]}, on {last.machine}."


def run_all(run: Path, names: Sequence[str], *, short: bool = False, number: int = 0) -> None:
    """Runs parts in the kit's order until the time of a run is over; a part that fails does not stop the others."""
    ends = time.monotonic() + 60 * (SHORT_MINUTES if short else MINUTES)
    for name in (name for name in BENCHMARKS if name in names):
        started = time.monotonic()
        limit = min(60 * BENCHMARKS[name].minutes, ends - started - GRACE)
        problem = (
            in_a_process(name, run, limit, ["--short"] * short, number) if limit > 0 else "no time was left for it"
        )
        if problem:
            keep(run, name, None, problem)
        print(f"{name}: {problem or 'done'} ({time.monotonic() - started:.0f} s)", flush=True)


def measure(benchmark: Benchmark, short: bool, number: int) -> dict[str, Any]:
    """Runs one part here; its results as plain values."""
    function: Callable[..., Part | dict[str, Any]] = getattr(
        importlib.import_module(benchmark.module), benchmark.function
    )
    arguments = dict((benchmark.short if short else benchmark.full) or {})
    part = function(**arguments, **({"run": number} if benchmark.numbered else {}))
    return (part if isinstance(part, Part) else part_of_numbers(part, benchmark.targets)).as_json()


def in_a_process(name: str, run: Path, limit: float, words: Sequence[str], number: int) -> str:
    """Runs one part in a process of its own, which keeps its results; what went wrong, "" where nothing did."""
    inside = ["-m", "tests.bench.run", "--inside", name, str(run), str(number), *words]
    try:
        _, said = in_time([sys.executable, "-W", "ignore", *inside], limit)
    except RuntimeError as problem:
        return str(problem)
    print(said, end="", flush=True)  # what went on in it, such as its turns
    return ""


if __name__ == "__main__":
    sys.exit(main())
