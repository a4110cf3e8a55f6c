"""`make soak`: a thousand steps of a tiny model; what each part holds over time, and how fast that grows.

python -m tests.faults.soak [--steps N] [--page]

A slope is fitted to what was seen after the warm-up and told for 100 steps. Results and page are in runs/soak/.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grpc import RpcError

from cluster.comparing.plan import machine
from tests.bench.figures import Chart, Figure, Part
from tests.bench.page import write_page
from tests.faults.driver import Driver
from tests.faults.report import as_text
from tests.faults.small import run_file, write_run_file, write_small
from tests.faults.usage import OTHERS, REST, held_by

OUT = Path(__file__).parents[2] / "runs" / "soak"
STEPS = 1000
WARM_UP = 0.3  # share of the steps of which nothing is fitted: caches and pools fill
SECONDS_BETWEEN = 5.0  # two looks
SETTINGS: dict[str, dict[str, Any]] = {  # of the run, beside those of the small world
    "run": {"checkpoint_every": 20},
    "rollout": {"max_staleness": 1},
    "filter": {"drop": "both"},
    "eval": {"every": 50, "prompts": 8, "samples": 1},
    "cluster": {"env": {}, "device": "cpu", "generators": 1, "verifiers": 1, "learner_ranks": 2},
}
# Caches of others, each full soon with these: what they hold is no leak, and would hide one. By themselves Ray's head
# keeps records of 100,000 tasks, and oneDNN in an engine 1,024 kernels, one for each number of tokens in a pass.
CACHES = {"RAY_task_events_max_num_task_in_gcs": "1000", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}
STORE = "object store"
# Most that may be added in 100 steps, which is GROUPS * 100 trained groups and as many that are rejected: MiB of memory
# of an actor or the driver (a KiB for each group is 1), MiB of Ray's own processes, MiB of the store, handles, threads.
BOUNDS = {"memory": 1.0, "files": 0.5, "threads": 0.5}
RAYS_MEMORY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look."""

    step: int
    seconds: float  # since the first
    held: Mapping[str, Mapping[str, float]]  # part -> what it holds, by the names of `Held`


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """How fast something grows."""

    part: str
    what: str
    level: float  # at the end, median of the last looks
    slope: float  # for 100 steps
    bound: float

    @property
    def holds(self) -> bool:
        """Whether it stays under its bound."""
        return self.slope <= self.bound


def soak(folder: Path, steps: int) -> list[Sample]:
    """Carries the run out and looks at it.

    Raises:
        RuntimeError: it did not reach its last step.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_small(folder / "world")
    settings = {**SETTINGS, "run": SETTINGS["run"] | {"steps": steps}}
    settings["eval"] = SETTINGS["eval"] | {"path": str(folder / "world" / "prompts.jsonl"), "rows": "-100:"}
    write_run_file(folder / "soak.toml", run_file(folder / "world", "soak", folder, **settings))
    os.environ |= CACHES
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # as the driver has it; Ray reads it when it is imported
    driver = Driver(folder / "soak.toml", folder / "soak", folder / "armed")
    driver.start()
    samples, began, store = list[Sample](), time.monotonic(), None
    try:
        while driver.status is None:
            time.sleep(SECONDS_BETWEEN)
            if 0 < (step := driver.step) < steps:  # after the last one the actors end
                held = {part: asdict(each) for part, each in held_by(driver.family, driver.pid).items()}
                with suppress(RpcError):  # Ray may have ended meanwhile, with the run
                    store = store or Store.of(driver)
                    held[STORE] = {"memory": store.used()}
                    samples.append(Sample(step=step, seconds=round(time.monotonic() - began, 1), held=held))
    finally:
        driver.end()
    if driver.status or driver.step != steps:
        raise RuntimeError(f"the run ended with status {driver.status} after step {driver.step}: {driver.said()}")
    return samples


class Store:
    """The object store of the run's own Ray, asked without joining it: a process that has joined ends with it."""

    def __init__(self, address: str) -> None:
        """`address` is that of the cluster."""
        from ray._private.internal_api import get_state_from_address

        state = get_state_from_address(address)
        self._node = state.node_table()[0]
        state.disconnect()

    @classmethod
    def of(cls, driver: Driver) -> "Store":
        """That of a driver that has started Ray."""
        titles = [seen.title for seen in driver.family.living()]
        found = [match for title in titles if (match := re.search(r"--gcs-address=(\S+)", title))]
        return cls(found[0].group(1))

    def used(self) -> float:
        """MiB of the objects in it."""
        from ray._private.internal_api import node_stats

        stats = node_stats(self._node["NodeManagerAddress"], self._node["NodeManagerPort"], False)
        return float(stats.store_stats.object_store_bytes_used) / 2**20


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    """Of all that was seen from the first look after the warm-up to the last."""
    last = samples[-1].step
    seen = [sample for sample in samples if sample.step >= WARM_UP * last]
    parts = [part for part in seen[-1].held if all(part in sample.held for sample in seen)]
    return [_slope(part, what, seen) for part in parts for what in BOUNDS if what in seen[-1].held[part]]


