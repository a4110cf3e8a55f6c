"""Stages of the loop for the simulation of scale: engines, verifiers, the driver's and the filter's processes and a
learner that take the seconds of a table, around the real ledger, the real chooser and the real plan of a step.

Everything runs on the clock of `tests.bench.virtual.VirtualTime`. What serves one after the other is a `Server`, whose
busy seconds say how near it is to its limit.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from actors.data.chooser import Chooser
from actors.data.source import PromptSource
from actors.filtering.ledger import Ledger, check_conservation
from actors.filtering.rules import drop_both
from actors.types import Prompt, RolloutRequest, Summary
from cluster.reporting.steps import StepDone
from cluster.running.loop import Stages, run_loop
from learner.batches.planning import plan_step
from learner.methods.algorithms import ALGORITHMS, Algorithm
from tests.bench.virtual import in_virtual_time
from tests.builders import prompt, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What everything takes, in seconds."""

    engines: int
    seats: int  # responses that an engine decodes at a time
    decoding: Callable[[int, float], float]  # a pass of an engine: (responses, their tokens in its cache) -> seconds
    prefill: float = 0.0  # of a group's prompt, once in an engine
    verifiers: int = 1
    verdict: float = 0.0  # a response in a verifier
    dispatch: float = 0.0  # of the driver's process for a group, on its way out ...
    reply: float = 0.0  # ... and back
    filtering: float = 0.0  # of the filter's process for a group
    recording: float = 0.0  # of its writing thread for a token that is recorded
    prepare: float = 0.0  # of the learner to fetch and pack a batch
    training: Callable[[Sequence[int]], float] = lambda tokens: 0.0  # a step: tokens of each rank -> seconds
    ranks: int = 1
    step_calls: float = 0.0  # of the driver for a step's calls to ranks
    sync_calls: float = 0.0  # of the driver for a sync's calls to engines and ranks
    transfer: float = 0.0  # of the weights, from the first pause to the last engine that holds them
    between: float = 0.0  # steps: reports, and checkpoints on average
    grain: float = 0.0  # within which ends of responses are looked at together, so that thousands of engines are quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is sampled and how much of it."""

    groups_per_step: int
    group_size: int
    max_staleness: int
    prompt: int  # tokens
    response: Callable[[np.random.Generator], int]  # tokens of a response
    rejected: float = 0.0  # share of the groups that the filter refuses
    algorithm: Algorithm = field(default_factory=lambda: ALGORITHMS["reinforce-rej"])
    prompts: int = 5_000  # of the data
    seed: int = 0


class Server:
    """Serves one after the other, in the order in which they come."""

    def __init__(self) -> None:
        self.busy = self.free_at = 0.0  # seconds of work so far; when it has done all of it

    def take(self, seconds: float) -> float:
        """Puts some work behind what it has; gives the time at which that is done."""
        self.busy += seconds
        self.free_at = max(self.free_at, asyncio.get_running_loop().time()) + seconds
        return self.free_at

    async def work(self, seconds: float) -> None:
        """Returns when it has done so much more."""
        await until(self.take(seconds))


async def until(moment: float) -> None:
    """Sleeps until then."""
    await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))


class Clock:
    """Wakes engines at their next ends: those within a grain of each other in one go, each as of its own time."""

    def __init__(self, grain: float) -> None:
        self._grain, self._now = grain, 0.0
        self._ends: list[tuple[float, int, int]] = []  # heap of (time, engine, its plan)
        self._engines: list[Engine] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        """The time of the end that is being looked at, else that of the loop."""
        return max(self._now, asyncio.get_running_loop().time())

    def register(self, engine: "Engine") -> int:
        """The number of an engine."""
        self._engines.append(engine)
        return len(self._engines) - 1

    def wake(self, moment: float, engine: int, plan: int) -> None:
        """Has an engine told of its end at this moment, unless it has made another plan by then."""
        heapq.heappush(self._ends, (moment, engine, plan))
        if self._timer is None or moment < self._timer.when():
            self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._ends[0][0], self._look)

    def _look(self) -> None:
        self._timer = None
        last = asyncio.get_running_loop().time() + self._grain
        while self._ends and self._ends[0][0] <= last:
            self._now, number, plan = heapq.heappop(self._ends)
            self._engines[number].end(plan)
        self._now = 0.0
        if self._ends and self._timer is None:
            self._set()


