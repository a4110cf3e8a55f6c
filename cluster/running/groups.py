"""Where the groups of a run come from: which prompt is next, and whether a generator or the stored data answers it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError

from actors.arrow import packed
from actors.data.source import PromptSource
from actors.data.stored import StoredGroups
from actors.errors import BrokenPart, RolloutFailed, Unpackable
from actors.filtering.ledger import UNPACKABLE
from actors.pool import GeneratorPool
from actors.types import Group, GroupRef, Prompt, RolloutRequest, Summary, Times
from cluster.config.run_config import RunConfig
from cluster.running.room import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSource:
    """Deals prompts and brings graded groups."""

    config: RunConfig
    prompts: PromptSource
    generators: GeneratorPool
    stored: StoredGroups | None
    lost: Callable[[RolloutFailed], None]  # is told of each group that could not be produced
    room: Room  # on the disks to which Ray moves groups that its object store cannot hold

    def deal(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts, each with the number of passes over the data that came before."""
        dealt = self.prompts.take(count)
        if self.config.rollout.longest_prompts_first:
            dealt.sort(key=lambda each: -each[0].tokens.size)
        return dealt

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """A group from a generator or from the stored data: its summary and a reference to its packed arrays.

        Which of the two follows from the seed and the group's id, not from the order of arrival.

        Raises:
            RolloutFailed: it could not be produced.
        """
        try:
            if self.stored is not None and self._comes_from_stored(request.group):
                return await self.room.wait_for(partial(_packed, replace(self.stored.next(), id=request.group)))
            summary, group = await self.room.wait_for(partial(self.generators.rollout, request))
        except RolloutFailed as failure:
            self.lost(failure)
            raise
        self.prompts.graded(summary)
        return summary, group

    def _comes_from_stored(self, group: int) -> bool:
        draw = random.Random(f"{self.config.run.seed}/stored/{group}").random()
        return draw < self.config.data.stored_share


async def _packed(group: Group) -> tuple[Summary, GroupRef]:
    try:
        return Summary.of(group, Times()), ray.put(packed(group))
    except (ObjectStoreFullError, OutOfDiskError) as failure:
        raise BrokenPart(f"Ray's object store on this node takes no group: {failure}") from failure
    except Unpackable as failure:
        raise RolloutFailed(UNPACKABLE, str(failure)) from failure
