"""The filter actor, which holds the ledger and writes every graded group to Parquet.

A group's arrays come with its offer. They are let go as soon as they are written: those of a rejected group at once,
those of an accepted one when it has been trained on. The learner never hears of a rejected group.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from actors.errors import Starved
from actors.filtering.ledger import Ledger, LedgerState
from actors.filtering.recorder import Recorder
from actors.filtering.rules import DropRule
from actors.types import GroupRef, PromptVisit, Summary

NEVER_TRAINED = "never trained"  # of a group that was accepted when its run ended


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """What the filter is told of a run."""

    drop: DropRule
    groups_per_step: int
    max_staleness: int
    patience: int
    trajectories: Path  # folder for the Parquet files


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """P accepted groups for one training step."""

    summaries: tuple[Summary, ...]
    groups: tuple[GroupRef, ...]  # references to their packed record batches, in the same order


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What the ledger has counted."""

    counts: dict[str, int]  # running totals under their metric names
    drops: dict[str, int]  # dropped groups by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingGroup:
    """An accepted group that has not been trained on."""

    summary: Summary
    group: pa.Buffer  # its packed record batch


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """What the filter knows, between two calls."""

    ledger: LedgerState
    waiting: tuple[WaitingGroup, ...]  # in the order of `ledger.waiting`
    interrupted: tuple[PromptVisit, ...] = ()  # prompts of the groups in flight, from the client
    graded: tuple[Summary, ...] = ()  # groups that were graded since the client was last asked, from the client


