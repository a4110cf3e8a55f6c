"""`make bench`: all benchmarks one after another, each in a process of its own; results and page in runs/bench/.

python -m tests.bench.run [--only NAME ...] [--quick] [--page]
"""

import argparse
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.comparing.plan import machine
from tests.bench.figures import Part, Target, part_of_numbers
from tests.bench.page import write_page

ROOT = Path(__file__).parents[2]
OUT = ROOT / "runs" / "bench"
GRACE = 20  # seconds that a part has to end its actors after its time is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One part of the kit."""

    module: str
    about: str
    minutes: float  # most that it may take; then it is ended and the page says so
    full: Mapping[str, Any]  # arguments of `measure`
    quick: Mapping[str, Any]
    function: str = "measure"
    targets: Mapping[str, Target] = field(default_factory=dict)  # of a function that gives plain numbers


BENCHMARKS = {
    "control": Benchmark(
        module="tests.bench.control",
        about="Simulated engines under the real actors: what winnow's own bookkeeping costs. It is bound by CPU time: "
        "the milliseconds below, summed, over the number of cores. Much of them is Ray's calls and pickling.",
        minutes=5,
        full={"groups": 100_000},
        quick={"quick": True},
    ),
    "limit": Benchmark(
        module="tests.bench.limit",
        function="with_sleeps",
        about="Stages that sleep for times with heavy tails, under the real loop, ledger and filter: their overlap.",
        minutes=4,
        full={},
        quick={"quick": True},
    ),
    "stages": Benchmark(
        module="tests.bench.ablation",
        about="The real stages on these cores: a perfect overlap of each alone, and what each piece is worth.",
        minutes=11,
        full={},
        quick={"quick": True},
    ),
    "peer": Benchmark(
        module="tests.bench.against",
        about="TRL's GRPOTrainer on the same model, prompts, group size, lengths, learning rate and cores, in turns.",
        minutes=11,
        full={},
        quick={"quick": True},
    ),
    "saving": Benchmark(
        module="tests.bench.saving",
        about="What choosing prompts and sampling in two stages save: means over three seeds. An evaluation is of 512 "
        "responses, so that an accuracy is known to 0.02 and a difference of means over seeds to about as much.",
        minutes=10,
        full={"seeds": 3, "quick": False},
        quick={"seeds": 1, "quick": True},
        targets={
            "tokens per kept group, chosen / uniform": Target(value=0.6, most=True),
            "accuracy gained against uniform": Target(value=0.0),
        },
    ),
    "sync": Benchmark(
        module="tests.bench.sync",
        about="How fast weights reach the engines. The learner's packing, the engine's loading and gloo's own threads "
        "at both ends share two cores here, so the share of a bare broadcast moves with what else the machine does.",
        minutes=2,
        full={"gib": 1.0},
        quick={"gib": 0.1},
        targets={
            "share_of_bare": Target(value=0.8),
            "sender_extra_buckets": Target(value=2.0, most=True),
            "receiver_extra_buckets": Target(value=2.0, most=True),
        },
    ),
    "learning": Benchmark(
        module="tests.bench.learning",
        about="The learner alone.",
        minutes=1,
        full={},
        quick={},
        targets={
            f"padding_{name}": Target(value=0.03, most=True) for name in ("short", "demo", "tail", "lognormal", "eight")
        },
    ),
    "beginnings": Benchmark(
        module="tests.bench.beginnings",
        about="The learner alone, with equal beginnings of sequences computed once and for each of them: short answers "
        "to short prompts and to long ones, the demo's lengths, a long tail. Long answers share little.",
        minutes=1,
        full={"rounds": 2},
        quick={"rounds": 1},
        targets={"speed_least_long_prompts": Target(value=3.0)},
    ),
}


def main() -> None:
    """Runs what is asked for and writes the page of all results that are there."""
    parser = argparse.ArgumentParser(description="winnow's benchmarks")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="these alone")
    parser.add_argument("--quick", action="store_true", help="see that everything works; the figures mean nothing")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    parser.add_argument("--inside", choices=BENCHMARKS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = OUT / "quick" if asked.quick else OUT
    folder.mkdir(parents=True, exist_ok=True)
    if asked.inside:
        keep(asked.inside, folder, measure(BENCHMARKS[asked.inside], asked.quick))
        return
    for name in [] if asked.page else asked.only:
        started = time.monotonic()
        problem = in_a_process(name, asked.quick)
        if problem:
            keep(name, folder, None, problem)
        print(f"{name}: {problem or 'done'} ({time.monotonic() - started:.0f} s)", flush=True)
    write_page(results_in(folder), machine(), folder / "report.html")
    print(f"page: {folder / 'report.html'}")


def measure(benchmark: Benchmark, quick: bool) -> dict[str, Any]:
    """Runs one part here; its results as plain values."""
    function: Callable[..., Part | dict[str, Any]] = getattr(
        importlib.import_module(benchmark.module), benchmark.function
    )
    part = function(**(benchmark.quick if quick else benchmark.full))
    return (part if isinstance(part, Part) else part_of_numbers(part, benchmark.targets)).as_json()


def in_a_process(name: str, quick: bool) -> str:
    """Runs one part in a process of its own and keeps its results; what went wrong, "" where nothing did."""
    benchmark = BENCHMARKS[name]
    if not (ROOT / f"{benchmark.module.replace('.', '/')}.py").is_file():
        return "not there"
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.run", "--inside", name, *["--quick"] * quick]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate(timeout=60 * benchmark.minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # as a person would, so that Ray and its processes end too
            try:
                process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"ended after its {benchmark.minutes:g} minutes"
    words = said.strip().splitlines()
    return f"failed: {words[-1] if words else process.returncode}" if process.returncode else ""


def keep(name: str, folder: Path, part: Mapping[str, Any] | None, problem: str = "") -> None:
    """Writes the results of a part to its file."""
    tree = {"name": name, "problem": problem, "part": part}
    (folder / f"{name}.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")


def results_in(folder: Path) -> list[dict[str, Any]]:
    """The results that were kept, in the order of the kit; a part without any says so."""
    found = []
    for name, benchmark in BENCHMARKS.items():
        file, result = folder / f"{name}.json", {"problem": "not measured yet", "part": None}
        if file.is_file():
            result = json.loads(file.read_text(encoding="utf-8"))
        found.append(result | {"name": name, "about": benchmark.about})
    return found


if __name__ == "__main__":
    main()
