"""Publishing weights: pause, send, forget old caches, go on, and prove that every generator now computes with them."""

import asyncio
import time

from actors.errors import ActorDied, BrokenPart
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from cluster.config.run_config import RunConfig
from cluster.reporting.steps import SyncReport
from learner.client import Learner
from learner.types import Receivers

FLOAT32_GAP = 1e-3  # nats; two implementations of the same float32 weights differ by less
FIRST_GAP = 0.5  # nats; what the first sync in lower precision may show
NOISE_FACTOR = 4.0  # later syncs in lower precision may differ by this many times what the first one showed


class Publisher:
    """Brings versions to the generators that are alive."""

    def __init__(
        self, learner: Learner, pool: GeneratorPool, config: RunConfig, backend: str, bucket_bytes: int | None = None
    ) -> None:
        """`backend` is a key of `learner.transfer.BACKENDS`; `bucket_bytes` instead of sync.bucket_mib is for tests."""
        self._learner, self._pool, self._config, self._backend = learner, pool, config, backend
        self._bucket_bytes = bucket_bytes or config.sync.bucket_mib * 2**20
        self._measure_noise = config.model.dtype != "float32"
        self._gap_limit = FIRST_GAP if self._measure_noise else FLOAT32_GAP

    async def publish(self, version: int, probe: tuple[int, ...]) -> SyncReport:
        """Sends the learner's weights as `version`; nothing to do where nothing is sampled.

        Args:
            version: of the weights.
            probe: token ids of the text on which generators and learner must agree.

        Raises:
            BrokenPart: a generator or rank failed, or a generator does not compute what the learner computes.
        """
        if not self._pool.wanted:
            return SyncReport(size=0, seconds=0.0, probe_gap=0.0)
        generators = await self._pause()
        started = time.monotonic()
        receivers = Receivers(
            generators=tuple(generator.handle for generator in generators),
            workers_each=self._config.cluster.tensor_parallel,
            backend=self._backend,
            bucket_bytes=self._bucket_bytes,
            timeout_seconds=self._config.sync.timeout_seconds,
        )
        sent = await self._learner.publish(version, receivers)
        seconds = time.monotonic() - started
        await asyncio.gather(*(generator.resume() for generator in generators))
        gap = await self._prove(version, generators, probe)
        return SyncReport(size=sent.size, seconds=seconds, probe_gap=gap)

    async def _pause(self) -> list[GeneratorClient]:
        """Pauses the generators and gives those that are alive; one that has died is taken out of the pool."""

        async def pause(generator: GeneratorClient) -> None:
            try:
                await generator.pause(self._config.sync.in_flight)
            except ActorDied as death:
                self._pool.remove_dead(generator.name, str(death))

        await asyncio.gather(*(pause(generator) for generator in self._pool.living().values()))
        return list(self._pool.living().values())

    async def _prove(self, version: int, generators: list[GeneratorClient], probe: tuple[int, ...]) -> float:
        """The largest difference to the learner's log-probabilities of the probe, nats."""
        checksums = await asyncio.gather(*(generator.checksum() for generator in generators))
        for generator, (held, digest) in zip(generators, checksums, strict=True):
            if held != str(version):
                raise BrokenPart(f"{generator.name} holds weight version {held} after the sync of version {version}")
            if digest != checksums[0][1]:
                raise BrokenPart(
                    f"{generator.name} holds other weights than {generators[0].name} after version {version}"
                )
        wanted = await self._learner.probe(probe)
        found = await asyncio.gather(*(generator.probe(probe) for generator in generators))
        gaps = [max(abs(a - b) for a, b in zip(each, wanted, strict=True)) for each in found]
        for generator, gap in zip(generators, gaps, strict=True):
            if not gap <= self._gap_limit:
                raise BrokenPart(
                    f"{generator.name} does not compute what the learner computes after version {version}: "
                    f"log-probabilities of the probe text differ by {gap:.2g} nats, allowed are {self._gap_limit:.2g}"
                )
        if self._measure_noise:
            self._gap_limit, self._measure_noise = min(FIRST_GAP, NOISE_FACTOR * max(gaps) + FLOAT32_GAP), False
        return max(gaps)
