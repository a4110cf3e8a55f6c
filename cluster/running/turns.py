"""Engines and learner ranks on the same GPUs take turns: whoever works has the memory that the other can do without."""

from cluster.config.run_config import RunConfig
from cluster.reporting.logs import LOGGER
from cluster.running.publish import Publisher
from learner.client import Learner


class Turns:
    """Whose turn it is on shared GPUs. Where nothing is shared (cluster.colocate), everybody works at any time.

    A sync, which pauses and resumes the engines itself, begins the engines' turn.
    """

    def __init__(self, learner: Learner, publisher: Publisher, config: RunConfig) -> None:
        self._learner, self._publisher = learner, publisher
        self.shared = config.cluster.colocate and config.samples  # whether there are turns at all

    async def of_learner(self) -> None:
        """Engines rest: keys and values of what they sample are forgotten."""
        if self.shared:
            await self._publisher.rest()
            LOGGER.debug("the engines rest")

    async def of_engines(self) -> None:
        """The learner gives back what it no longer computes with; weights and optimizer stay."""
        if self.shared:
            await self._learner.free_cache()
            LOGGER.debug("the learner has given memory back")
