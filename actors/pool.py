"""The generators that are alive, and how busy each is."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.errors import ActorDied, BrokenPart, RolloutFailed
from actors.rollouts.client import GeneratorClient
from actors.types import GroupRef, RolloutRequest, Summary

TRIES = 2  # of a group, on whichever generator is the least busy then


class GeneratorPool:
    """A group goes to the least busy generator; if that fails, once more, to another one where there is one."""

    def __init__(self, generators: Sequence[GeneratorClient]) -> None:
        self.wanted = len(generators)  # how many there should be; 0 in a run that samples nothing
        self.deaths: dict[str, str] = {}  # name of a dead generator -> its last error
        self._alive = {generator.name: generator for generator in generators}
        self._groups = dict.fromkeys(self._alive, 0)  # in the hands of each generator now
        self._seconds = 0.0  # in which generators had a group, summed over generators, until `_counted`
        self._counted = time.monotonic()

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, GroupRef]:
        """One graded group: its summary and a reference to its packed record batch.

        Raises:
            RolloutFailed: it timed out or failed twice, or it cannot be packed.
            BrokenPart: no generator is left.
        """
        failure: Exception | None = None
        tried: set[str] = set()
        for _ in range(TRIES):
            living = self.living()
            others = [each for name, each in living.items() if name not in tried] or list(living.values())
            generator = min(others, key=lambda each: self._groups[each.name])
            tried.add(generator.name)
            try:
                with self._occupied(generator.name):
                    return await generator.rollout(request)
            except ActorDied as death:
                self.remove_dead(generator.name, str(death))
                failure = death
            except (BrokenPart, TimeoutError) as error:
                failure = error
        reason = "timeout" if isinstance(failure, TimeoutError) else "generator_error"
        raise RolloutFailed(reason, f"group {request.group} (prompt {request.prompt.id}) failed twice: {failure}")

    def busy_seconds(self) -> float:
        """Seconds so far in which a generator had a group in hand, summed over generators."""
        busy = sum(count > 0 for count in self._groups.values())
        return self._seconds + (time.monotonic() - self._counted) * busy

    def remove_dead(self, name: str, last_error: str) -> None:
        """Takes a dead generator out; its groups are dispatched again by whoever waits for them."""
        if self._alive.pop(name, None) is not None:
            self.deaths[name] = last_error

    def living(self) -> dict[str, GeneratorClient]:
        """The generators that are alive, by name.

        Raises:
            BrokenPart: none is.
        """
        if not self._alive:
            raise BrokenPart(f"no generator is left. {'; '.join(self.deaths.values())}")
        return dict(self._alive)

    @contextmanager
    def _occupied(self, name: str) -> Iterator[None]:
        """A generator has one group more in hand."""
        self._count(name, 1)
        try:
            yield
        finally:
            self._count(name, -1)

    def _count(self, name: str, change: int) -> None:
        self._seconds, self._counted = self.busy_seconds(), time.monotonic()
        self._groups[name] += change
