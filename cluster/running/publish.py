"""Publishing weights: pause, send, compare, forget old caches, go on, and prove that every generator now computes with
them. No step is waited for without end, and a generator that dies or hangs in one is taken out of the run."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from actors.errors import ActorDied, NoAnswer
from actors.pool import GeneratorPool
from actors.remote import within
from actors.rollouts.client import GeneratorClient
from cluster.config.run_config import RunConfig
from cluster.reporting.steps import SyncReport
from cluster.running.proof import Gap, Proof
from learner.client import LEARNER, Learner
from learner.types import Receivers, SyncStats

Reply = TypeVar("Reply")


class Publisher:
    """Brings versions to the generators that are alive."""

    def __init__(
        self,
        learner: Learner,
        pool: GeneratorPool,
        config: RunConfig,
        backend: str,
        say: Callable[[str], None],
        bucket_bytes: int | None = None,
    ) -> None:
        """
        Args:
            learner: which sends.
            pool: the generators.
            config: of the run.
            backend: a key of `learner.transfer.BACKENDS`.
            say: tells the person something.
            bucket_bytes: instead of sync.bucket_mib, for tests.
        """
        self._learner, self._pool, self._config, self._backend, self._say = learner, pool, config, backend, say
        self._bucket_bytes = bucket_bytes or config.sync.bucket_mib * 2**20
        self._seconds = config.sync.timeout_seconds
        self._proof = Proof(config.model.dtype == "float32", say)

    async def publish(self, version: int, probe: tuple[int, ...]) -> SyncReport:
        """Sends the learner's weights as `version`; nothing to do where nothing is sampled.

        Args:
            version: of the weights.
            probe: token ids of the text on which generators and learner must agree.

        Raises:
            BrokenPart: a rank failed, no generator is left, or one does not hold what the learner sent or does not
                compute what the learner computes.
        """
        if not self._pool.wanted:
            return SyncReport(size=0, seconds=0.0, probe_gap=0.0, probe_gap_mean=0.0, probe_doubts=0)
        generators = await self._pause()
        started = time.monotonic()
        sent, generators = await self._send(version, generators)
        seconds = time.monotonic() - started
        if self._config.cluster.colocate:
            await self._learner.free_cache()  # what it sent from, before engines take memory for their keys again
        thorough = self._config.sync.sha256
        held = await self._each(generators, lambda one: one.held_weights(thorough), "which weights it holds")
        self._proof.weights(version, sent.sums, {one.name: weights for one, weights in held.items()})
        gaps = await self._probed(version, list(held), probe)
        return SyncReport(
            size=sent.size,
            seconds=seconds,
            probe_gap=max(gap.largest for gap in gaps),
            probe_gap_mean=max(gap.mean for gap in gaps),
            probe_doubts=self._proof.doubts,
        )

    async def rest(self) -> None:
        """Has the generators rest while the learner trains on their GPUs, until the next version is published; one
        that has died is taken out of the pool. What they sample freezes, or is finished first, as at a sync."""
        living = list(self._pool.living().values())
        await self._each(living, lambda one: one.rest(self._config.sync.in_flight), "to rest", self._patience)

    @property
    def _patience(self) -> float:
        """Seconds for responses in flight to end, where a pause waits for them."""
        return self._config.rollout.timeout_seconds if self._config.sync.in_flight == "finish" else 0.0

    async def _pause(self) -> list[GeneratorClient]:
        """Pauses the generators and gives those that are alive; one that has died is taken out of the pool."""
        in_flight, living = self._config.sync.in_flight, list(self._pool.living().values())
        return list(await self._each(living, lambda one: one.pause(in_flight), "to pause", self._patience))

    async def _send(self, version: int, generators: list[GeneratorClient]) -> tuple[SyncStats, list[GeneratorClient]]:
        """Sends until it has come through to all that are left; gives what was sent and to whom."""
        while True:
            receivers = Receivers(
                generators=tuple(generator.handle for generator in generators),
                workers_each=self._config.cluster.tensor_parallel,
                backend=self._backend,
                bucket_bytes=self._bucket_bytes,
                timeout_seconds=self._seconds,
            )
            # the learner itself keeps to the timeout, and waits a while longer for receivers to leave an old group and
            # to come out of a transfer that it cut
            sending = self._learner.publish(version, receivers)
            sent = await within(3 * self._seconds, sending, LEARNER, f"to send version {version}")
            if not sent.lost:
                return sent, generators
            lost = {generators[one.index]: one.why for one in sent.lost}
            for generator, why in lost.items():
                self._lose(generator, f"{generator.name}: {why}, in the sync of version {version}")
            left = [generator for generator in self._pool.living().values() if generator in generators]
            generators = list(await self._each(left, lambda one: one.give_up_update(), "to give an update up"))

    async def _probed(self, version: int, generators: list[GeneratorClient], probe: tuple[int, ...]) -> list[Gap]:
        """Has the generators go on; how far each one's log-probabilities of the probe are from the learner's."""
        # all places of an engine may be taken by responses that go on: the probe waits until one has ended
        patience = self._config.rollout.timeout_seconds if self._config.sync.in_flight == "keep" else 0.0
        wanted, found = await asyncio.gather(
            within(self._seconds, self._learner.probe(probe), LEARNER, "for the probe"),
            self._each(generators, lambda one: one.resume(probe), "to go on, and for the probe", patience),
        )
        gaps = {generator.name: Gap.between(logprobs, wanted) for generator, logprobs in found.items()}
        self._proof.computation(version, gaps)
        return list(gaps.values())

    async def _each(
        self,
        generators: Sequence[GeneratorClient],
        ask: Callable[[GeneratorClient], Awaitable[Reply]],
        doing: str,
        patience: float = 0.0,
    ) -> dict[GeneratorClient, Reply]:
        """The replies of all that live; one that dies or does not answer is taken out of the run.

        Args:
            generators: whom to ask.
            ask: the question.
            doing: what they are asked for, for messages.
            patience: seconds beside sync.timeout_seconds that it may take.

        Raises:
            BrokenPart: no generator is left, or one failed and lives.
        """
        replies: dict[GeneratorClient, Reply] = {}

        async def one(generator: GeneratorClient) -> None:
            try:
                replies[generator] = await within(self._seconds + patience, ask(generator), generator.name, doing)
            except (ActorDied, NoAnswer) as end:
                self._lose(generator, str(end))

        await asyncio.gather(*(one(generator) for generator in generators))
        self._pool.living()
        return {generator: replies[generator] for generator in generators if generator in replies}

    def _lose(self, generator: GeneratorClient, why: str) -> None:
        """Takes a generator out of the run, and what is left of its processes."""
        self._pool.remove_dead(generator.name, why)
        generator.kill()
        self._say(f"a generator is lost, and the run goes on with those that are left. {why}")
