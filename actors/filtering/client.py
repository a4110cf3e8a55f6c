"""The typed caller of the filter: the driver's side of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.filtering.filter import AcceptedBatch, FilterSpec, FilterState, LedgerReport
from actors.remote import answer
from actors.types import GroupRef, PromptVisit, RolloutRequest, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A group that the filter has or is about to get."""

    summary: Summary
    group: GroupRef  # to its packed record batch


@dataclass(slots=True, kw_only=True)
class _RunGroups:
    """What the driver knows of the groups of one run."""

    spec: FilterSpec | None = None
    in_flight: dict[int, PromptVisit] = field(default_factory=dict)  # dispatched, and their end not yet confirmed
    offered: dict[int, _Offer] = field(default_factory=dict)  # neither refused nor taken
    unsent: list[int] = field(default_factory=list)  # offered, not yet on their way
    one_offer: asyncio.Lock = field(default_factory=asyncio.Lock)  # of the event loop that the run is driven by
    graded: list[Summary] = field(default_factory=list)  # since `FilterClient.graded` was last asked


class FilterClient:
    """The filter, called by the driver. Every method raises ActorDied when the filter's process is gone, and
    BrokenPart when the method itself failed.

    Filter and client both hold each accepted group: the filter its arrays, which it writes to disk, and the client the
    reference by which the learner's ranks get them. Whenever no call is under way, the two hold the same ids.

    An offer carries all groups that gathered while the one before it was under way, so that the number of calls follows
    the time that they take, not the number of groups.
    """

    def __init__(self, handle: ActorHandle[Any], put: Callable[[pa.Buffer], GroupRef] = ray.put) -> None:
        """`put` places a group in the object store."""
        self.name, self.handle, self._put = "filter", handle, put
        self._run = _RunGroups()

    @property
    def held(self) -> frozenset[int]:
        """Ids of the accepted groups that no batch has taken, and of those whose offer is under way."""
        return frozenset(self._run.offered)

    async def begin(self, spec: FilterSpec) -> None:
        """Opens a run with an empty ledger; whoever still waits for the last one is let go."""
        self._run = _RunGroups(spec=spec)
        await answer(self.handle.begin.remote(spec), self.name)

    async def admit(self) -> list[int]:
        """Ids for as many groups as there are free slots; see `Filter.admit`."""
        return await answer(self.handle.admit.remote(), self.name)

    def dispatched(self, request: RolloutRequest) -> None:
        """An admitted group is about to be sampled; call it before anything of the group can end. Only with this are
        the prompts of groups in flight part of what `save` gives."""
        self._run.in_flight[request.group] = PromptVisit(prompt_id=request.prompt.id, visit=request.visit)

    async def offer(self, summary: Summary, group: GroupRef) -> None:
        """Returns when the filter has the group. A call that is given up before goes on: the group is not lost."""
        run = self._run
        run.offered[summary.id] = _Offer(summary=summary, group=group)
        run.unsent.append(summary.id)
        await asyncio.shield(asyncio.create_task(self._send_unsent(run)))

    async def drop(self, group: int, reason: str) -> None:
        """A group that will not come, and why."""
        run = self._run
        await answer(self.handle.drop.remote(group, reason), self.name)
        run.in_flight.pop(group, None)

    async def take(self) -> AcceptedBatch:
        """The next training batch; see `Filter.take`.

        Raises:
            Starved: the filter's patience ran out.
        """
        run = self._run
        ids: tuple[int, ...] = await answer(self.handle.take.remote(), self.name)
        taken = [run.offered.pop(group) for group in ids]
        return AcceptedBatch(
            summaries=tuple(each.summary for each in taken), groups=tuple(each.group for each in taken)
        )

    async def trained(self) -> None:
        """The batch that was taken last has been trained on."""
        await answer(self.handle.trained.remote(), self.name)

    async def publish(self, version: int) -> None:
        """All generators hold this version."""
        await answer(self.handle.publish.remote(version), self.name)

    async def report(self, step: int) -> LedgerReport:
        """What the ledger has counted; closes the file of the step."""
        return await answer(self.handle.report.remote(step), self.name)

    async def close(self, step: int) -> None:
        """Writes what was accepted but never trained on, and closes the files; offers that are under way come first."""
        await self._send_unsent(self._run)
        await answer(self.handle.close.remote(step), self.name)

    def graded(self) -> list[Summary]:
        """The groups that were graded since the last time that this was asked, kept or not."""
        graded, self._run.graded = self._run.graded, []
        return graded

    async def save(self) -> FilterState:
        """What the run needs to go on: the ledger, the accepted groups, and the prompts of the groups in flight.

        A prompt source must be saved right after it, with nothing awaited in between: what it has dealt by then is
        accounted for here, either by the ledger or as interrupted.
        """
        run = self._run
        await asyncio.sleep(0)  # so that requests that were just made are known here
        known = dict(run.in_flight)
        state: FilterState = await answer(self.handle.save.remote(), self.name)
        known |= run.in_flight
        flying, following = set(state.ledger.in_flight), state.ledger.dispatched
        under_way = [offer.summary for group, offer in run.offered.items() if group in run.in_flight]
        return replace(
            state,
            interrupted=tuple(known[group] for group in sorted(known) if group in flying or group >= following),
            graded=tuple(each for each in (*run.graded, *under_way) if each.id not in flying and each.id < following),
        )

    async def _send_unsent(self, run: _RunGroups) -> None:
        """Offers all groups that wait for it, in one call, when the call before it is over."""
        async with run.one_offer:
            if not run.unsent:
                return  # the call before this one took the groups along
            ids, run.unsent = run.unsent, []
            summaries = [run.offered[each].summary for each in ids]
            groups = [run.offered[each].group for each in ids]
            refused: list[int] = await answer(self.handle.offer.remote(summaries, *groups), self.name)
            for each in refused:
                del run.offered[each]
            for each in ids:
                run.in_flight.pop(each, None)
            run.graded += summaries

    async def restore(self, state: FilterState) -> None:
        """Goes on from a saved state: after `begin`, before anything is admitted. Accepted groups wait again."""
        spec = self._run.spec
        if spec is None:
            raise RuntimeError("a saved state can only be restored into a run that has begun (begin)")
        offered = {each.summary.id: _Offer(summary=each.summary, group=self._put(each.group)) for each in state.waiting}
        self._run = _RunGroups(spec=spec, offered=offered, graded=list(state.graded))
        await answer(self.handle.begin.remote(spec, state), self.name)