def _slope(part: str, what: str, seen: Sequence[Sample]) -> Slope:
    steps = np.array([sample.step for sample in seen], float)
    values = np.array([sample.held[part][what] for sample in seen])
    rays = part in (*OTHERS, REST)
    bound = RAYS_MEMORY if rays and what == "memory" else BOUNDS[what]
    slope = float(np.polyfit(steps, values, 1)[0]) * 100 if np.ptp(steps) else 0.0
    return Slope(part=part, what=what, level=float(np.median(values[-5:])), slope=slope, bound=bound)


def part_of(samples: Sequence[Sample], found: Sequence[Slope]) -> Part:
    """What the page shows."""
    units = {"memory": "MiB", "files": "handles", "threads": "threads"}
    figures = [
        Figure(
            name=f"{each.part}: {each.what}",
            reached=each.slope,
            unit=f"{units[each.what]} in 100 steps",
            target=each.bound,
            most=True,
            note=f"{each.level:.4g} at the end",
        )
        for each in found
    ]
    charts = [
        Chart(
            title=f"{what} of each part",
            x="step",
            y=units[what],
            lines={
                part: [(sample.step, sample.held[part][what]) for sample in samples if part in sample.held]
                for part in dict.fromkeys(each.part for each in found if each.what == what)
            },
        )
        for what in BOUNDS
    ]
    return Part(figures=figures, charts=charts)


def rows(found: Sequence[Slope]) -> list[list[str]]:
    """The table for the terminal."""
    return [
        [
            f"{each.part}: {each.what}",
            f"{each.level:.4g}",
            f"{each.slope:+.3f}",
            f"{each.bound:g}",
            "yes" if each.holds else "NO",
        ]
        for each in found
    ]


def main() -> int:
    """Soaks; the exit status is 1 where something grows faster than it may."""
    parser = argparse.ArgumentParser(description="winnow's soak test")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"of the run ({STEPS})")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where results and page go")
    asked = parser.parse_args()
    folder = asked.out.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run ends with it
    samples = soak(folder, asked.steps)
    found = slopes(samples)
    tree: dict[str, Any] = {"samples": [asdict(each) for each in samples], "slopes": [asdict(each) for each in found]}
    (folder / "soak.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")
    result = {"name": "soak", "about": __doc__, "problem": "", "part": part_of(samples, found).as_json()}
    write_page([result], machine(), folder / "report.html")
    print(as_text(["part", "at the end", "in 100 steps", "at most", "holds"], rows(found)))
    print(f"page: {folder / 'report.html'}")
    return int(not all(each.holds for each in found))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted: the run under way has ended too, and is in no report", file=sys.stderr)
        sys.exit(130)
