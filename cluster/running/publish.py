"""Publishing weights: pause, send, forget old caches, go on, and prove that every generator now computes with them."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from actors.errors import ActorDied, BrokenPart
from actors.pool import GeneratorPool, call, call_all
from actors.settings import SyncSettings
from learner.client import Learner
from learner.types import Receivers

FLOAT32_GAP = 1e-3  # nats; two implementations of the same float32 weights differ by less
FIRST_GAP = 0.5  # nats; what the first sync in lower precision may show
NOISE_FACTOR = 4.0  # later syncs in lower precision may differ by so many times the first one


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """What a sync cost and showed."""

    size: int  # bytes of weights
    seconds: float  # of sending
    probe_gap: float  # largest difference of log-probabilities on the probe text, nats


class Publisher:
    """Brings versions to the generators that are alive."""

    def __init__(
        self, parts: tuple[Learner, GeneratorPool], settings: SyncSettings, how: dict[str, Any], dtype: str
    ) -> None:
        self._learner, self._pool = parts
        self._settings, self._how = settings, how
        self._gap_limit = FLOAT32_GAP if dtype == "float32" else FIRST_GAP
        self._measure_noise = dtype != "float32"

    async def publish(self, version: int, probe: tuple[int, ...]) -> SyncReport:
        """Sends the learner's weights as `version`; nothing to do where nothing is sampled.

        Raises:
            BrokenPart: a generator or rank failed, or a generator does not compute what the learner computes.
        """
        if not self._pool.wanted:
            return SyncReport(size=0, seconds=0.0, probe_gap=0.0)
        generators = await self._pause()
        handles = tuple(generators.values())
        started = time.monotonic()
        receivers = Receivers(generators=handles, timeout_seconds=self._settings.timeout_seconds, **self._how)
        sent = await self._learner.publish(version, receivers)
        seconds = time.monotonic() - started
        await call_all(handles, "resume")
        gap = await self._prove(version, generators, probe)
        return SyncReport(size=sent.size, seconds=seconds, probe_gap=gap)

    async def _pause(self) -> dict[str, Any]:
        """Pauses the generators and gives those that are alive; one that has died is taken out of the pool."""

        async def pause(name: str, generator: Any) -> None:
            try:
                await call(generator, "pause", self._settings.in_flight)
            except ActorDied as death:
                self._pool.bury(name, str(death))

        await asyncio.gather(*(pause(name, generator) for name, generator in self._pool.living().items()))
        return self._pool.living()

    async def _prove(self, version: int, generators: dict[str, Any], probe: tuple[int, ...]) -> float:
        handles = tuple(generators.values())
        checksums = await call_all(handles, "checksum")
        for name, (held, digest) in zip(generators, checksums, strict=True):
            if held != str(version):
                raise BrokenPart(f"{name} holds weight version {held} after the sync of version {version}")
            if digest != checksums[0][1]:
                raise BrokenPart(f"{name} holds other weights than {next(iter(generators))} after version {version}")
        wanted = await self._learner.probe(probe)
        gaps = {}
        for name, found in zip(generators, await call_all(handles, "probe", probe), strict=True):
            gaps[name] = max(abs(a - b) for a, b in zip(found, wanted, strict=True))
            if not gaps[name] <= self._gap_limit:
                raise BrokenPart(
                    f"{name} does not compute what the learner computes after version {version}: log-probabilities of "
                    f"the probe text differ by {gaps[name]:.2g} nats, allowed are {self._gap_limit:.2g}"
                )
        gap = max(gaps.values())
        if self._measure_noise:
            self._gap_limit, self._measure_noise = min(FIRST_GAP, NOISE_FACTOR * gap + FLOAT32_GAP), False
        return gap
