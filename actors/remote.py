"""How clients wait for remote actors: never without end, and Ray's errors become those of `actors.errors`."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import ObjectLostError, RayError

from actors.deadlines import LONGEST
from actors.deaths import GONE, told
from actors.errors import ActorDied, BrokenPart, EngineDied, NoAnswer, ObjectsLost, Starved
from actors.logs import LOGGER

if TYPE_CHECKING:
    import ray
    from ray.actor import ActorHandle

Reply = TypeVar("Reply")
PULSE = "pulse"  # concurrency group of signs of life; of actors whose methods block
PULSE_THREAD = {PULSE: 1}  # its threads, for Ray
LOOK_SECONDS = 5.0  # between two looks at whether a reply has come, at most
SAID_SHARE = 0.1  # of a deadline, after which a line says what is waited for


async def answer(reply: Awaitable[Reply], part: str, doing: str = "", seconds: float = LONGEST) -> Reply:
    """What a remote method returns.

    Args:
        reply: of the call, such as `handle.start.remote()`.
        part: the actor's name, for messages.
        doing: what it was asked for, for messages.
        seconds: most that it may take.

    Raises:
        Starved: the method raised it.
        ActorDied: the actor's process is gone, or that of its engine.
        NoAnswer: it took longer.
        BrokenPart: the method raised something else.
    """
    try:
        return await within(seconds, reply, part, doing)
    except RayError as failure:
        if isinstance(cause_of(failure), Starved):
            raise cause_of(failure) from None
        raise translated(failure, part) from failure


async def answers(
    replies: Iterable[Awaitable[Reply]], part: str, doing: str = "", seconds: float = LONGEST
) -> list[Reply]:
    """`answer` of several calls in their order; the first failure does not wait for the others."""
    return list(await asyncio.gather(*(answer(reply, part, doing, seconds) for reply in replies)))


async def within(
    seconds: float, reply: Awaitable[Reply], part: str, doing: str, excused: Callable[[], bool] = lambda: False
) -> Reply:
    """The reply of a client, waited for no longer than this. When a tenth of the time is over, a line of the log says
    who is waited for, and why.

    The time is counted in looks at the reply: a process that was itself stopped for long, as by Ctrl-Z, does not take
    everybody else for dead when it goes on.

    Args:
        seconds: most that it may take.
        reply: of a method of a client.
        part: the actor's name, for messages.
        doing: what it was asked for, for messages; "" for what waits for something to happen, of which no line is due.
        excused: whether the actor need not answer now; that time does not count.

    Raises:
        NoAnswer: it took longer.
    """
    asked = asyncio.ensure_future(reply)
    looks = math.ceil(seconds / LOOK_SECONDS)
    waited = said = 0
    try:
        while not (await asyncio.wait({asked}, timeout=seconds / looks))[0]:
            waited += not excused()
            if waited >= looks:
                raise NoAnswer(f"{part}: no answer within {seconds:g} s{doing and f' ({doing})'}")
            if doing and not said and waited > SAID_SHARE * looks:
                said = 1
                LOGGER.warning("waiting for %s since %.0f s (%s)", part, waited * seconds / looks, doing)
        return asked.result()
    finally:
        asked.cancel()


def pulse(handle: "ActorHandle[Any]", *, blocks: bool) -> "ray.ObjectRef[Any]":
    """A sign of life of an actor's process.

    Args:
        handle: the actor's.
        blocks: whether its methods block, so that it was made with a concurrency group PULSE.
    """
    method: Any = handle.__ray_ready__
    return (method.options(concurrency_group=PULSE) if blocks else method).remote()


def translated(failure: RayError, part: str) -> BrokenPart:
    """Ray's error as one of ours; the message begins with the actor's name."""
    cause = cause_of(failure)
    if isinstance(cause, EngineDied):
        return ActorDied(f"{part}: {cause}")
    if isinstance(failure, GONE):
        return ActorDied(told(failure, part))
    kind = ObjectsLost if isinstance(failure, ObjectLostError) or isinstance(cause, ObjectLostError) else BrokenPart
    return kind(told(failure, part))


def cause_of(failure: RayError) -> BaseException:
    """What the remote method itself raised, or Ray's error where the method is not what failed."""
    cause = getattr(failure, "cause", None)
    return cause if isinstance(cause, BaseException) else failure
