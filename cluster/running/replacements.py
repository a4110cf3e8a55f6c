"""Looks after the actors of a run while it goes on: generators that die or hang are replaced and brought up to the
current version, more are started while the cluster has room, and whatever else gives no sign of life is ended.

One coroutine tends each place that holds a generator:

    started ──▶ ready ──(a sync)──▶ alive ──(dies, hangs)──▶ killed ──(a pause)──▶ started ...
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

from actors.deadlines import ROOM
from actors.errors import BrokenPart, Hangs, NoAnswer
from actors.pool import GeneratorPool
from actors.remote import within
from actors.rollouts.client import GeneratorClient
from actors.types import SamplingSpec
from cluster.placement.actors import Pulse
from cluster.reporting.logs import LOGGER
from cluster.running.publish import Publisher

Result = TypeVar("Result")
# Seconds before a place is given a new generator, by how many of its last ones ended without having brought a group.
# After as many as there are here the place is given up.
PAUSES = (0.0, 5.0, 15.0, 45.0, 120.0)
BEATS = 20  # signs of life that an actor is asked for within the time that it has for one
LONGEST_BEAT = 10.0  # seconds between two, at most
MOST_SAID = 300  # characters of the reason for a loss that the terminal shows
GIVES_WAY = 60.0  # seconds that a part of the layout is without room before an elastic generator makes some


def _nobody(name: str) -> None:
    """Is told the name of a generator."""


class Places(Protocol):
    """Where generators come and go; `cluster.placement.actors.ActorFactory` is the real one."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """The places of the layout, which are always there."""
        ...

    @property
    def evaluating(self) -> tuple[str, ...]:
        """Those of generators that evaluate."""
        ...

    @property
    def spare(self) -> int:
        """How many elastic generators there may be beside those."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether all of the layout is placed."""
        ...

    async def furnish(self) -> None:
        """Has nodes that have come since the start fetch what their actors read."""
        ...

    def create_generator(self, place: str) -> GeneratorClient:
        """A generator in a place whose last one has been killed; it is not started yet."""
        ...

    async def room(self) -> str:
        """Waits until the cluster has room for one elastic generator; gives its place."""
        ...

    def leave(self, place: str) -> None:
        """Gives the room of an elastic generator back, with all that is in it."""
        ...

    def pulses(self) -> list[Pulse]:
        """Of all other actors."""
        ...


