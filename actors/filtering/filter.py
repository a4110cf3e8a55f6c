"""The filter actor, which asks the drop rule about every graded group and writes it to Parquet.

A group's arrays come with its offer. They are let go as soon as they are written: those of a rejected group at once,
those of an accepted one when it has been trained on. The learner never hears of a rejected group.

What cannot be lost is not here: ledger and references are the client's (`actors.filtering.client`), so that a filter
whose process is gone is replaced by a new one that is told of the run again.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from actors.filtering.ledger import LedgerState
from actors.filtering.recorder import Recorder
from actors.filtering.rules import DropRule
from actors.filtering.siblings import refusal, refused_rows
from actors.logs import LOGGER, log_in_actor
from actors.types import GroupRef, PromptVisit, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """What the filter is told of a run."""

    drop: DropRule
    groups_per_step: int
    max_staleness: int
    patience: int
    trajectories: Path  # folder for the Parquet files
    most_siblings: int | None = None  # responses of a set of siblings that are trained on at most; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What the filter says to an offer."""

    reasons: tuple[str, ...]  # why each group is refused; "" where it is kept
    on_disk: tuple[int, ...]  # ids of groups of earlier offers that have come to disk since the last reply


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
    patience_spent: float  # groups in a row that were rejected or lost, as a share of filter.patience


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingGroup:
    """An accepted group that has not been trained on."""

    summary: Summary
    group: pa.Buffer  # its packed record batch


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterState:
    """What is known of the groups of a run, between two calls."""

    ledger: LedgerState
    waiting: tuple[WaitingGroup, ...]  # in the order of `ledger.waiting`
    interrupted: tuple[PromptVisit, ...] = ()  # prompts of the groups in flight
    graded: tuple[Summary, ...] = ()  # groups that were graded since `FilterClient.graded` was last asked


class FilterSession:
    """The filter of one run."""

    def __init__(self, spec: FilterSpec, step: int, takes_over: bool) -> None:
        """As `Filter.begin`."""
        refused = partial(refused_rows, drop=spec.drop, most=spec.most_siblings)
        self.recorder = Recorder(spec.trajectories, step, takes_over, refused)
        self._drop_rule = spec.drop
        self._held: dict[int, pa.Buffer] = {}  # accepted groups that are not trained on
        self._offered = Counter[str]()  # groups since the last step, by what became of them

    def offer(self, summaries: Sequence[Summary], groups: Sequence[pa.Buffer]) -> Offered:
        """As `Filter.offer`."""
        reasons = tuple(refusal(summary, self._drop_rule) for summary in summaries)
        self._offered.update(reason or "kept" for reason in reasons)
        refused = defaultdict[str, list[pa.Buffer]](list)
        for summary, group, reason in zip(summaries, groups, reasons, strict=True):
            if reason:
                refused[reason].append(group)
            else:
                self._held[summary.id] = group
        for reason, some in refused.items():
            self.recorder.write(some, reason)
        return Offered(reasons=reasons, on_disk=self.recorder.on_disk())

    def hold(self, ids: Sequence[int], groups: Sequence[pa.Buffer]) -> None:
        """As `Filter.hold`."""
        self._held.update(zip(ids, groups, strict=True))

    def held(self, ids: Sequence[int]) -> list[pa.Buffer]:
        """As `Filter.held`."""
        return [self._held[group] for group in ids]

    def let_go(self, ids: Sequence[int], why: str) -> None:
        """As `Filter.let_go`."""
        self.recorder.write([self._held.pop(group) for group in ids if group in self._held], why)

    def close_step(self, step: int) -> None:
        """As `Filter.close_step`."""
        self.recorder.close_step(step)
        LOGGER.info("step %d is on disk; groups since the one before it: %s", step, dict(self._offered))
        self._offered.clear()


class Filter:
    """Ray actor between verifiers and learner. It serves one run after another; `begin` opens each."""

    def __init__(self) -> None:
        log_in_actor()
        self._session: FilterSession | None = None

    async def begin(self, spec: FilterSpec, step: int, takes_over: bool) -> None:
        """Opens a run that is in this step, and holds nothing of it yet.

        Args:
            spec: what there is to know of the run.
            step: that is going on.
            takes_over: whether another filter has been in this step. What that one has written of it is not written
                again; what it has not written must come again.
        """
        last, self._session = self._session, None
        if last is not None:
            await asyncio.to_thread(last.recorder.abandon)
        self._session = await asyncio.to_thread(FilterSession, spec, step, takes_over)

    async def offer(self, summaries: Sequence[Summary], *groups: pa.Buffer) -> Offered:
        """Graded groups and their packed record batches: each is held for the learner, or written and let go."""
        return self._run.offer(summaries, groups)

    async def hold(self, ids: Sequence[int], *groups: pa.Buffer) -> None:
        """Packed record batches of groups that a filter has kept before."""
        self._run.hold(ids, groups)

    async def held(self, ids: Sequence[int]) -> list[pa.Buffer]:
        """The packed record batches of groups that are held."""
        return self._run.held(ids)

    async def let_go(self, ids: Sequence[int], why: str) -> None:
        """Has groups written and holds them no more; those that it does not hold have been written before.

        Args:
            ids: of the groups.
            why: they were not trained on; "" where they were.
        """
        self._run.let_go(ids, why)

    async def close_step(self, step: int) -> None:
        """Closes the file of the step: whatever was refused or let go before is on disk then."""
        await asyncio.to_thread(self._run.close_step, step)

    async def close(self, step: int) -> None:
        """As `close_step`, at the end of a run. A group that is refused or let go after it is written at once."""
        await asyncio.to_thread(self._run.recorder.close, step)

    @property
    def _run(self) -> FilterSession:
        if self._session is None:
            raise RuntimeError("the filter was asked before it was told of a run (begin)")
        return self._session
