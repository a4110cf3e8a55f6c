"""What the driver knows of the groups of one run: where each one is, and the references to those that the learner or
the disk still needs. Pure: no Ray, and nothing here waits but `until`.

    admit -> dispatched -> offer -> filtered -> kept ----> taken -> trained ──┐
      │                                └─────> refused ──────────────────▶ unwritten -> on disk
      └────> drop

All of it outlives the filter's process, so a new filter can be told of the run again (`actors.filtering.client`).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from actors.errors import Starved
from actors.filtering.filter import FilterSpec, FilterState, LedgerReport
from actors.filtering.ledger import Ledger, LedgerState
from actors.filtering.siblings import has_verdicts
from actors.types import GroupRef, PromptVisit, RolloutRequest, Summary

NEVER_TRAINED = "never trained"  # of a group that was accepted when its run ended


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedGroup:
    """A graded group."""

    summary: Summary
    group: GroupRef  # to its packed record batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """A group whose fate is known, and of which it is not known that it is on disk."""

    group: GroupRef
    why: str  # it was not trained on; "" where it was


class RunGroups:
    """The groups of one run."""

    def __init__(self, spec: FilterSpec, step: int = 1) -> None:
        """`step` is the one that is going on."""
        self.spec, self.step = spec, step
        self.over = self.closed = False  # whether another run has begun; whether what is accepted is never trained on
        self.kept: dict[int, OfferedGroup] = {}  # accepted, and in no batch
        self.taken: dict[int, OfferedGroup] = {}  # the batch that is being trained on
        self.unwritten: dict[int, Unwritten] = {}
        self.lost: set[int] = set()  # offered, and their arrays were gone: whoever offered them is told
        self.graded: list[Summary] = []  # since `FilterClient.graded` was last asked
        self._ledger = Ledger(
            groups_per_step=spec.groups_per_step, max_staleness=spec.max_staleness, patience=spec.patience
        )
        self._prompts: dict[int, PromptVisit] = {}  # of groups that are dispatched and have not ended
        self._starved: Starved | None = None  # what the ledger raised, for whoever takes the next batch
        self._changed = asyncio.Event()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Waits until `ready`, or until the run is over."""
        while not (self.over or ready()):
            self._changed.clear()
            await self._changed.wait()

    def end(self) -> None:
        """Lets go whoever waits: another run begins."""
        self.over = True
        self._changed.set()

    @property
    def slots(self) -> int:
        """How many groups may be admitted now."""
        return self._ledger.slots

    def admit(self) -> list[int]:
        """Ids for as many groups as there are free slots."""
        return list(self._ledger.admit(self._ledger.slots))

    def dispatched(self, request: RolloutRequest) -> None:
        """An admitted group is about to be sampled."""
        self._prompts[request.group] = PromptVisit(prompt_id=request.prompt.id, visit=request.visit)

    def filtered(self, offered: OfferedGroup, reason: str) -> None:
        """A group that the filter has kept, or refused for a reason."""
        summary = offered.summary
        self._prompts.pop(summary.id, None)
        self.graded.append(summary)
        if reason:
            self._refuse(summary, reason)
            self.unwritten[summary.id] = Unwritten(group=offered.group, why=reason)
        else:
            self._ledger.accept(summary.id)
            self.kept[summary.id] = offered
        self._changed.set()

    def drop(self, group: int, reason: str) -> None:
        """A group that will not come."""
        with self._keeping_starvation():
            self._ledger.drop(group, reason)
        self._prompts.pop(group, None)
        self._changed.set()

    def take(self) -> list[OfferedGroup] | None:
        """The next batch, or None while it must wait.

        Raises:
            Starved: the filter's patience ran out.
        """
        if self._starved is not None:
            raise self._starved
        if (ids := self._ledger.take()) is None:
            return None
        self.taken = {group: self.kept.pop(group) for group in ids}
        return list(self.taken.values())

    def trained(self) -> list[int]:
        """The batch that was taken last has been trained on; the ids of its groups."""
        self._ledger.trained()
        ids, self.taken = self._fated(self.taken, ""), {}
        return ids

    def publish(self, version: int) -> None:
        """All generators hold this version."""
        self._ledger.publish(version)
        self._changed.set()

    def close(self) -> list[int]:
        """What is accepted will never be trained on; the ids of these groups."""
        self.closed = True
        ids = self._fated(self.taken | self.kept, NEVER_TRAINED)
        self.taken, self.kept = {}, {}
        return ids

    def on_disk(self, groups: Sequence[int]) -> None:
        """These groups have been written."""
        for group in groups:
            self.unwritten.pop(group, None)

    def report(self) -> LedgerReport:
        """What the ledger has counted; looks whether every group is in exactly one place."""
        ledger = self._ledger
        return LedgerReport(counts=ledger.counts(), drops=ledger.drops(), patience_spent=ledger.patience_spent)

    @property
    def waiting(self) -> dict[int, OfferedGroup]:
        """The accepted groups that are not trained on, those of a batch that is being trained on too, in the order of
        their arrival."""
        return self.taken | self.kept

    def save(self) -> tuple[LedgerState, tuple[PromptVisit, ...]]:
        """What the ledger knows, and the prompts of the groups in flight, in the order of their dispatch."""
        state = self._ledger.save()
        return state, tuple(self._prompts[group] for group in sorted(state.in_flight) if group in self._prompts)

    def restore(self, state: FilterState, waiting: dict[int, OfferedGroup]) -> None:
        """Goes on from a saved state, with these references to its waiting groups."""
        self._ledger.restore(state.ledger)
        self.kept, self.graded = waiting, list(state.graded)

    def _fated(self, groups: dict[int, OfferedGroup], why: str) -> list[int]:
        self.unwritten |= {group: Unwritten(group=each.group, why=why) for group, each in groups.items()}
        return list(groups)

    def _refuse(self, summary: Summary, reason: str) -> None:
        with self._keeping_starvation():
            if has_verdicts(summary):
                pass_rate = sum(score > 0 for score in summary.scores) / len(summary.scores)
                self._ledger.reject(summary.id, reason, pass_rate=pass_rate)
            else:
                self._ledger.fail(summary.id)

    @contextmanager
    def _keeping_starvation(self) -> Iterator[None]:
        """Keeps the first Starved that the ledger raises for whoever takes the next batch."""
        try:
            yield
        except Starved as starved:
            self._starved = self._starved or starved