class Replacements:
    """Tends the generators of one run, those that sample for training or those that evaluate. Order of calls: `start`,
    then `during` with all that the run does after that."""

    def __init__(
        self,
        places: Places,
        pool: GeneratorPool,
        publisher: Publisher,
        spec: SamplingSpec,
        say: Callable[[str], None],
        *,
        silent_seconds: float,
        colocated: bool = False,
        evaluating: bool = False,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """
        Args:
            places: where generators come and go.
            pool: the generators.
            publisher: brings new ones up to the current version.
            spec: what generators are told of the run.
            say: tells the person something.
            silent_seconds: without a sign of life, after which an actor is treated as dead.
            colocated: whether engines share GPUs with the learner, which then rests while one starts.
            evaluating: whether these are the generators that evaluate. They get a version when they are lent for it
                (`Publisher.lend`), and nobody waits for one of them.
            pauses: see PAUSES.
        """
        self._places, self._pool, self._publisher, self._spec, self._say = places, pool, publisher, spec, say
        self._silent, self._colocated, self._pauses = silent_seconds, colocated, pauses
        self._evaluating, self._fixed = evaluating, places.evaluating if evaluating else places.fixed
        self._beat = min(LONGEST_BEAT, silent_seconds / BEATS)
        self._growing = asyncio.Lock()  # held by who looks for room for an elastic generator
        self._barren = 0  # elastic generators in a row that ended without having brought a group

    async def start(self, ready: Callable[[str], None] = _nobody) -> None:
        """Has the generators that are there start for the run. One that fails is replaced later on, where another one
        does not, or where it has worked before.

        Args:
            ready: is told the name of each that has started.

        Raises:
            BrokenPart: all failed, and none has worked before: more of them would fail too.
        """
        generators = list(self._pool.running.values())

        async def begin(generator: GeneratorClient) -> None:
            await self._begin(generator)
            ready(generator.name)

        found = await asyncio.gather(*map(begin, generators), return_exceptions=True)
        failures = {one: end for one, end in zip(generators, found, strict=True) if isinstance(end, BaseException)}
        hopeless = len(failures) == len(generators) and not any(self._pool.finished[one.name] for one in failures)
        for generator, failure in failures.items():
            if not isinstance(failure, BrokenPart) or hopeless:
                raise failure
            self._lose(generator, str(failure))

    async def during(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does the work and tends the actors meanwhile; a failure of either ends both."""
        for place in self._fixed:
            self._pool.tend(place)
        tending, working = asyncio.create_task(self._tend_all()), asyncio.create_task(work)
        try:
            await asyncio.wait({tending, working}, return_when=asyncio.FIRST_COMPLETED)
            if tending.done():
                tending.result()
            return await working
        finally:
            tending.cancel()
            working.cancel()
            await asyncio.gather(tending, working, return_exceptions=True)

    async def _tend_all(self) -> None:
        """Runs until it is cancelled, or until the learner or a proof fails in a sync of new generators; of those that
        evaluate, until all places are given up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for place in self._fixed:
                    tasks.create_task(self._tend(place))
                if self._evaluating:
                    return
                tasks.create_task(self._bring_up_to_date())
                tasks.create_task(self._watch_others())
                if self._places.spare:
                    tasks.create_task(self._make_room())
                for _ in range(self._places.spare):
                    tasks.create_task(self._tend_elastic())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _tend(self, place: str) -> None:
        """One place of the layout. Returns when it is given up."""
        generator = next((one for name, one in self._pool.running.items() if place_of(name) == place), None)
        fruitless = 0
        try:
            while fruitless < len(self._pauses):
                if generator is None:
                    await asyncio.sleep(self._pauses[fruitless])
                    generator = await self._started(place)
                fruitless = 0 if await self._lived(generator) else fruitless + 1
                now = "A new one is started in its place"
                if fruitless == len(self._pauses):
                    now = f"Its place is given up: {fruitless} in a row have not brought a group"
                elif not self._pool.running and not self._evaluating:
                    now += "; no other is left, and groups wait"
                self._say_loss(generator.name, now)
                generator = None
        finally:
            self._pool.give_up(place)

    async def _tend_elastic(self) -> None:
        """One generator more than the layout has, when there is room for it. Returns when elastic generators are given
        up. One of them looks for room at a time, and none while a part of the layout has none."""
        while True:
            async with self._growing:
                if self._barren >= len(self._pauses):
                    return
                await asyncio.sleep(self._pauses[self._barren])
                while not self._places.is_whole:
                    await asyncio.sleep(self._beat)
                place = await self._places.room()
                try:
                    generator = await self._started(place)
                except BaseException:
                    self._places.leave(place)
                    raise
            try:
                self._barren = 0 if await self._lived(generator) else self._barren + 1
            finally:
                self._pool.remove_dead(generator.name, f"{generator.name}: its room is given back")
                self._places.leave(place)
            now = "Another one is started when the cluster has room for it"
            if self._barren >= len(self._pauses):
                now = f"No more are added: {self._barren} in a row have not brought a group"
            self._say_loss(generator.name, now)

    async def _make_room(self) -> None:
        """Ends an elastic generator where a part of the layout, whose node is gone, finds no room for long."""
        while True:
            await asyncio.sleep(GIVES_WAY)
            if self._places.is_whole:
                continue
            elastic = [one for name, one in self._pool.running.items() if place_of(name) not in self._places.fixed]
            if elastic:
                self._lose(elastic[-1], f"{elastic[-1].name} makes room for a part of the run that has lost its node")

    async def _started(self, place: str) -> GeneratorClient:
        """A new generator whose engine runs, ready for a sync; or one that is dead, as it did not start."""
        await self._places.furnish()
        generator = self._places.create_generator(place)
        try:
            while True:
                try:
                    await generator.created(ROOM)
                    break
                except NoAnswer:
                    if not self._pool.running:
                        raise
            async with self._publisher.sender.free if self._colocated else nullcontext():
                await self._begin(generator)
        except BrokenPart as failure:
            generator.kill()
            self._pool.deaths[generator.name] = str(failure)
            return generator
        except BaseException:
            generator.kill()
            raise
        self._pool.add_ready(generator)
        now = "samples as soon as it holds the current weights"
        if self._evaluating:
            now = "takes part in the next evaluation"
        self._say(f"{generator.name} has started, and {now}")
        return generator

    async def _begin(self, generator: GeneratorClient) -> None:
        await generator.begin(self._spec)
        await generator.start()

    async def _lived(self, generator: GeneratorClient) -> bool:
        """Waits until a generator is dead, or hangs, and ends what is left of it; whether it has brought a group."""
        name = generator.name
        while name in self._pool.running:
            try:
                await self._sign_of_life(name, generator.alive(), self._silent, lambda: name in self._publisher.syncing)
                await self._pool.change(self._beat)
            except BrokenPart as end:
                self._lose(generator, str(end))
        generator.kill()
        return self._pool.finished[name] > 0

    async def _sign_of_life(
        self, name: str, sign: Awaitable[object], seconds: float, excused: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Raises:
            NoAnswer: there was none, or the actor says itself that it hangs.
        """
        try:
            await within(seconds, sign, name, "a sign of life", excused)
        except Hangs:
            raise
        except NoAnswer:
            raise NoAnswer(f"{name} hangs: no sign of life within {seconds:g} s (cluster.silent_seconds)") from None

    async def _bring_up_to_date(self) -> None:
        """Takes: generators that are ready. Waits for: the learner to be free. Woken by: a generator that started."""
        while True:
            if self._pool.ready and self._publisher.has_published:
                for name in await self._publisher.catch_up():
                    LOGGER.debug("%s holds the current version", name)
            await self._pool.change(self._beat)

    async def _watch_others(self) -> None:
        """Asks all other actors for signs of life. Whoever calls an actor that is ended hears of it."""
        asked: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for pulse in self._places.pulses():
                    if pulse.name not in asked or asked[pulse.name].done():
                        asked[pulse.name] = asyncio.create_task(self._watch(pulse))
                await asyncio.sleep(self._beat)
        finally:
            for task in asked.values():
                task.cancel()

    async def _watch(self, pulse: Pulse) -> None:
        try:
            await self._sign_of_life(pulse.name, pulse.ask(), max(pulse.seconds, self._silent))
        except NoAnswer as end:
            self._say(f"{end}: it is killed")
            pulse.end()
        except Exception:  # it has died
            LOGGER.debug("%s gives no sign of life", pulse.name, exc_info=True)

    def _lose(self, generator: GeneratorClient, why: str) -> None:
        self._pool.remove_dead(generator.name, why)
        generator.kill()

    def _say_loss(self, name: str, now: str) -> None:
        """One line; the rest of the reason, such as the last lines that an engine printed, goes to the log.

        Args:
            name: of a generator that is dead.
            now: what happens now, a sentence.
        """
        why = self._pool.deaths[name]
        LOGGER.debug("%s is lost: %s", name, why)
        first = why.partition("\n")[0].removesuffix(" The last lines that it printed:").rstrip(".")[:MOST_SAID]
        self._say(f"a generator is lost. {first}. {now}")


def place_of(name: str) -> str:
    """The place of a generator, whose name has a number behind that where it is not the first one there."""
    return name.partition(".")[0]
