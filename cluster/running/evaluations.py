"""The evaluations of a run: between two steps on the generators that sample for training, or on generators of their own
(`eval.generators`) while training goes on.

    due ──▶ lend: a sync of the evaluators alone ──▶ they answer ──▶ a line of evals.jsonl
                                                │
             the next step is trained ◀─────────┘       (the next one that is due, and the end of the run, wait for it)

What is lent keeps its version until the evaluation is over, whatever is published meanwhile."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from functools import partial

from actors.errors import BrokenPart
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from cluster.reporting.display import Progress
from cluster.reporting.words import counted
from cluster.running.evaluate import Evaluator
from cluster.running.publish import Publisher
from cluster.running.reporter import Reporter
from cluster.running.signals import StopRequest
from cluster.running.state import Counters


class Evaluations:
    """Evaluates a run, one version at a time and each once. Order of calls: `run` where one is due; `finish` at the
    end, and where that is early `close`."""

    def __init__(
        self,
        evaluator: Evaluator,
        own: GeneratorPool,
        evaluators: GeneratorPool,
        publisher: Publisher,
        reporter: Reporter,
        display: Progress,
        stop: StopRequest,
    ) -> None:
        """
        Args:
            evaluator: knows prompts and file.
            own: the generators that sample for training.
            evaluators: generators that evaluate alone; there may be none.
            publisher: lends them.
            reporter: has the clock of training, and is told of what was found.
            display: is told how it gets on.
            stop: whether the run has been asked to end.
        """
        self._evaluator, self._own, self._evaluators, self._publisher = evaluator, own, evaluators, publisher
        self._reporter, self._display, self._stop = reporter, display, stop
        self._under_way: tuple[int, asyncio.Task[None]] | None = None  # its step
        self._waited = 0.0  # seconds that training has waited for the one under way
        self._waits_since: float | None = None  # on the clock of training

    @property
    def under_way(self) -> Collection[int]:
        """The step whose weights are being evaluated while training goes on, if there is one."""
        return () if self._under_way is None else (self._under_way[0],)

    async def run(self, counters: Counters) -> float | None:
        """Evaluates the version that was published last, which has not been evaluated yet. Waits for the evaluation
        before, and where there are no evaluators for this one.

        Args:
            counters: how far the run is.

        Returns:
            the accuracy; None where training goes on before it is known, or the run is asked to stop.
        """
        await self.finish()
        if counters.step in self._evaluator.evaluated() or self._stop.asked.is_set():
            return None
        at = replace(counters, seconds=self._reporter.seconds)
        if self._evaluators.running:
            self._reporter.doing(f"bringing the weights of step {at.step} to the generators that evaluate")
        if lent := await self._publisher.lend():
            self._waited = self._reporter.seconds - at.seconds
            self._under_way = at.step, asyncio.create_task(self._beside(lent, at))
            self._reporter.doing("")
            return None
        if self._evaluators.wanted:
            self._display.say(
                f"no evaluator is there: the run's generators evaluate step {at.step}, and training waits"
            )
        return await self._stop.unless_asked(self._between(at))

    async def finish(self) -> None:
        """Waits for the evaluation under way."""
        if self._under_way is None:
            return
        step, task = self._under_way
        if not task.done():
            self._waits_since = self._reporter.seconds
            self._reporter.doing(f"waiting for the evaluation after step {step}")
            await asyncio.wait({task})  # whoever gives up waiting does not end it
            self._waits_since = None
            self._reporter.doing("")
        self._under_way = None
        task.result()

    async def close(self, seconds: float) -> None:
        """Ends the evaluation under way where it is not over in so many seconds; says so."""
        if self._under_way is None:
            return
        step, task = self._under_way
        self._under_way = None
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            self._display.say(f"the evaluation after step {step} was not over, and is given up")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def say_missing(self, step: int) -> None:
        """Says that the weights of a step, which the run is past, were not evaluated, where that is so."""
        if step not in self._evaluator.evaluated():
            self._display.say(
                f"the evaluation after step {step} was not over when the run ended, and is not made again, as the run "
                "is past it: winnow eval evaluates the checkpoint of the step, where there is one"
            )

    def say_cost(self) -> None:
        """How long training has waited for its evaluations, by their lines: a sentence at the end of the run."""
        lines = self._evaluator.evaluated().values()
        waited = [float(line.get("waited", line["seconds"])) for line in lines]
        if waited:
            share = sum(waited) / max(self._reporter.seconds, 1e-9)
            self._display.say(
                f"training waited {sum(waited):.1f} s for {counted(len(waited), 'evaluation')}, {share:.0%} of its time"
            )

    async def _between(self, at: Counters) -> float:
        """On the generators that sample for training."""
        what = f"evaluating after step {at.step}"
        self._reporter.doing(what)

        def waited() -> float:
            return self._reporter.seconds - at.seconds

        found = await self._evaluator.run(self._own, at, waited, partial(self._display.advance, what))
        self._display.say(f"{found.line}; training waited {found.waited:.1f} s for it")
        self._reporter.doing("")
        return found.scored.accuracy

    async def _beside(self, lent: list[GeneratorClient], at: Counters) -> None:
        """On generators that hold the version and nothing else to do."""
        pool = GeneratorPool(lent, self._evaluators.finished)
        try:
            advance = partial(self._advance, at.step)
            found = await self._evaluator.run(pool, at, self._waited_so_far, advance, evaluators=len(lent))
        except BrokenPart as failure:
            self._display.say(f"the evaluation after step {at.step} is lost, and training goes on. {failure}")
            return
        self._reporter.evaluated(found.step, found.scored.accuracy)
        self._display.say(
            f"{found.line}; {counted(len(lent), 'evaluator')} took {found.seconds:.1f} s, training waited "
            f"{found.waited:.1f} s, the sync among them"
        )

    def _waited_so_far(self) -> float:
        return self._waited + (self._reporter.seconds - self._waits_since if self._waits_since is not None else 0.0)

    def _advance(self, step: int, done: int, prompts: int) -> None:
        """Is shown where it is waited for; else there is more to be shown of training."""
        if self._waits_since is not None:
            self._display.advance(f"evaluating after step {step}", done, prompts)
