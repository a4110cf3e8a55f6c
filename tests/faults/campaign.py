"""Faults one after another into one run, at random times, and what became of each."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.faults.audit import Audit, audit
from tests.faults.cluster import Nodes
from tests.faults.disk import Disk
from tests.faults.driver import Driver, until
from tests.faults.faults import FAULTS, Fault, Scene, unfinished
from tests.faults.processes import send
from tests.faults.small import GROUPS, dealt, run_file, write_run_file

START_SECONDS = 900.0  # for a run, begun or gone on with, to do its first steps
WHOLE_SECONDS = 300.0  # for what is missing to be replaced, when nothing else is left to do
ORPHAN_SECONDS = 30.0  # within which nothing of a run may be left when its driver has ended
STOP_SECONDS = 120.0  # for a run that is asked to end
STEPS_AFTER = 2  # of a fault: the first may have been all but done before it
PAUSE = 2.0  # seconds between a recovery and the next fault, at most
TRIES = 2  # to go on with a run
RUNS = 3  # that a campaign begins at most, as one may not be gone on with
WENT_ON, RESUMED, HUNG, LOST = "went on", "resumed", "hung", "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one fault."""

    fault: str
    step: int  # the last one before it
    how: str  # WENT_ON; RESUMED after its driver had ended; HUNG until the driver was killed; LOST: no resume
    seconds: float  # until the run had done two more steps
    whole: float | None = None  # seconds until every part was there again; None where that was not seen
    orphans: int = 0  # processes that outlived the driver for too long
    lost: int = 0  # prompts that were to be trained on and were not
    twice: int = 0  # groups that were trained on once more
    faults: tuple[str, ...] = ()  # what else is wrong in what the run left on disk
    said: str = ""  # its last words, where it did not go on by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which faults, and into which run."""

    name: str
    counts: Mapping[str, int]  # a key of FAULTS -> how many times
    staleness: int
    seed: int  # of the times and of the order
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings of the run
    nodes: bool = False  # whether it runs on several Ray nodes

    def only(self, faults: Collection[str]) -> "Plan":
        """The same with no other faults than these."""
        return replace(self, counts={name: count for name, count in self.counts.items() if name in faults})


