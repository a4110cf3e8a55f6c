"""Tells how a run gets on: metrics of each step to all places that show them, and sentences to the terminal and log."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from actors.errors import RolloutFailed
from actors.filtering.client import FilterClient
from actors.grading.client import VerifierClient
from actors.pool import GeneratorPool
from actors.remote import within
from actors.types import Summary
from cluster.config.run_config import RunConfig
from cluster.reporting.display import Progress
from cluster.reporting.hints import Hints
from cluster.reporting.logs import LOGGER
from cluster.reporting.metrics import Clock, FilterReport, group_metrics, step_metrics, where_the_time_went
from cluster.reporting.outputs import MetricsWriter
from cluster.reporting.steps import TrainedStep
from cluster.reporting.words import counted
from cluster.running.room import Room

NOW_SECONDS = 5.0  # between two looks at what is known at any time; Ray tells of it every 10 s
ASK_SECONDS = 10.0  # for verifiers to say how busy they were; one that is starting again says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The parts of a run that are asked how they are."""

    generators: GeneratorPool
    verifiers: Callable[[], Sequence[VerifierClient]]  # those that there are now
    filter: FilterClient
    room: Room  # on the disk

    async def busy_verifiers(self) -> list[float]:
        """Seconds so far in which each verifier that is alive had work."""
        asked = [within(ASK_SECONDS, one.busy_seconds(), one.name, "") for one in self.verifiers()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [seconds for seconds in found if isinstance(seconds, float)]


class Reporter:
    """Writes a line of metrics for each step, shows it, and says once why a response has no verdict.

    Order of calls: `begin` when training begins, `step` after each step, `told` where its line must be there, `close`
    at the end.
    """

    def __init__(
        self,
        config: RunConfig,
        watched: Watched,
        folder: Path,
        display: Progress,
        run: str,
        step: int = 0,
        restarts: int = 0,
    ) -> None:
        """`run` is the run's name in Ray's metrics, `step` the one that it goes on from, and `restarts` how many
        learners were lost before."""
        self._config, self._watched, self._display, self._restarts = config, watched, display, restarts
        self._folder, self._writer = folder, MetricsWriter(folder, run, step, config.run.loggers)
        self._looking: asyncio.Task[None] | None = None  # at what is known between two steps
        self._telling: asyncio.Task[None] | None = None  # of the step that ended last
        self._began = self._step_began = time.monotonic()
        self._step_ended_at = time.time()  # or training began
        self._busy = (0.0, 0.0)  # seconds of generators and of verifiers that were alive, until the last report
        self._seconds_of_steps: list[dict[str, float]] = []  # the metrics that begin with "seconds_", of each step
        self._failure_shown = False
        self._lost_shown: set[str] = set()  # reasons for which groups could not be produced
        self._doing = ""  # what the learner does; "" while it waits for groups
        self._blank_explained = False  # that a step may have no accuracy
        self._hints = Hints(config.learner)

    def begin(self, seconds: float = 0.0) -> None:
        """The clock of training starts, after so many seconds of it where the run goes on."""
        self._step_began = time.monotonic()
        self._began = self._step_began - seconds
        self._step_ended_at = time.time()
        self._looking = asyncio.create_task(self._look())

    @property
    def seconds(self) -> float:
        """Since training began."""
        return time.monotonic() - self._began

    async def step(
        self, done: TrainedStep, report: FilterReport, updates: int, eval_accuracy: float | None = None
    ) -> None:
        """A finished step, after its checkpoint and its evaluation. It is told beside what comes next, which waits for
        no verifier and no disk; only one step is told at a time.

        Args:
            done: what the loop knows of it.
            report: what the filter tells after it.
            updates: optimizer updates so far.
            eval_accuracy: where the step was evaluated.

        Raises:
            RuntimeError: the step before it trained on tokens older than rollout.max_staleness allows.
        """
        await self.told()
        self._telling = asyncio.create_task(self._tell(done, report, self._clock(done, updates, eval_accuracy)))

    async def told(self) -> None:
        """Returns when all steps have been told; raises as `step`, of the last one too."""
        if self._telling is not None:
            await asyncio.shield(self._telling)
            self._telling = None

    async def _tell(self, done: TrainedStep, report: FilterReport, clock: Awaitable[Clock]) -> None:
        metrics = step_metrics(done, report, await clock)
        if metrics["staleness_max"] > self._config.rollout.max_staleness:
            raise RuntimeError(
                f"step {done.step} trained on tokens {metrics['staleness_max']} versions old, more than "
                f"rollout.max_staleness = {self._config.rollout.max_staleness}: this is a mistake in winnow"
            )
        await self._watched.room.wait_for(partial(self._write, metrics))
        self._display.step(metrics, _sample(report.graded or done.batch.summaries, done.step))
        if metrics["accuracy"] is None and not self._blank_explained:
            self._blank_explained = True
            self._display.say(
                f"step {done.step} has no accuracy: no response was graded since the step before, as its groups were "
                "there already (rollout.max_staleness). It is blank for such steps"
            )
        for hint in self._hints.after(metrics):
            self._display.say(hint)
        self._seconds_of_steps.append({name: metrics[name] for name in metrics if name.startswith("seconds_")})

    def evaluated(self, step: int, accuracy: float) -> None:
        """What became known of a step after its line of metrics was written."""
        self._writer.evaluated(step, accuracy)

    def doing(self, what: str) -> None:
        """What the learner does from now on, such as "training on step 3"; "" where it waits for groups."""
        self._doing = what
        self._display.status(what, line=False)

    def show_failure(self, graded: Sequence[Summary]) -> None:
        """The first failure of a verifier in full, once; after that the counters tell."""
        failure = next((summary.failure for summary in graded if summary.failure), "")
        if failure and not self._failure_shown:
            self._failure_shown = True
            self._display.say(f"a response has no verdict, and is not trained on. The first reason: {failure}")

    def show_lost(self, failure: RolloutFailed) -> None:
        """A group that could not be produced: the first for each reason in full, all of them in the log."""
        LOGGER.info("a group is lost (%s): %s", failure.reason, failure)
        if failure.reason not in self._lost_shown:
            self._lost_shown.add(failure.reason)
            self._display.say(f"a group is lost ({failure.reason}), the first of this kind: {failure}")

    def watch(self, summary: Summary) -> None:
        """A graded group: a hint where no response has been correct for long."""
        if hint := self._hints.graded(summary):
            self._display.say(hint)

    def say_what_is_wrong(self) -> None:
        """At the end of a run that found nothing to learn from: what its verdicts have in common, if all were wrong."""
        if hint := self._hints.all_wrong():
            self._display.say(hint)

    def say_where_the_time_went(self) -> None:
        """One sentence at the end of the run."""
        self._display.say(where_the_time_went(self._seconds_of_steps))

    async def close(self) -> None:
        """Ends all files, when what is being told is in them. What went wrong with it is for `told` to raise."""
        if self._looking is not None:
            self._looking.cancel()
        if self._telling is not None:
            await asyncio.wait({self._telling})
        self._writer.close()

    async def _write(self, metrics: Mapping[str, Any]) -> None:
        self._writer.write(metrics)

    async def _look(self) -> None:
        """Keeps Ray told of the run, whose step may last for hours, or for ever."""
        while True:
            ledger = self._watched.filter.counted()
            self._display.status(self._doing or self._waits_for(ledger.counts), line=False)
            known = {"step_ended_at": self._step_ended_at, "generators": len(self._watched.generators.alive)}
            self._writer.now(group_metrics(ledger) | known)
            await asyncio.sleep(NOW_SECONDS)

    def _waits_for(self, counts: Mapping[str, int]) -> str:
        wanted, pool = self._config.rollout.groups_per_step, self._watched.generators
        alive = f"{len(pool.alive)} of {counted(pool.wanted, 'generator')}" if pool.wanted else "stored groups"
        return (
            f"waiting for groups: {min(wanted, counts['groups_buffered'])} of {wanted} accepted, "
            f"{counts['groups_in_flight']} being sampled or graded by {alive}, {counts['groups_all_correct']} all "
            f"correct and {counts['groups_all_wrong']} all wrong so far"
        )

    async def _clock(self, done: TrainedStep, updates: int, eval_accuracy: float | None) -> Clock:
        now, generators = time.monotonic(), self._watched.generators.busy_seconds()
        spent, self._step_began, self._step_ended_at = now - self._step_began, now, time.time()
        verifiers = await self._watched.busy_verifiers()
        busy = generators, sum(verifiers)
        clock = Clock(
            wall=now - self._began,
            ended_at=self._step_ended_at,
            other=spent - (done.seconds_wait + done.seconds_train + done.seconds_sync),
            step=spent,
            busy_generators=(busy[0] - self._busy[0]) / spent / max(1, self._watched.generators.wanted),
            # one that was started again counts from 0
            busy_verifiers=max(0.0, busy[1] - self._busy[1]) / spent / max(1, len(verifiers)),
            generators=len(self._watched.generators.alive),
            verifiers=len(verifiers),
            updates=updates,
            restarts=self._restarts,
            eval_accuracy=eval_accuracy,
            disk_used=_share_used(self._folder),
        )
        self._busy = busy
        return clock


def _sample(graded: Sequence[Summary], step: int) -> str:
    """A response of a step to look at: the prompt's end, the response's beginning and its outcome."""
    if not graded:
        return ""
    sample = graded[step % len(graded)].sample
    return f"{sample.prompt} → {sample.response} ({sample.outcome})" if sample is not None else ""


def _share_used(folder: Path) -> float | None:
    """Of the disk on which a folder is, as far as this user may use it."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return None
    return 1 - disk.free / (disk.used + disk.free)