class Engine:
    """Decodes its responses together, a token of each in a pass; those beyond its seats wait for one.

    Between two ends the passes are alike, so that the clock moves from end to end: `_depth` counts the passes, and a
    response that came at one depth ends when as many more as it has tokens are done.
    """

    def __init__(self, costs: Costs, clock: Clock, prompt_tokens: int, ended: Callable[[int, float], None]) -> None:
        """`ended` is told of (group, time) of each response that is whole."""
        self._costs, self._clock, self._prompt, self._ended = costs, clock, prompt_tokens, ended
        self._number, self._made = clock.register(self), 0  # and how many plans it has made
        self._running: list[tuple[float, int, int]] = []  # heap of (depth of its end, group, tokens)
        self._waiting: list[tuple[int, int]] = []  # (group, tokens), the next one last
        self._depth = self._cached = 0.0  # passes; tokens in the cache at depth 0 would be negative: see `_tokens`
        self._stall = 0.0  # seconds of prompts that are to be read before the next pass
        self._since = 0.0
        self._paused = False
        self.busy = self.seated = self.decoded = 0.0  # seconds; of them times responses; tokens
        self.groups = 0  # in hand

    def add(self, group: int, lengths: Sequence[int]) -> None:
        """A group's responses."""
        self._advance()
        self.groups += 1
        self._stall += self._costs.prefill
        self._waiting[:0] = [(group, tokens) for tokens in reversed(lengths)]
        self._seat()
        self._plan()

    def pause(self) -> None:
        """Stops where it is."""
        self._advance()
        self._paused = True
        self._plan()

    def resume(self) -> None:
        """Goes on."""
        self._advance()
        self._paused = False
        self._plan()

    def settle(self) -> None:
        """Brings its counts up to now."""
        self._advance()

    def _seat(self) -> None:
        while self._waiting and len(self._running) < self._costs.seats:
            group, tokens = self._waiting.pop()
            heapq.heappush(self._running, (self._depth + tokens, group, tokens))
            self._cached += self._prompt - self._depth

    def _pass_seconds(self, ahead: float) -> float:
        """Of a pass, as it is when half of the passes ahead are done."""
        count = len(self._running)
        return self._costs.decoding(count, self._cached + count * (self._depth + ahead / 2))

    def _advance(self) -> None:
        """Brings everything up to now."""
        now = max(self._since, self._clock.now)
        passed, self._since = now - self._since, now
        if self._paused or not self._running:
            return
        self.busy += passed
        self.seated += passed * len(self._running)
        stalled = min(passed, self._stall)
        self._stall -= stalled
        ahead = max(0.0, self._running[0][0] - self._depth)
        if ahead and (passed := passed - stalled):
            done = min(ahead, passed / self._pass_seconds(ahead))
            self._depth += done
            self.decoded += done * len(self._running)

    def _plan(self) -> None:
        """Has the clock wake it at the next end."""
        self._made += 1
        if not self._paused and self._running:
            ahead = max(0.0, self._running[0][0] - self._depth)
            self._clock.wake(self._since + self._stall + ahead * self._pass_seconds(ahead), self._number, self._made)

    def end(self, plan: int) -> None:
        """The next end is there, if the plan still holds."""
        if plan != self._made:
            return
        self._advance()
        depth = self._running[0][0]
        self._depth = max(self._depth, depth)
        while self._running and self._running[0][0] <= depth + 1e-6:
            depth_of_end, group, tokens = heapq.heappop(self._running)
            self._cached -= self._prompt - (depth_of_end - tokens)
            self._ended(group, self._since)
        self._seat()
        self._plan()


