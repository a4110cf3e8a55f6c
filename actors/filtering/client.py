"""The typed caller of the filter: the driver's side of it, which holds the ledger and outlives the filter's process.

A filter that dies or hangs is replaced. Everything that it was told is still known here, and nobody but this client and
the disk has seen what it did; so whatever it had not answered counts as not done: the new filter is told of the run,
gets the groups that wait and those that are perhaps not on disk, and is asked again. It writes nothing twice, as its
recorder looks at what is there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.deadlines import FILTER
from actors.errors import ActorDied, GroupLost, NoAnswer, ObjectsLost
from actors.filtering.filter import AcceptedBatch, FilterSpec, FilterState, LedgerReport, WaitingGroup
from actors.filtering.groups import NEVER_TRAINED, OfferedGroup, RunGroups
from actors.remote import answer, within
from actors.types import GroupRef, RolloutRequest, Summary

Reply = TypeVar("Reply")
Actor = Any  # a handle of a `Filter`, whose methods Ray makes
REPLACEMENTS = 3  # of a filter in one step; a fourth would die as well


def _silent(text: str) -> None:
    """Says nothing."""


class FilterClient:
    """The filter, called by the driver. Methods that ask it raise ActorDied or NoAnswer where no filter lives for long,
    and BrokenPart when the method itself failed.

    An offer carries all groups that gathered while the one before it was under way, so that the number of calls follows
    the time that they take, not the number of groups.
    """

    def __init__(
        self,
        create: Callable[[], ActorHandle[Any]],
        put: Callable[[pa.Buffer], GroupRef] = ray.put,
        kill: Callable[[ActorHandle[Any]], None] = ray.kill,
    ) -> None:
        """
        Args:
            create: makes a filter actor.
            put: places a group in the object store.
            kill: ends a filter actor.
        """
        self.name = "filter"
        self._create, self._put, self._kill = create, put, kill
        self._handle: Actor = create()
        self._begun: RunGroups | None = None
        self._say: Callable[[str], None] = _silent
        self._unsent: list[OfferedGroup] = []  # offered, not yet on their way
        self._one_offer, self._replacing = asyncio.Lock(), asyncio.Lock()
        self._replaced = 0  # filters in this step

    async def begin(self, spec: FilterSpec, say: Callable[[str], None] = _silent) -> None:
        """Opens a run with an empty ledger; whoever still waits for the last one is let go.

        Args:
            spec: what there is to know of the run.
            say: tells the person something.
        """
        self._say = say
        await self._open(RunGroups(spec))

    async def admit(self) -> list[int]:
        """Ids for as many groups as there are free slots, at least one; none when the run is over.

        Takes: free slots. Waits for: a slot. Woken by: `offer` (a rejection frees one), `drop`, `publish`, `begin`.
        """
        run = self._run
        await run.until(lambda: run.slots > 0)
        return [] if run.over else run.admit()

    def dispatched(self, request: RolloutRequest) -> None:
        """An admitted group is about to be sampled; call it with nothing awaited since its id and its prompt were
        dealt. Only with this are the prompts of groups in flight part of what `save` gives."""
        self._run.dispatched(request)

    async def offer(self, summary: Summary, group: GroupRef) -> None:
        """Returns when the filter has the group. A call that is given up before goes on: the group is not lost by that.

        Raises:
            GroupLost: its arrays are gone with the node that held them; nobody has counted it.
        """
        run = self._run
        self._unsent.append(OfferedGroup(summary=summary, group=group))
        await asyncio.shield(asyncio.create_task(self._send_unsent()))
        if summary.id in run.lost:
            run.lost.remove(summary.id)
            raise GroupLost(f"the arrays of group {summary.id} are gone with the node that held them")

    async def drop(self, group: int, reason: str) -> None:
        """A group that will not come, and why."""
        self._run.drop(group, reason)

    async def take(self) -> AcceptedBatch:
        """The next training batch.

        Takes: P accepted groups, oldest first; none when the run is over. Waits for: their acceptance.
        Woken by: `offer`, `drop`, `begin`.

        Raises:
            Starved: the filter's patience ran out.
        """
        run, found = self._run, list[OfferedGroup]()

        def taken() -> bool:
            found.extend(run.take() or ())
            return bool(found)

        await run.until(taken)
        return AcceptedBatch(
            summaries=tuple(each.summary for each in found), groups=tuple(each.group for each in found)
        )

    async def trained(self) -> None:
        """The batch that was taken last has been trained on."""
        run = self._run
        ids = run.trained()
        await self._ask(run, lambda filter: filter.let_go.remote(ids, ""), "to write a batch")

    async def publish(self, version: int) -> None:
        """All generators hold this version."""
        self._run.publish(version)

    def counted(self) -> LedgerReport:
        """What the ledger has counted."""
        return self._run.report()

    async def close_step(self, step: int) -> None:
        """Closes the file of the step: whatever has been counted or saved until now is on disk in it, or in one of an
        earlier step. A run that goes on from the step has it, then."""
        run, written = self._run, list(self._run.unwritten)
        await self._ask(run, lambda filter: filter.close_step.remote(step), "to close a step's file")
        run.on_disk(written)
        run.step, self._replaced = step + 1, 0

    async def report(self, step: int) -> LedgerReport:
        """`counted`, and `close_step`."""
        report = self.counted()
        await self.close_step(step)
        return report

    async def close(self, step: int) -> None:
        """Writes what was accepted but never trained on, and closes the files; offers that are under way come first."""
        run = self._run
        await self._send_unsent()
        ids = run.close()
        written = list(run.unwritten)
        await self._ask(run, lambda filter: filter.let_go.remote(ids, NEVER_TRAINED), "to write what is left")
        await self._ask(run, lambda filter: filter.close.remote(step), "to close its files")
        run.on_disk(written)
        run.report()

    def graded(self) -> list[Summary]:
        """The groups that were graded since the last time that this was asked, kept or not."""
        run = self._run
        graded, run.graded = run.graded, []
        return graded

    async def save(self) -> FilterState:
        """What the run needs to go on: the ledger, the accepted groups, those of a batch that is being trained on too,
        and the prompts of the groups in flight. Save between `trained` and the next `trained`, when the weights are
        those of the last one.

        A prompt source must be saved right after it, with nothing awaited in between: what it has dealt by then is
        accounted for here, either by the ledger or as interrupted.
        """
        run = self._run
        arrays: dict[int, pa.Buffer] = {}
        while lacking := [group for group in run.waiting if group not in arrays]:  # more may come meanwhile
            arrays |= dict(zip(lacking, await self._held(run, lacking), strict=True))
        ledger, interrupted = run.save()
        waiting = run.waiting
        return FilterState(
            ledger=ledger,
            waiting=tuple(
                WaitingGroup(summary=waiting[group].summary, group=arrays[group]) for group in ledger.waiting
            ),
            interrupted=interrupted,
            graded=tuple(run.graded),
        )

    async def restore(self, state: FilterState) -> None:
        """Goes on from a saved state: after `begin`, before anything is admitted. Accepted groups wait again."""
        run = RunGroups(self._run.spec, step=state.ledger.batches + 1)
        waiting = {
            each.summary.id: OfferedGroup(summary=each.summary, group=self._put(each.group)) for each in state.waiting
        }
        run.restore(state, waiting)
        await self._open(run)

    @property
    def _run(self) -> RunGroups:
        if self._begun is None:
            raise RuntimeError("the filter was asked before it was told of a run (begin)")
        return self._begun

    async def _open(self, run: RunGroups) -> None:
        """Makes this the run, and has the filter know of it."""
        if self._begun is not None:
            self._begun.end()
        self._begun, self._unsent, self._replaced = run, [], 0
        # those of the event loop that the run is driven by
        self._one_offer, self._replacing = asyncio.Lock(), asyncio.Lock()
        filter = self._handle
        try:
            await _tell(filter, run, takes_over=False)
        except (ActorDied, NoAnswer) as end:
            await self._replace(filter, end)

    async def _held(self, run: RunGroups, ids: list[int]) -> list[pa.Buffer]:
        return await self._ask(run, lambda filter: filter.held.remote(ids), "for the groups that wait")

    async def _send_unsent(self) -> None:
        """Offers all groups that wait for it, in one call, when the call before it is over."""
        run = self._run
        async with self._one_offer:
            if not self._unsent or run.over:
                return  # the call before this one took the groups along
            offered, self._unsent = self._unsent, []
            await self._send(run, offered)
            if run.closed and (late := run.close()):
                await self._ask(run, lambda filter: filter.let_go.remote(late, NEVER_TRAINED), "to write what is late")

    async def _send(self, run: RunGroups, offered: list[OfferedGroup]) -> None:
        """Has groups filtered. Where the arrays of some are gone with a node, each is offered alone: only those are
        lost."""
        summaries, groups = [each.summary for each in offered], [each.group for each in offered]
        try:
            said = await self._ask(run, lambda filter: filter.offer.remote(summaries, *groups), "to filter groups")
        except ObjectsLost:
            if len(offered) == 1:
                run.lost.add(summaries[0].id)
                return
            for each in offered:
                await self._send(run, [each])
            return
        for each, reason in zip(offered, said.reasons, strict=True):
            run.filtered(each, reason)
        run.on_disk(said.on_disk)

    async def _ask(self, run: RunGroups, ask: Callable[[Actor], Awaitable[Reply]], doing: str) -> Reply:
        """The reply of the filter, or of one that takes its place."""
        while True:
            filter = self._handle
            try:
                reply = await within(FILTER, answer(ask(filter), self.name), self.name, doing)
            except (ActorDied, NoAnswer) as end:
                if run.over:
                    raise
                await self._replace(filter, end)
            else:
                if filter is self._handle and not self._replacing.locked():
                    return reply
                async with self._replacing:  # given up meanwhile: the new one may know nothing of what it has said
                    continue

    async def _replace(self, filter: Actor, end: ActorDied | NoAnswer) -> None:
        """Has a new filter take the place of one that has died or hangs, unless another call has done so.

        Raises:
            ActorDied: filters die as soon as they are there.
            NoAnswer: there is no room for one.
        """
        async with self._replacing:
            while self._handle is filter:
                self._replaced += 1
                if self._replaced > REPLACEMENTS:
                    raise end
                self._kill(filter)
                new = self._create()
                try:
                    await _tell(new, self._run, takes_over=True)
                except (ActorDied, NoAnswer) as again:
                    self._kill(new)
                    end = again
                else:
                    self._handle = new
                    self._say(f"the filter is replaced by a new one that was told of all groups. {end}")


async def _tell(filter: Actor, run: RunGroups, *, takes_over: bool) -> None:
    """Tells a filter that knows nothing all that there is to know of a run; see `Filter.begin`."""

    async def said(reply: Awaitable[Any]) -> None:
        await within(FILTER, answer(reply, "filter"), "filter", "to take a run over")

    await said(filter.begin.remote(run.spec, run.step, takes_over))
    known = {group: each.group for group, each in run.waiting.items()}
    unwritten = dict(run.unwritten)
    known |= {group: each.group for group, each in unwritten.items()}
    if known:
        await said(filter.hold.remote(list(known), *known.values()))
    for why in dict.fromkeys(each.why for each in unwritten.values()):
        await said(filter.let_go.remote([group for group, each in unwritten.items() if each.why == why], why))
