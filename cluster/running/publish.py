"""Publishing weights: pause, send, compare, forget old caches, go on, and prove that every generator now computes with
them. No step is waited for without end, and a generator that dies or hangs in one is taken out of the run.

A generator that has just started takes part in the next sync, or has one of its own before that, when the learner has
nothing else to do: it samples nothing until it holds the current version."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from actors.errors import ActorDied, BrokenPart, NoAnswer
from actors.pool import GeneratorPool, NoGenerator
from actors.remote import within
from actors.rollouts.client import GeneratorClient
from cluster.config.run_config import RunConfig
from cluster.reporting.steps import SyncReport
from cluster.running.proof import Gap, Proof
from learner.client import LEARNER, Learner
from learner.types import Receivers, SyncStats

Reply = TypeVar("Reply")


class Sender:
    """The learner as whoever brings its weights somewhere sees it: one of them at a time, and not while it trains."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()  # held while the learner trains or sends
        # The version that was published last, and its probe; None when the learner has other weights by now.
        self.live: tuple[int, tuple[int, ...]] | None = None


class Publisher:
    """Brings versions to the generators of one pool."""

    def __init__(
        self,
        learner: Learner,
        pool: GeneratorPool,
        config: RunConfig,
        backend: str,
        say: Callable[[str], None],
        bucket_bytes: int | None = None,
        sender: Sender | None = None,
    ) -> None:
        """
        Args:
            learner: which sends.
            pool: the generators.
            config: of the run.
            backend: a key of `learner.transfer.BACKENDS`.
            say: tells the person something.
            bucket_bytes: instead of sync.bucket_mib, for tests.
            sender: of the publisher for another pool of the same learner; unset, this is the first.
        """
        self._learner, self._pool, self._config, self._backend = learner, pool, config, backend
        self._bucket_bytes = bucket_bytes or config.sync.bucket_mib * 2**20
        self._seconds = config.sync.timeout_seconds
        self._proof = Proof(config.model.dtype == "float32", say)
        self.sender = sender or Sender()
        self.syncing: frozenset[str] = frozenset()  # generators, by name, that are in a sync and may not answer others

    async def publish(self, version: int, probe: tuple[int, ...]) -> SyncReport:
        """Sends the learner's weights as `version` to all generators whose engine runs; nothing to do where nothing is
        sampled. Waits for a generator where none is left and one is on its way.

        Args:
            version: of the weights.
            probe: token ids of the text on which generators and learner must agree.

        Raises:
            BrokenPart: a rank failed, no generator is left, or one does not hold what the learner sent or does not
                compute what the learner computes.
        """
        if not self._pool.wanted:
            return SyncReport(size=0, seconds=0.0, probe_gap=0.0, probe_gap_mean=0.0, probe_doubts=0)
        while True:
            await self._pool.someone()
            async with self.sender.free:
                with suppress(NoGenerator):
                    report = await self._bring(version, list(self._pool.running.values()), probe)
                    self.sender.live = (version, probe)
                    return report

    @property
    def has_published(self) -> bool:
        """Whether the learner holds the current version."""
        return self.sender.live is not None

    @asynccontextmanager
    async def training(self) -> AsyncIterator[None]:
        """While it lasts the learner trains, and sends nothing; nor does it after that until it publishes, as its
        weights are those of no version."""
        async with self.sender.free:
            self.sender.live = None
            yield

    async def catch_up(self) -> list[str]:
        """Sends the version that was published last to the generators that do not have it yet, when the learner is free
        for it; the others sample on meanwhile. Gives the names of those that are alive now.

        Raises:
            BrokenPart: as `publish`, but that a generator is lost again.
        """
        async with self.sender.free:
            before = self._pool.alive
            await self._again(list(self._pool.ready.values()))
        return sorted(self._pool.alive.keys() - before.keys())

    async def lend(self) -> list[GeneratorClient]:
        """Sends the version that was published last to all generators of the pool, when the learner is free for it, and
        gives those that hold it then. The next version comes to them when they are lent again.

        Raises:
            BrokenPart: as `publish`, but that a generator is lost again.
        """
        async with self.sender.free:
            return await self._again(list(self._pool.running.values()))

    async def _again(self, generators: list[GeneratorClient]) -> list[GeneratorClient]:
        """Sends the version that was published last; gives those that hold it then."""
        if self.sender.live is not None and generators:
            version, probe = self.sender.live
            with suppress(NoGenerator):
                await self._bring(version, generators, probe)
                return [one for one in generators if one.name in self._pool.alive]
        return []

    async def _bring(self, version: int, generators: list[GeneratorClient], probe: tuple[int, ...]) -> SyncReport:
        """One sync of these generators; those that come through it are alive then.

        Raises:
            NoGenerator: none of them did.
            BrokenPart: as `publish`.
        """
        self.syncing = frozenset(generator.name for generator in generators)
        try:
            return await self._synced(version, generators, probe)
        finally:
            self.syncing = frozenset()

    async def _synced(self, version: int, generators: list[GeneratorClient], probe: tuple[int, ...]) -> SyncReport:
        in_flight = self._config.sync.in_flight
        paused = await self._each(generators, lambda one: one.pause(in_flight), "to pause", self._patience)
        started = time.monotonic()
        sent, generators = await self._send(version, list(paused))
        seconds = time.monotonic() - started
        thorough = self._config.sync.sha256
        held = await self._each(generators, lambda one: one.finish_update(version, thorough), "to finish the update")
        if self._config.cluster.colocate:
            await self._learner.free_cache()  # what it sent from, before engines take memory for their keys again
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
        running, in_flight = list(self._pool.running.values()), self._config.sync.in_flight
        with suppress(NoGenerator):  # the sync behind the training waits for another one, or says that none is left
            await self._each(running, lambda one: one.rest(in_flight), "to rest", self._patience)

    @property
    def _patience(self) -> float:
        """Seconds for responses in flight to end, where a pause waits for them."""
        return self._config.rollout.timeout_seconds if self._config.sync.in_flight == "finish" else 0.0

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
            left = [generator for generator in generators if generator not in lost]
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
        self._pool.join(list(gaps))
        return list(gaps.values())

    async def _each(
        self,
        generators: Sequence[GeneratorClient],
        ask: Callable[[GeneratorClient], Awaitable[Reply]],
        doing: str,
        patience: float = 0.0,
    ) -> dict[GeneratorClient, Reply]:
        """The replies of all that live; one that dies, does not answer, or fails where another one does not, is taken
        out of the run.

        Args:
            generators: whom to ask.
            ask: the question.
            doing: what they are asked for, for messages.
            patience: seconds beside sync.timeout_seconds that it may take.

        Raises:
            NoGenerator: none of them is left.
            BrokenPart: none answered, and one of them failed and lives.
        """
        replies: dict[GeneratorClient, Reply] = {}
        failures: dict[GeneratorClient, BrokenPart] = {}

        async def one(generator: GeneratorClient) -> None:
            try:
                replies[generator] = await within(self._seconds + patience, ask(generator), generator.name, doing)
            except (ActorDied, NoAnswer) as end:
                self._lose(generator, str(end))
            except BrokenPart as failure:
                failures[generator] = failure

        await asyncio.gather(*(one(generator) for generator in generators))
        for generator, failure in failures.items():
            if not replies:
                raise failure
            self._lose(generator, str(failure))
        if not replies:
            raise self._pool.none_left()
        return {generator: replies[generator] for generator in generators if generator in replies}

    def _lose(self, generator: GeneratorClient, why: str) -> None:
        """Takes a generator out of the run, and what is left of its processes."""
        self._pool.remove_dead(generator.name, why)
        generator.kill()