class Campaign:
    """One plan as it is carried out."""

    def __init__(
        self, plan: Plan, folder: Path, disk: Disk, tell: Callable[[Outcome], None], cluster: Nodes | None = None
    ) -> None:
        """
        Args:
            plan: what to do.
            folder: for what is written beside the run; holds the world of `tests.faults.small`.
            disk: for the run.
            tell: is told of each outcome.
            cluster: the `tests.faults.cluster.Nodes` on which the run is; None starts Ray for it.
        """
        self._plan, self._folder, self._disk, self._tell, self._cluster = plan, folder, disk, tell, cluster
        self._draw, self._left = random.Random(plan.seed), Counter(plan.counts)
        self._began = dict[int, float]()  # place of an outcome -> when, as long as a part is missing
        self._known = Audit(step=0, lost=0, twice=0)  # when the last outcome was told
        self.outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """Begins the run, does all faults to it, and ends it. A run that cannot be gone on with is replaced by another
        one, for the faults that are left."""
        for number in range(1, RUNS + 1):
            if not +self._left:
                break
            self._known = Audit(step=0, lost=0, twice=0)
            scene = self._begin(f"{self._plan.name}-{number}")
            try:
                if self._all_faults(scene):
                    self._finish(scene)
            finally:
                self._disk.free()
                scene.driver.end()
        return self.outcomes

    def _begin(self, name: str) -> Scene:
        """A run that has done its first steps."""
        settings = self._folder / f"{name}.toml"
        sections: dict[str, dict[str, Any]] = {
            "run": {"steps": 100_000},
            "rollout": {"max_staleness": self._plan.staleness},
        }
        sections |= {each: sections.get(each, {}) | dict(more) for each, more in self._plan.sections.items()}
        if self._cluster is not None:
            sections["cluster"] = {"address": self._cluster.address}
        write_run_file(settings, run_file(self._folder / "world", name, self._disk.folder, **sections))
        driver = Driver(settings, self._disk.folder / name, self._folder / "armed", self._cluster)
        driver.start()
        if not driver.steps_on(STEPS_AFTER, START_SECONDS):
            driver.end()
            raise RuntimeError(f"the run {name} did not start: {driver.said()}")
        driver.note_parts()
        scene = Scene(driver=driver, disk=self._disk, draw=self._draw, cluster=self._cluster)
        self._left = Counter({name: count for name, count in self._left.items() if FAULTS[name].can_be(scene)})
        return replace(scene, save_seconds=_seconds_of_a_save(scene))

    def _all_faults(self, scene: Scene) -> bool:
        """Injects what is left, one after the other; whether the run lived through all of it. Where nothing can be
        injected for too long, since a part is missing, a new driver begins with all parts, once."""
        resumed = False
        while +self._left:
            until(lambda: not self._is_whole(scene), self._draw.uniform(0, PAUSE))
            until(lambda: bool(self._possible(scene)), WHOLE_SECONDS, pause=0.5)
            if names := self._possible(scene):
                resumed, lives = False, self._one(scene, self._draw.choice(names))
            else:
                resumed, lives = True, not resumed and self._resume(scene)
            if not lives:
                return False
        until(lambda: self._is_whole(scene), WHOLE_SECONDS)
        return True

    def _possible(self, scene: Scene) -> list[str]:
        self._is_whole(scene)
        return [name for name in sorted((+self._left).elements()) if FAULTS[name].ready(scene)]

    def _one(self, scene: Scene, name: str) -> bool:
        """One fault; whether the run lives on."""
        fault, driver = FAULTS[name], scene.driver
        step, began = driver.step, time.monotonic()
        fault.inject(scene)
        self._left[name] -= 1
        how, orphans, said = WENT_ON, 0, ""
        if not self._goes_on(scene, fault):
            how = HUNG if driver.status is None else RESUMED
            said = driver.said()
            orphans = self._after_the_end(driver)
            if not self._resume(scene):
                how, said = LOST, f"{said} / {driver.said()}"
        outcome = Outcome(fault=name, step=step, how=how, seconds=time.monotonic() - began, orphans=orphans, said=said)
        self._began[len(self.outcomes)] = began
        self._record(scene, outcome)
        return how != LOST

    def _goes_on(self, scene: Scene, fault: Fault) -> bool:
        """Whether the run does more steps, after a fault that its driver should outlive; else waits for its end."""
        if fault.ends_driver:
            scene.driver.wait(fault.seconds)
            return False
        return scene.driver.steps_on(STEPS_AFTER, fault.seconds, look=lambda: self._is_whole(scene))

    def _record(self, scene: Scene, outcome: Outcome) -> None:
        """Adds the outcome, with what the audit finds now and did not find before."""
        found, known = self._audit(scene.driver), self._known
        self._known = found
        outcome = replace(
            outcome,
            lost=max(0, found.lost - known.lost),
            twice=max(0, found.twice - known.twice),
            faults=tuple(fault for fault in found.faults if fault not in known.faults),
        )
        self.outcomes.append(outcome)
        self._tell(outcome)

    def _audit(self, driver: Driver) -> Audit:
        return audit(driver.folder, driver.lines(), dealt, size=GROUPS, staleness=self._plan.staleness)

    def _resume(self, scene: Scene, *overrides: str) -> bool:
        """Goes on with the run after its driver has ended, or was ended here; whether it does steps again. As any
        supervisor would, it tries again where the driver ends at once: on a busy machine Ray may not start in time."""
        driver = scene.driver
        for _ in range(TRIES):
            if driver.status is None:
                self._after_the_end(driver)
            driver.resume(*overrides)
            if driver.steps_on(STEPS_AFTER, START_SECONDS, look=lambda: self._is_whole(scene)):
                return True
        return False

    def _after_the_end(self, driver: Driver) -> int:
        """Ends a driver that has not ended; how many of the run's processes are there long after it."""
        send(driver.pid, signal.SIGKILL)
        driver.wait(STOP_SECONDS)
        until(lambda: not driver.left(), ORPHAN_SECONDS)
        orphans = len(driver.left())
        driver.end()
        return orphans

    def _is_whole(self, scene: Scene) -> bool:
        """Whether every part is there; notes how long it took."""
        if not scene.driver.is_whole():
            return False
        now = time.monotonic()
        for place, began in self._began.items():
            self.outcomes[place] = replace(self.outcomes[place], whole=now - began)
        self._began = {}
        return True

    def _finish(self, scene: Scene) -> None:
        """Asks the run to end, goes on with it for a few steps to its last one, and audits it once more."""
        driver, began = scene.driver, time.monotonic()
        send(driver.pid, signal.SIGTERM)
        driver.wait(STOP_SECONDS)
        step, orphans = driver.step, self._after_the_end(driver)
        driver.resume(f"run.steps={step + 3}")
        well = driver.wait(START_SECONDS) == 0 and driver.step == step + 3
        how, said = (RESUMED, "") if well else (LOST, driver.said())
        seconds = time.monotonic() - began
        self._record(scene, Outcome(fault="SIGTERM", step=step, how=how, seconds=seconds, orphans=orphans, said=said))


def _seconds_of_a_save(scene: Scene) -> float:
    """From the first file of a checkpoint to its marker."""
    if not until(lambda: bool(unfinished(scene)), START_SECONDS, pause=0.005):
        return scene.save_seconds
    began = time.monotonic()
    until(lambda: not unfinished(scene), START_SECONDS, pause=0.005)
    return time.monotonic() - began
