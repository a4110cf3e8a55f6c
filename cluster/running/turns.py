"""Engines and learner ranks on the same GPUs take turns: whoever works has the memory that the other can do without."""

import asyncio

from actors.errors import ActorDied
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from cluster.config.run_config import RunConfig
from learner.client import Learner


class Turns:
    """Whose turn it is on shared GPUs. Where nothing is shared (cluster.colocate), everybody works at any time.

    A sync, which pauses and resumes the engines itself, begins the engines' turn.
    """

    def __init__(self, learner: Learner, pool: GeneratorPool, config: RunConfig) -> None:
        self._learner, self._pool = learner, pool
        self._shared = config.cluster.colocate and pool.wanted > 0
        self._in_flight = config.sync.in_flight

    @property
    def shared(self) -> bool:
        """Whether there are turns at all."""
        return self._shared

    async def of_learner(self) -> None:
        """Engines rest: what they sample freezes, or is finished first, and their keys and values are forgotten. One
        that has died is taken out of the pool."""

        async def rest(generator: GeneratorClient) -> None:
            try:
                await generator.rest(self._in_flight)
            except ActorDied as death:
                self._pool.remove_dead(generator.name, str(death))

        if self._shared:
            await asyncio.gather(*(rest(generator) for generator in self._pool.living().values()))

    async def of_engines(self) -> None:
        """The learner gives back what it no longer computes with; weights and optimizer stay."""
        if self._shared:
            await self._learner.free_cache()
