"""The filter actor, which holds the ledger and writes every graded group to Parquet, and the driver's side of it.

A group's arrays come with its offer. They are let go as soon as they are written: those of a rejected group at once,
those of an accepted one when it has been trained on. The learner never hears of a rejected group.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from actors.errors import Starved
from actors.filtering.ledger import Ledger
from actors.filtering.recorder import Recorder
from actors.filtering.rules import DropRule
from actors.pool import call
from actors.types import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """What the filter is started with."""

    drop: DropRule
    groups_per_step: int
    max_staleness: int
    patience: int
    trajectories: Path  # folder for the Parquet files


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """P accepted groups for one training step."""

    summaries: tuple[Summary, ...]
    groups: tuple[ray.ObjectRef, ...]  # their packed record batches, in the same order


class Filter:
    """Ray actor between verifiers and learner."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._runs = 0

    async def begin(self, spec: FilterSpec) -> None:
        """Opens a run with empty books; whoever still waits for the last one is let go."""
        async with self._changed:
            self._spec = spec
            self._ledger = Ledger(
                groups_per_step=spec.groups_per_step, max_staleness=spec.max_staleness, patience=spec.patience
            )
            self._recorder = Recorder(spec.trajectories)
            self._accepted: dict[int, pa.Buffer] = {}
            self._taken: list[pa.Buffer] = []  # the batch that is being trained on
            self._starved: Starved | None = None
            self._runs += 1
            self._changed.notify_all()

    async def admit(self) -> list[int]:
        """Ids for as many groups as there are free slots, at least one; none when the run is over.

        Takes: free slots. Waits for: a slot. Woken by: `offer` (a rejection frees one), `drop`, `publish`, `begin`.
        """
        async with self._changed:
            run = self._runs
            await self._changed.wait_for(lambda: self._runs != run or self._ledger.slots > 0)
            return list(self._ledger.admit(self._ledger.slots)) if self._runs == run else []

    async def offer(self, summaries: Sequence[Summary], *groups: pa.Buffer) -> list[int]:
        """Graded groups and their packed record batches: each is kept for the learner, or written and let go.

        Returns:
            the ids of those that were not kept.
        """
        refused = []
        async with self._changed:
            for summary, group in zip(summaries, groups, strict=True):
                reason = self._judge(summary)
                if not reason:
                    self._accepted[summary.id] = group
                else:
                    refused.append(summary.id)
                    self._recorder.write([group], reason)
            self._changed.notify_all()
        return refused

    async def drop(self, group: int, reason: str) -> None:
        """A group that will not come, and why."""
        async with self._changed:
            with self._watching():
                self._ledger.drop(group, reason)
            self._changed.notify_all()

    async def take(self) -> tuple[int, ...]:
        """The ids of the next training batch.

        Takes: P accepted groups, oldest first; none when the run is over. Waits for: their acceptance.
        Woken by: `offer`, `drop`, `begin`.

        Raises:
            Starved: the filter's patience ran out.
        """
        async with self._changed:
            taken, run = None, self._runs
            while taken is None:
                if self._runs != run:
                    return ()
                if self._starved is not None:
                    raise self._starved
                taken = self._ledger.take()
                if taken is None:
                    await self._changed.wait()
            self._taken = [self._accepted.pop(group) for group in taken]
        return taken

    async def trained(self) -> None:
        """The batch that was taken last has been trained on."""
        async with self._changed:
            self._ledger.trained()
            self._recorder.write(self._taken, "")
            self._taken = []

    async def publish(self, version: int) -> None:
        """All generators hold this version."""
        async with self._changed:
            self._ledger.publish(version)
            self._changed.notify_all()

    async def report(self, step: int) -> tuple[dict[str, int], dict[str, int]]:
        """(ledger counts, dropped groups by reason); closes the step's file."""
        async with self._changed:
            counts, drops = self._ledger.counts(), self._ledger.drops()
        await asyncio.to_thread(self._recorder.close_step, step)
        return counts, drops

    async def close(self, step: int) -> None:
        """Writes what was accepted but never trained on, closes the files, and checks the ledger a last time."""
        self._ledger.counts()
        self._recorder.write([*self._taken, *self._accepted.values()], "never trained")
        await asyncio.to_thread(self._recorder.close_step, step)

    def _judge(self, summary: Summary) -> str:
        """Enters the group into the ledger; the reason of its rejection, or "" where it is kept."""
        if len(summary.scores) < min(2, len(summary.outcomes)):
            with self._watching():
                self._ledger.fail(summary.id)
            return "failed"
        scores = np.array(summary.scores)
        reason = self._spec.drop(scores)
        if not reason:
            self._ledger.accept(summary.id)
            return ""
        with self._watching():
            self._ledger.reject(summary.id, reason, pass_rate=float((scores > 0).mean()))
        return reason

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Keeps the ledger's word that patience is spent for whoever takes the next batch."""
        try:
            yield
        except Starved as starved:
            self._starved = self._starved or starved


class FilterClient:
    """The driver's side of the filter, for one run: it knows each group by its summary until the group has ended.

    An offer carries what has gathered while the last one was under way, so that the number of calls follows the time
    that they take, not the number of groups.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._held: dict[int, tuple[Summary, ray.ObjectRef]] = {}  # offered and not refused, nor taken
        self._waiting: list[int] = []  # held, not yet on their way
        self._turn = asyncio.Lock()
        self._graded: list[Summary] = []

    async def offer(self, summary: Summary, group: ray.ObjectRef) -> None:
        """Returns when the filter has the group; raises as `call`."""
        self._held[summary.id] = (summary, group)
        self._waiting.append(summary.id)
        async with self._turn:
            if self._waiting:  # else the call before this one took it along
                ids, self._waiting = self._waiting, []
                summaries, groups = zip(*(self._held[each] for each in ids), strict=True)
                for refused in await call(self._actor, "offer", summaries, *groups):
                    del self._held[refused]
                self._graded += summaries

    async def take(self) -> AcceptedBatch:
        """The next training batch, as `Filter.take`."""
        taken = [self._held.pop(group) for group in await call(self._actor, "take")]
        return AcceptedBatch(summaries=tuple(s for s, _ in taken), groups=tuple(g for _, g in taken))

    def graded(self) -> list[Summary]:
        """The groups that were graded since the last time that this was asked, kept or not."""
        graded, self._graded = self._graded, []
        return graded
