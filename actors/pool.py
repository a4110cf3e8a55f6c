"""The generators of a run: which are alive, which are on their way, how busy each is, and what a death costs a group.

A generator is *ready* when its engine runs and has no weights yet, and *alive* once it holds the current version: only
then it gets groups. A place of the layout that somebody tends may be empty for a while; groups wait for its generator
where no other is left.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.errors import ActorDied, BrokenPart, NoAnswer, RolloutFailed
from actors.rollouts.client import GeneratorClient
from actors.types import GroupRef, RolloutRequest, Summary

TRIES = 2  # of a group that fails on generators that live
SUSPECTED = 2  # deaths of generators that had a group in hand, after which it is suspected of them
LAST_DEATHS = 4  # of generators, whose reasons a message has
CONVICTED = 2  # deaths more while it was the only suspect in hand, after which the group is given up


class NoGenerator(BrokenPart):
    """No generator is there."""


class GeneratorPool:
    """A group goes to the least busy generator; if that fails, once more, to another one where there is one.

    A group whose generator dies goes to another one, which costs it nothing at first: hardly a death is the group's
    fault. What was in hand at SUSPECTED deaths is suspected. One suspect at a time is tried then, and a death of its
    generator is put down to it alone. A prompt that kills every engine thus ends after SUSPECTED + CONVICTED deaths,
    and takes no other group along.
    """

    def __init__(self, generators: Sequence[GeneratorClient], finished: Counter[str] | None = None) -> None:
        """
        Args:
            generators: that are there.
            finished: the counts of another pool of the same generators, to count on in; unset, this pool's own.
        """
        self.wanted = len(generators)  # how many there should be at least; 0 in a run that samples nothing
        self.deaths: dict[str, str] = {}  # name of a dead generator -> its last error
        # Groups that a generator has brought, by its name.
        self.finished: Counter[str] = Counter() if finished is None else finished
        self._alive = {generator.name: generator for generator in generators}
        self._ready: dict[str, GeneratorClient] = {}
        self._tended: set[str] = set()  # places that get a new generator when theirs dies
        self._groups = Counter[str]()  # in the hands of each generator now
        self._busy = 0  # generators that have a group in hand
        self._suspect = ""  # the generator that has a suspected group in hand
        self._blamed: set[str] = set()  # generators that died with a suspect in hand
        self._changes: list[asyncio.Future[None]] = []  # of those who wait for a change
        self._seconds = 0.0  # in which generators had a group, summed over generators, until `_counted`
        self._counted = time.monotonic()

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """One graded group: its summary and a reference to its packed record batch. Waits while no generator is left
        and one is on its way.

        Raises:
            RolloutFailed: it timed out or failed twice, its generators died again and again, or it cannot be packed.
            BrokenPart: no generator is left, and none is on its way.
        """
        tried: set[str] = set()
        failed = deaths = 0
        while True:
            suspected = deaths >= SUSPECTED
            generator = await self._chosen(tried, suspected)
            tried.add(generator.name)
            with self._occupied(generator.name, suspected):
                try:
                    found = await generator.rollout(request)
                    self.finished[generator.name] += 1
                    return found
                except ActorDied as death:
                    self.remove_dead(generator.name, str(death))
                    deaths += suspected or generator.name not in self._blamed
                    failure: Exception = death
                except (BrokenPart, TimeoutError) as error:
                    failed += 1
                    failure = error
            group = f"group {request.group} (prompt {request.prompt.id})"
            if failed == TRIES:
                reason = "timeout" if isinstance(failure, TimeoutError | NoAnswer) else "generator_error"
                raise RolloutFailed(reason, f"{group} failed twice: {failure}")
            if deaths == SUSPECTED + CONVICTED:
                raise RolloutFailed("generator_error", f"{group}: {deaths} generators died of it, at last: {failure}")

    def busy_seconds(self) -> float:
        """Seconds so far in which a generator had a group in hand, summed over generators."""
        return self._seconds + (time.monotonic() - self._counted) * self._busy

    def remove_dead(self, name: str, last_error: str) -> None:
        """Takes a dead generator out; its groups are dispatched again by whoever waits for them."""
        if self._alive.pop(name, None) or self._ready.pop(name, None):
            self.deaths[name] = last_error
            if self._suspect == name:
                self._blamed.add(name)
            self._changed()

    def add_ready(self, generator: GeneratorClient) -> None:
        """Its engine runs; it gets groups once it has joined."""
        self._ready[generator.name] = generator
        self._changed()

    def join(self, names: Sequence[str]) -> list[str]:
        """These hold the current version; gives those that have become alive by that."""
        new = [name for name in names if name in self._ready]
        self._alive |= {name: self._ready.pop(name) for name in new}
        if new:
            self._changed()
        return new

    def tend(self, place: str) -> None:
        """From now on the generator of this place is replaced when it dies."""
        self._tended.add(place)

    def give_up(self, place: str) -> None:
        """From now on it is not."""
        self._tended.discard(place)
        self._changed()

    @property
    def alive(self) -> dict[str, GeneratorClient]:
        """The generators that get groups, by name."""
        return dict(self._alive)

    @property
    def ready(self) -> dict[str, GeneratorClient]:
        """The generators that lack the current version, by name."""
        return dict(self._ready)

    @property
    def running(self) -> dict[str, GeneratorClient]:
        """All whose engine runs, by name."""
        return self._alive | self._ready

    def none_left(self) -> NoGenerator:
        """What is raised where no generator is left, with what the last ones died of."""
        return NoGenerator(f"no generator is left. {'; '.join([*self.deaths.values()][-LAST_DEATHS:])}")

    async def someone(self) -> None:
        """Returns when the engine of a generator runs.

        Raises:
            NoGenerator: none does, and none is on its way.
        """
        while not self.running:
            await self._coming()

    async def change(self, seconds: float | None = None) -> None:
        """Returns when generators have come, gone or been given up since the call, or after these seconds."""
        future = asyncio.get_running_loop().create_future()
        self._changes.append(future)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            self._changes.remove(future)

    async def _coming(self) -> None:
        """Waits for a change, where there is somebody to wait for."""
        if not self._alive and not self._ready and not self._tended:
            raise self.none_left()
        await self.change()

    async def _chosen(self, tried: set[str], suspected: bool) -> GeneratorClient:
        """The least busy generator, another one than those tried where there is one; a suspected group waits until no
        other suspect is tried."""
        while not self._alive or (suspected and self._suspect):
            await self._coming()
        others = [name for name in self._alive if name not in tried] if tried else self._alive
        return self._alive[min(others or self._alive, key=self._groups.__getitem__)]

    @contextmanager
    def _occupied(self, name: str, suspected: bool) -> Iterator[None]:
        """A generator has one group more in hand."""
        self._count(name, 1)
        if suspected:
            self._suspect = name
        try:
            yield
        finally:
            self._count(name, -1)
            if suspected:
                self._suspect = ""
                self._changed()

    def _count(self, name: str, change: int) -> None:
        self._seconds, self._counted = self.busy_seconds(), time.monotonic()
        before = self._groups[name] > 0
        self._groups[name] += change
        self._busy += (self._groups[name] > 0) - before

    def _changed(self) -> None:
        for future in self._changes:
            if not future.done():
                future.set_result(None)