class FilterSession:
    """The filter of one run."""

    def __init__(self, spec: FilterSpec, state: FilterState | None = None) -> None:
        """`state` is what the run goes on from; None for a run that begins."""
        self._drop_rule = spec.drop
        self._ledger = Ledger(
            groups_per_step=spec.groups_per_step, max_staleness=spec.max_staleness, patience=spec.patience
        )
        self._recorder = Recorder(spec.trajectories, step=state.ledger.batches + 1 if state else 1)
        self._accepted: dict[int, WaitingGroup] = {}
        self._taken: dict[int, WaitingGroup] = {}  # the batch that is being trained on
        self._starved: Starved | None = None  # what the ledger raised, for whoever takes the next batch
        self._changed = asyncio.Condition()
        self._over = self._closed = False
        if state is not None:
            self._ledger.restore(state.ledger)
            self._accepted = {each.summary.id: each for each in state.waiting}

    async def end(self) -> None:
        """Lets go whoever still waits: another run begins."""
        async with self._changed:
            self._over = True
            self._changed.notify_all()

    async def admit(self) -> list[int]:
        """As `Filter.admit`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._over or self._ledger.slots > 0)
            return [] if self._over else list(self._ledger.admit(self._ledger.slots))

    async def offer(self, summaries: Sequence[Summary], groups: Sequence[pa.Buffer]) -> list[int]:
        """As `Filter.offer`."""
        refused = []
        async with self._changed:
            for summary, group in zip(summaries, groups, strict=True):
                if reason := self._reason_to_refuse(summary):
                    refused.append(summary.id)
                    self._recorder.write([group], reason)
                elif self._closed:
                    self._recorder.write([group], NEVER_TRAINED)
                else:
                    self._accepted[summary.id] = WaitingGroup(summary=summary, group=group)
            self._changed.notify_all()
        return refused

    async def drop(self, group: int, reason: str) -> None:
        """As `Filter.drop`."""
        async with self._changed:
            with self._keeping_starvation():
                self._ledger.drop(group, reason)
            self._changed.notify_all()

    async def take(self) -> tuple[int, ...]:
        """As `Filter.take`."""
        async with self._changed:
            while not self._over:
                if self._starved is not None:
                    raise self._starved
                if (taken := self._ledger.take()) is not None:
                    self._taken = {group: self._accepted.pop(group) for group in taken}
                    return taken
                await self._changed.wait()
        return ()

    async def trained(self) -> None:
        """As `Filter.trained`."""
        async with self._changed:
            self._ledger.trained()
            self._recorder.write([each.group for each in self._taken.values()], "")
            self._taken = {}

    async def publish(self, version: int) -> None:
        """As `Filter.publish`."""
        async with self._changed:
            self._ledger.publish(version)
            self._changed.notify_all()

    async def report(self, step: int) -> LedgerReport:
        """As `Filter.report`."""
        async with self._changed:
            report = LedgerReport(counts=self._ledger.counts(), drops=self._ledger.drops())
        await asyncio.to_thread(self._recorder.close_step, step)
        return report

    async def save(self) -> FilterState:
        """As `Filter.save`."""
        async with self._changed:
            ledger, waiting = self._ledger.save(), self._taken | self._accepted
            return FilterState(ledger=ledger, waiting=tuple(waiting[group] for group in ledger.waiting))

    async def close(self, step: int) -> None:
        """As `Filter.close`."""
        async with self._changed:
            left, self._closed = [*self._taken.values(), *self._accepted.values()], True
            self._taken, self._accepted = {}, {}
            self._recorder.write([each.group for each in left], NEVER_TRAINED)
        await asyncio.to_thread(self._recorder.close, step)
        self._ledger.counts()

    def _reason_to_refuse(self, summary: Summary) -> str:
        """Enters the group into the ledger; why it is refused, or "" where it is kept."""
        if len(summary.scores) < min(2, len(summary.outcomes)):
            with self._keeping_starvation():
                self._ledger.fail(summary.id)
            return "failed"
        scores = np.array(summary.scores)
        reason = self._drop_rule(scores)
        if not reason:
            self._ledger.accept(summary.id)
            return ""
        with self._keeping_starvation():
            self._ledger.reject(summary.id, reason, pass_rate=float((scores > 0).mean()))
        return reason

    @contextmanager
    def _keeping_starvation(self) -> Iterator[None]:
        """Keeps the first Starved that the ledger raises for whoever takes the next batch."""
        try:
            yield
        except Starved as starved:
            self._starved = self._starved or starved


class Filter:
    """Ray actor between verifiers and learner. It serves one run after another; `begin` opens each."""

    def __init__(self) -> None:
        self._session: FilterSession | None = None

    async def begin(self, spec: FilterSpec, state: FilterState | None = None) -> None:
        """Opens a run with an empty ledger, or with what a saved one knew; whoever waits for the last run is let go."""
        last, self._session = self._session, FilterSession(spec, state)
        if last is not None:
            await last.end()

    async def admit(self) -> list[int]:
        """Ids for as many groups as there are free slots, at least one; none when the run is over.

        Takes: free slots. Waits for: a slot. Woken by: `offer` (a rejection frees one), `drop`, `publish`, `begin`.
        """
        return await self._run.admit()

    async def offer(self, summaries: Sequence[Summary], *groups: pa.Buffer) -> list[int]:
        """Graded groups and their packed record batches: each is kept for the learner, or written and let go.

        Returns:
            the ids of those that were not kept.
        """
        return await self._run.offer(summaries, groups)

    async def drop(self, group: int, reason: str) -> None:
        """A group that will not come, and why."""
        await self._run.drop(group, reason)

    async def take(self) -> tuple[int, ...]:
        """The ids of the next training batch.

        Takes: P accepted groups, oldest first; none when the run is over. Waits for: their acceptance.
        Woken by: `offer`, `drop`, `begin`.

        Raises:
            Starved: the filter's patience ran out.
        """
        return await self._run.take()

    async def trained(self) -> None:
        """The batch that was taken last has been trained on."""
        await self._run.trained()

    async def publish(self, version: int) -> None:
        """All generators hold this version."""
        await self._run.publish(version)

    async def report(self, step: int) -> LedgerReport:
        """What the ledger has counted; closes the file of the step."""
        return await self._run.report(step)

    async def save(self) -> FilterState:
        """What the run needs to go on: the ledger and the accepted groups, those of a batch that is being trained on
        too. Save between `trained` and the next `trained`, when the weights are those of the last one."""
        return await self._run.save()

    async def close(self, step: int) -> None:
        """Writes what was accepted but never trained on, and checks the ledger a last time. A group that is offered
        after it is written at once."""
        await self._run.close(step)

    @property
    def _run(self) -> FilterSession:
        if self._session is None:
            raise RuntimeError("the filter was asked before it was told of a run (begin)")
        return self._session
