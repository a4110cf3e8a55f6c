"""`make faults`: faults at random times into real runs; a table of what became of each, in runs/faults/.

python -m tests.faults.run [--short] [--only FAULT ...] [--seed N]
"""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.campaign import HUNG, LOST, Campaign, Outcome, Plan
from tests.faults.cluster import Nodes
from tests.faults.disk import Disk
from tests.faults.driver import environment
from tests.faults.faults import FAULTS
from tests.faults.report import write_report
from tests.faults.small import write_small

ROOT = Path(__file__).parents[2]
OUT = ROOT / "runs" / "faults"
ON_POLICY = {
    "generator killed": 3,
    "engine killed": 3,
    "engine stopped": 2,
    "verifier killed": 6,
    "verifier hangs": 2,
    "filter killed": 5,
    "rank killed": 5,
    "rank stopped": 2,
    "sync: error": 2,
    "sync: engine killed": 2,
    "sync: engine stopped": 1,
    "sync: sender's error": 2,
    "endless response": 3,
    "driver killed": 3,
    "save cut: ranks": 14,
    "save cut: everything": 6,
    "disk full: save": 3,
    "disk full: trajectories": 3,
}
BEHIND = {
    "generator killed": 4,
    "generator stopped": 1,
    "verifier killed": 6,
    "verifier hangs": 1,
    "filter killed": 5,
    "rank killed": 5,
    "sync: engine killed": 1,
    "sync: sender's error": 2,
    "endless response": 2,
    "driver killed": 3,
}
NODES = {"node killed": 4, "object store full": 3, "driver killed": 1}
SHORT = {
    "sync: engine killed": 1,
    "verifier killed": 1,
    "filter killed": 1,
    "rank killed": 1,
    "endless response": 1,
    "save cut: ranks": 1,
    "driver killed": 1,
}
# The real filter, which rejects about every second group here, and engines in the processes of their generators.
MIXED = {"filter": {"drop": "both"}, "cluster": {"env": {}}}


def plans(short: bool, seed: int, only: Sequence[str]) -> dict[str, Plan]:
    """The campaigns, with the faults that are asked for."""
    if short:
        every = [Plan(name="short", counts=SHORT, staleness=0, seed=seed)]
    else:
        every = [
            Plan(name="on-policy", counts=ON_POLICY, staleness=0, seed=seed),
            Plan(name="behind", counts=BEHIND, staleness=1, seed=seed + 1, sections=MIXED),
            Plan(name="nodes", counts=NODES, staleness=1, seed=seed + 2, nodes=True),
        ]
    chosen = [plan.only(only) if only else plan for plan in every]
    return {plan.name: plan for plan in chosen if plan.counts}


def carry_out(plan: Plan, folder: Path) -> list[Outcome]:
    """One campaign in the folder."""

    def tell(outcome: Outcome) -> None:
        print(f"{plan.name}: {line_of(outcome)}", flush=True)

    cluster = Nodes(environment(folder / "armed")) if plan.nodes else None
    disk = Disk(folder / "runs")
    try:
        return Campaign(plan, folder, disk, tell, cluster).run()
    finally:
        keep_small_files(disk.folder, folder / "kept" / plan.name)
        disk.leave()
        if cluster is not None:
            cluster.end()


def line_of(outcome: Outcome) -> str:
    """One outcome for the terminal."""
    words = [f"{outcome.fault} after step {outcome.step}: {outcome.how} in {outcome.seconds:.1f} s"]
    words += [f"{name} {getattr(outcome, name)}" for name in ("orphans", "lost", "twice") if getattr(outcome, name)]
    return "; ".join([*words, *outcome.faults, *([f"it said: {outcome.said}"] if outcome.said else [])])


def keep_small_files(source: Path, target: Path) -> None:
    """Logs and metrics stay when the file system of the runs goes."""
    for path in [*source.glob("*/*.log"), *source.glob("*/*.jsonl"), *source.glob("*/*.toml")]:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def main() -> int:
    """Carries the campaigns out; the exit status is 1 where anything was lost, trained twice, hung or ended."""
    parser = argparse.ArgumentParser(description="winnow's fault injection")
    parser.add_argument("--short", action="store_true", help="few faults, in minutes")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[], metavar="FAULT", help="these alone")
    parser.add_argument("--seed", type=int, default=0, help="of the times and of the order")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the report goes")
    asked = parser.parse_args()
    folder, began = asked.out.resolve(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is started here ends with it
    shutil.rmtree(folder, ignore_errors=True)
    write_small(folder / "world")
    outcomes = dict[str, list[Outcome]]()
    for name, plan in plans(asked.short, asked.seed, asked.only).items():
        outcomes[name] = carry_out(plan, folder)
        print(write_report(folder, outcomes, time.monotonic() - began), flush=True)
    print(f"report: {folder / 'faults.md'}")
    found = [each for campaign in outcomes.values() for each in campaign]
    return int(any(each.lost or each.twice or each.faults or each.how in (HUNG, LOST) for each in found))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted: the run under way has ended too, and is in no report", file=sys.stderr)
        sys.exit(130)
