"""How long remote actors are waited for."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

import actors.remote
from actors.errors import ActorDied, BrokenPart, BrokenVerifier, NoAnswer, VerifierDied
from actors.grading.client import _answered
from actors.remote import answer, within
from rewards import Verdict


async def test_what_does_not_answer_is_named_first_and_then_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.remote, "LOOK_SECONDS", 0.01)
    with (
        caplog.at_level(logging.WARNING, "winnow"),
        pytest.raises(NoAnswer, match=r"^filter: no answer within 0\.2 s \(to count\)$"),
    ):
        await within(0.2, asyncio.Event().wait(), "filter", "to count")
    assert caplog.messages == ["waiting for filter since 0 s (to count)"]
    assert await within(0.1, asyncio.sleep(0, "here"), "filter", "to count") == "here"


async def test_who_is_excused_is_waited_for_longer() -> None:
    excuses: Iterator[bool] = iter([True] * 3 + [False] * 9)
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        await within(0.05, asyncio.Event().wait(), "generator-0", "", lambda: next(excuses))
    assert time.monotonic() - started >= 0.2  # three looks that do not count, and one that does


STOPPED = """
import asyncio
import actors.remote

async def story():
    reply = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.5, reply.set_result, "here")
    print("ready", flush=True)
    print(await actors.remote.within(0.6, reply, "generator-0", ""), flush=True)

actors.remote.LOOK_SECONDS = 0.2
asyncio.run(story())
"""


def test_a_driver_that_was_itself_stopped_takes_nobody_for_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        driver.send_signal(signal.SIGSTOP)
        time.sleep(0.8)
        driver.send_signal(signal.SIGCONT)
        assert driver.stdout.readline() == "here\n"


@pytest.mark.parametrize(
    "failure", [ActorDiedError(), ActorUnavailableError("gone", None), OutOfMemoryError("memory"), WorkerCrashedError()]
)
async def test_whatever_takes_the_process_of_an_actor_is_its_death(failure: RayError) -> None:
    async def raising() -> list[Verdict]:
        raise failure

    with pytest.raises(ActorDied, match=r"^generator-0"):
        await answer(raising(), "generator-0")
    with pytest.raises(VerifierDied):
        await _answered(raising(), "verifier-0")


async def test_what_a_method_raises_is_not() -> None:
    async def raising() -> list[Verdict]:
        raise RayTaskError("grade", "traceback", ValueError("no such reward"))

    with pytest.raises(BrokenPart, match=r"^generator-0 failed: ") as broken:
        await answer(raising(), "generator-0")
    assert not isinstance(broken.value, ActorDied)
    with pytest.raises(BrokenVerifier, match=r"^verifier-0 failed: traceback$") as lost:
        await _answered(raising(), "verifier-0")
    assert not isinstance(lost.value, VerifierDied)
