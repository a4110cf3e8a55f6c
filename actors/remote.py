"""How clients wait for remote actors: Ray's errors become those of `actors.errors`."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from ray.exceptions import RayActorError, RayError

from actors.deaths import told
from actors.errors import ActorDied, BrokenPart, EngineDied, NoAnswer, Starved

Reply = TypeVar("Reply")


async def answer(reply: Awaitable[Reply], part: str) -> Reply:
    """What a remote method returns.

    Args:
        reply: of the call, such as `handle.start.remote()`.
        part: the actor's name, for messages.

    Raises:
        Starved: the method raised it.
        ActorDied: the actor's process is gone, or that of its engine.
        BrokenPart: the method raised something else.
    """
    try:
        return await reply
    except RayError as failure:
        if isinstance(cause_of(failure), Starved):
            raise cause_of(failure) from None
        raise translated(failure, part) from failure


async def answers(replies: Iterable[Awaitable[Reply]], part: str) -> list[Reply]:
    """`answer` of several calls in their order; the first failure does not wait for the others."""
    return list(await asyncio.gather(*(answer(reply, part) for reply in replies)))


async def within(seconds: float, reply: Awaitable[Reply], part: str, doing: str) -> Reply:
    """The reply of a client, waited for no longer than this.

    Args:
        seconds: most that it may take.
        reply: of a method of a client.
        part: the actor's name, for messages.
        doing: what it was asked for, for messages.

    Raises:
        NoAnswer: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await reply
    except TimeoutError:
        raise NoAnswer(f"{part}: no answer within {seconds:g} s ({doing})") from None


def translated(failure: RayError, part: str) -> BrokenPart:
    """Ray's error as one of ours; the message begins with the actor's name."""
    cause = cause_of(failure)
    if isinstance(cause, EngineDied):
        return ActorDied(f"{part}: {cause}")
    if isinstance(failure, RayActorError):
        return ActorDied(told(failure, part))
    return BrokenPart(told(failure, part))


def cause_of(failure: RayError) -> BaseException:
    """What the remote method itself raised, or Ray's error where the method is not what failed."""
    cause = getattr(failure, "cause", None)
    return cause if isinstance(cause, BaseException) else failure