@dataclass(slots=True)
class _Flight:
    """A group that is being sampled and graded."""

    left: int  # responses
    done: asyncio.Future[float]  # when the last verdict is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a simulated run came to, its first steps left out."""

    seconds: float
    steps: int
    groups: int  # graded
    trained: int  # groups
    tokens: int  # sampled, of graded responses
    tokens_trained: int  # prompts among them
    busy: dict[str, float]  # share of the time that each part was busy; of engines and verifiers the mean
    waited: float  # share of the time in which the loop waited for a batch
    together: float  # responses that a busy engine decoded at a time
    ends: list[float]  # of all steps

    @property
    def groups_per_second(self) -> float:
        """Graded groups."""
        return self.groups / self.seconds


class ScaledLoop:
    """The stages, for `run_loop`."""

    def __init__(self, costs: Costs, work: Workload) -> None:
        self._costs, self._work = costs, work
        self._draw = np.random.default_rng(work.seed)
        self.ledger = Ledger(groups_per_step=work.groups_per_step, max_staleness=work.max_staleness, patience=10**9)
        prompts = [prompt(str(number)) for number in range(work.prompts)]
        self._source = PromptSource(prompts, work.seed, chooser=Chooser(group_size=work.group_size))
        self._changed = asyncio.Event()
        self.driver, self.filter, self.recorder, self.learner = Server(), Server(), Server(), Server()
        clock = Clock(costs.grain)
        self._engines = [Engine(costs, clock, work.prompt, self._ended) for _ in range(costs.engines)]
        self._load = [(0, number) for number in range(costs.engines)]  # heap of (groups in hand, engine), as it was
        self._verifiers = [0.0] * costs.verifiers  # heap of the times at which each is free
        self._graded_seconds = 0.0
        self._flights: dict[int, _Flight] = {}
        self._summaries: dict[int, Summary] = {}
        self._batch: list[Summary] = []
        self._plain = {kept: summary([1.0, -1.0 if kept else 1.0]) for kept in (False, True)}
        self._totals = [0, 0, 0, 0]  # graded groups, trained groups, tokens, trained tokens
        self._marks: list[tuple[float, list[int], dict[str, float], float, float]] = []
        self._live = 0
        self._reported = self._waited = self._closing = 0.0  # when; seconds for a batch; for the recorder

    def run(self, steps: int, left_out: int = 1) -> Course:
        """So many steps; what came of those behind the first ones."""
        names = ("admit", "rollout", "offer", "drop", "take", "train", "publish", "report")
        calls: dict[str, Any] = {name: getattr(self, name) for name in names}
        stages: Stages[Any, Any, Any, Any] = Stages(prompts=self.prompts, dispatched=lambda request: None, **calls)
        in_virtual_time(run_loop(stages, steps))
        (start, before, busy, seated, decoding), (end, after, total, seats, all_decoding) = (
            self._marks[left_out - 1],
            self._marks[-1],
        )
        seconds = end - start
        graded, trained, tokens, tokens_trained = (a - b for a, b in zip(after, before, strict=True))
        return Course(
            seconds=seconds,
            steps=steps - left_out,
            groups=graded,
            trained=trained,
            tokens=tokens,
            tokens_trained=tokens_trained,
            busy={name: (total[name] - busy[name]) / seconds for name in total if name != "waited"},
            waited=(total["waited"] - busy["waited"]) / seconds,
            together=(seats - seated) / max(1e-9, all_decoding - decoding),
            ends=[mark[0] for mark in self._marks],
        )

    async def admit(self) -> list[int]:
        while self.ledger.slots <= 0:
            self._changed.clear()
            await self._changed.wait()
        return list(self.ledger.admit(self.ledger.slots))

    def prompts(self, count: int) -> list[tuple[Prompt, int]]:
        return self._source.take(count)

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, None]:
        group, work = request.group, self._work
        await self.driver.work(self._costs.dispatch)
        lengths = [work.response(self._draw) for _ in range(work.group_size)]
        self._flights[group] = _Flight(left=len(lengths), done=asyncio.get_running_loop().create_future())
        version, engine = self._live, self._engine()
        self._engines[engine].add(group, lengths)
        graded_at = await self._flights[group].done
        del self._flights[group]
        self._engines[engine].groups -= 1
        heapq.heappush(self._load, (self._engines[engine].groups, engine))
        await until(graded_at)
        await self.driver.work(self._costs.reply)
        kept = float(self._draw.random()) >= work.rejected
        graded = replace(
            self._plain[kept],
            id=group,
            prompt_id=request.prompt.id,
            lengths=tuple(lengths),
            scored_lengths=tuple(lengths[:2]),
            tokens=sum(lengths) + len(lengths) * work.prompt,
            oldest_version=version,
        )
        self._source.graded(graded)
        return graded, None

    async def offer(self, graded: Summary, arrays: None) -> None:
        await self.filter.work(self._costs.filtering)
        self._totals[0] += 1
        self._totals[2] += sum(graded.lengths)
        if reason := drop_both(np.array(graded.scores)):
            self.ledger.reject(graded.id, reason, 1.0)
            self.recorder.take(self._costs.recording * graded.tokens)
        else:
            self.ledger.accept(graded.id)
            self._summaries[graded.id] = graded
        self._changed.set()

    async def drop(self, group: int, reason: str) -> None:
        raise AssertionError("nothing fails here")

    async def take(self) -> list[Summary]:
        while (batch := self.ledger.take()) is None:
            self._changed.clear()
            await self._changed.wait()
        taken = [self._summaries.pop(group) for group in batch]
        await self.driver.work(self._costs.step_calls / 2)
        await asyncio.sleep(self._costs.prepare)
        return taken

    async def train(self, batch: list[Summary]) -> None:
        work, costs = self._work, self._costs
        self._waited += asyncio.get_running_loop().time() - self._reported
        await self.driver.work(costs.step_calls / 2)
        plan = plan_step(batch, work.algorithm, updates=1, ranks=costs.ranks, max_new_tokens=10**6)
        tokens = [sum(batch[index].tokens for index in rank.groups) for rank in plan.ranks]
        await self.learner.work(costs.training(tokens))
        for graded in batch:
            self.recorder.take(costs.recording * graded.tokens)
        trained_at = asyncio.get_running_loop().time()
        await until(self.recorder.free_at)  # the step's file is closed before the next weights are published
        self._closing += max(0.0, self.recorder.free_at - trained_at)
        self.ledger.trained()
        self._totals[1] += len(batch)
        self._totals[3] += sum(tokens)

    async def publish(self, version: int) -> None:
        for engine in self._engines:
            engine.pause()
        await self.driver.work(self._costs.sync_calls)
        await asyncio.sleep(self._costs.transfer)
        for engine in self._engines:
            engine.resume()
        self.ledger.publish(version)
        self._live = version
        self._changed.set()

    async def report(self, done: StepDone[Any, Any, Any]) -> bool:
        await asyncio.sleep(self._costs.between)
        check_conservation(self.ledger.counts())
        for engine in self._engines:
            engine.settle()
        count, decoding = len(self._engines), sum(engine.busy for engine in self._engines)
        busy = {
            "engines": decoding / count,
            "learner": self.learner.busy,
            "driver": self.driver.busy,
            "filter": self.filter.busy,
            "recorder": self.recorder.busy,
            "verifiers": self._graded_seconds / len(self._verifiers),
            "closing": self._closing,
            "waited": self._waited,
        }
        seated = sum(engine.seated for engine in self._engines)
        self._reported = asyncio.get_running_loop().time()
        self._marks.append((self._reported, list(self._totals), busy, seated, decoding))
        return True

    def _engine(self) -> int:
        """The least busy engine; it has one group more."""
        while True:
            groups, number = heapq.heappop(self._load)
            if groups == self._engines[number].groups:
                heapq.heappush(self._load, (groups + 1, number))
                return number

    def _ended(self, group: int, time: float) -> None:
        """A response is whole: a verifier takes it when one is free."""
        moment = max(self._verifiers[0], time) + self._costs.verdict
        heapq.heapreplace(self._verifiers, moment)
        self._graded_seconds += self._costs.verdict
        flight = self._flights[group]
        flight.left -= 1
        if not flight.left:
            flight.done.set_result(moment)
