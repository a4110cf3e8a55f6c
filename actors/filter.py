"""The filter actor: holds the ledger and references to accepted groups, and writes every graded group to Parquet.

A rejected group's arrays are freed as soon as they are written; the learner never hears of it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from actors.errors import Starved
from actors.ledger import Ledger
from actors.recorder import Recorder
from actors.rules import KeepRule
from actors.types import Summary

Box = list[ray.ObjectRef]  # a reference in a list, so that Ray hands it on without fetching what it points to


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """What the filter is started with."""

    keep: KeepRule
    groups_per_step: int
    max_staleness: int
    patience: int
    trajectories: Path  # folder for the Parquet files


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """P accepted groups for one training step."""

    summaries: tuple[Summary, ...]
    boxes: tuple[Box, ...]  # the groups' packed record batches, in the same order


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
            self._accepted: dict[int, tuple[Summary, Box]] = {}
            self._taken: tuple[Box, ...] = ()  # the batch that is being trained on
            self._graded: list[Summary] = []  # since the last report, kept or not
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

    async def offer(self, graded: Sequence[tuple[Summary, Box]]) -> None:
        """Graded groups: each is kept for the learner, or rejected and freed."""
        async with self._changed:
            for summary, box in graded:
                self._graded.append(summary)
                reason = self._judge(summary)
                if not reason:
                    self._accepted[summary.id] = (summary, box)
                else:
                    self._recorder.write([box], reason)
            self._changed.notify_all()

    async def drop(self, group: int, reason: str) -> None:
        """A group that will not come, and why."""
        async with self._changed:
            with self._watching():
                self._ledger.drop(group, reason)
            self._changed.notify_all()

    async def take(self) -> AcceptedBatch:
        """The next training batch.

        Takes: P accepted groups, oldest first; none when the run is over. Waits for: their acceptance.
        Woken by: `offer`, `drop`, `begin`.

        Raises:
            Starved: the filter's patience ran out.
        """
        async with self._changed:
            taken, run = None, self._runs
            while taken is None:
                if self._runs != run:
                    return AcceptedBatch(summaries=(), boxes=())
                if self._starved is not None:
                    raise self._starved
                taken = self._ledger.take()
                if taken is None:
                    await self._changed.wait()
            groups = [self._accepted.pop(group) for group in taken]
            self._taken = tuple(box for _, box in groups)
        return AcceptedBatch(summaries=tuple(s for s, _ in groups), boxes=self._taken)

    async def trained(self, boxes: Sequence[Box]) -> None:
        """The batch that was taken last has been trained on."""
        async with self._changed:
            self._ledger.trained()
            self._taken = ()
            self._recorder.write(boxes, "")

    async def publish(self, version: int) -> None:
        """All generators hold this version."""
        async with self._changed:
            self._ledger.publish(version)
            self._changed.notify_all()

    async def report(self, step: int) -> tuple[dict[str, int], dict[str, int], list[Summary]]:
        """(ledger counts, dropped groups by reason, groups graded since the last report); closes the step's file."""
        async with self._changed:
            graded, self._graded = self._graded, []
            counts, drops = self._ledger.counts(), self._ledger.drops()
        await asyncio.to_thread(self._recorder.close_step, step)
        return counts, drops, graded

    async def close(self, step: int) -> None:
        """Writes what was accepted but never trained on, closes the files, and checks the ledger a last time."""
        self._ledger.counts()
        boxes = [*self._taken, *(box for _, box in self._accepted.values())]
        self._recorder.write(boxes, "never trained")
        await asyncio.to_thread(self._recorder.close_step, step)

    def _judge(self, summary: Summary) -> str:
        """Enters the group into the ledger; the reason of its rejection, or "" where it is kept."""
        if len(summary.scores) < min(2, len(summary.outcomes)):
            with self._watching():
                self._ledger.fail(summary.id)
            return "failed"
        scores = np.array(summary.scores)
        reason = self._spec.keep(scores)
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
