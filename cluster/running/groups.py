"""Where the groups of a run come from: which prompt is next, and whether a generator or the stored data answers it."""

import random
from dataclasses import dataclass, replace

import ray

from actors.arrow import packed
from actors.data.source import PromptSource
from actors.data.stored import StoredGroups
from actors.filtering.client import FilterClient
from actors.pool import GeneratorPool
from actors.types import GroupRef, Prompt, RolloutRequest, Summary, Times
from cluster.config.run_config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSource:
    """Deals prompts and brings graded groups."""

    config: RunConfig
    prompts: PromptSource
    filter: FilterClient
    generators: GeneratorPool
    stored: StoredGroups | None

    def deal(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts, each with the number of passes over the data that came before."""
        dealt = self.prompts.take(count)
        if self.config.rollout.longest_prompts_first:
            dealt.sort(key=lambda each: -each[0].tokens.size)
        return dealt

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """A group from a generator or from the stored data: its summary and a reference to its packed arrays.

        Which of the two follows from the seed and the group's id, not from the order of arrival.
        """
        self.filter.dispatched(request)
        if self.stored is None or not self._comes_from_stored(request.group):
            summary, group = await self.generators.rollout(request)
            self.prompts.graded(summary)
            return summary, group
        dealt = replace(self.stored.next(), id=request.group)
        return Summary.of(dealt, Times()), ray.put(packed(dealt))

    def _comes_from_stored(self, group: int) -> bool:
        draw = random.Random(f"{self.config.run.seed}/stored/{group}").random()
        return draw < self.config.data.stored_share
