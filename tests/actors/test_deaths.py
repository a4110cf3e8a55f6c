"""What a person reads of an actor that died or failed: from Ray's own words, and from real deaths."""

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from actors import deaths
from actors.deaths import oom_kills, told
from actors.errors import ActorDied, BrokenPart
from actors.remote import answer

WORDS = """The actor died unexpectedly before finishing this task.
\tclass_name: LearnerRank
\tactor_id: 0f1e
\tpid: 4711
\tname: demo/learner-rank-1
\tnamespace: winnow-1
\tip: 10.0.0.9
The actor is dead because its worker process has died. Worker exit type: %s"""
KILLED = """SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file.
There are some potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory usage."""
MEMORY = """NODE_OUT_OF_MEMORY Worker exit detail: Task was killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.9, ID: 3f) where the task was running was 30.41GB / 31.20GB (0.974679), which exceeds"""


class Mortal:
    """An actor that ends in many ways."""

    def __init__(self, born: bool = True) -> None:
        if not born:
            raise ValueError("no such model")

    def end_itself(self, how: str) -> None:
        print(f"about to end: {how}", flush=True)
        {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "exit": lambda: sys.exit(7), "crash": self._crash}[how]()

    def fail(self) -> None:
        self._one_down()

    def _one_down(self) -> None:
        raise RuntimeError("the weights are not finite\nlayer 3")

    def _crash(self) -> None:
        ctypes.string_at(0)


def said(how: str) -> str:
    return told(RayActorError("0f1e", WORDS % how), "learner")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (KILLED, "its process ended without a word, as when it is killed (SIGKILL)"),
        (MEMORY, "Ray killed it because the memory of its node was nearly used up (30.41GB / 31.20GB). Ask for less"),
        ("SYSTEM_ERROR Worker exit detail: Worker exits with an exit code 137.", "with exit code 137 (SIGKILL)"),
        ("USER_ERROR Worker exit detail: Worker exits with an exit code 1.", "with exit code 1"),
        ("NODE_DIED Worker exit detail: the node was terminated", "its node is gone"),
    ],
)
def test_a_death_is_one_sentence_without_rays_list_of_causes(how: str, expected: str) -> None:
    text = said(how)
    assert text.startswith("learner-rank-1 (process 4711, node 10.0.0.9) has died: ")
    assert expected in text
    assert "potential root causes" not in text
    assert "\n" not in text


def test_what_the_kernel_killed_for_want_of_memory_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths.Place, "here", True)
    monkeypatch.setattr(deaths, "oom_kills", lambda: deaths.OOM_KILLS + 1)
    assert "the kernel of its node killed it" in said(KILLED)
    assert oom_kills() >= 0


def test_ray_says_what_these_words_are_made_of() -> None:
    """The words above are Ray's own: a context with these fields gives the lines that are read."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    context = ActorDiedErrorContext(
        class_name="LearnerRank",
        actor_id=bytes(16),
        pid=4711,
        name="learner-rank-1",
        ray_namespace="winnow-1",
        node_ip_address="10.0.0.9",
        error_message="The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
    )
    assert told(ActorDiedError(context), "learner").startswith("learner-rank-1 (process 4711, node 10.0.0.9) has died")


def test_an_exception_of_a_method_is_its_last_line_and_its_place() -> None:
    trace = 'Traceback (most recent call last):\n  File "/a/learner/trainer.py", line 7, in train\n    self.step()\n'
    failure = RayTaskError("train", trace + "ValueError: lr is nan", ValueError("lr is nan"), "ray::x", 12, "10.0.0.9")
    assert told(failure, "learner") == (
        "learner (process 12, node 10.0.0.9) failed: ValueError: lr is nan (in train, /a/learner/trainer.py:7)"
    )


@pytest.fixture
def mortal(own_ray: None) -> Iterator[Callable[..., Any]]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    remote: Any = ray.remote(num_cpus=0)
    yield lambda name, *arguments: remote(Mortal).options(name=name).remote(*arguments)
    ray.shutdown()


async def end_of(reply: Awaitable[Any]) -> BrokenPart:
    with pytest.raises(BrokenPart) as ended:
        await answer(reply, "part")
    return ended.value


@pytest.mark.ray
async def test_real_actors_that_die_are_named_with_place_cause_and_last_lines(
    mortal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    born = {how: mortal(how) for how in ("kill", "exit", "crash")}
    unborn = mortal("unborn", False)
    failing = mortal("failing")
    ends = await asyncio.gather(*(end_of(actor.end_itself.remote(how)) for how, actor in born.items()))
    expected = (
        "its process ended without a word, as when it is killed (SIGKILL)",
        "with exit code 7",
        "its process crashed with SIGSEGV",
    )
    for end, how, cause in zip(ends, born, expected, strict=True):
        text = str(end)
        assert isinstance(end, ActorDied)
        assert re.match(rf"{how} \(process \d+, node [^)]+\) has died: ", text), text
        assert cause in text
        assert f"about to end: {how}" in text
        assert "job_id" not in text
        assert "Stack" not in text
    monkeypatch.setattr(deaths.Place, "here", False)  # the node is asked for the lines of an actor elsewhere
    assert "about to end: kill" in str(await end_of(born["kill"].fail.remote()))
    unmade = await end_of(unborn.fail.remote())
    assert re.match(r"part did not start: ValueError: no such model$", str(unmade)), unmade
    broken = str(await end_of(failing.fail.remote()))
    where = rf"\(in _one_down, {re.escape(str(Path(__file__)))}:\d+\)"
    assert re.match(rf"part \(process \d+, node [^)]+\) failed: RuntimeError: the weights .*\nlayer 3 {where}$", broken)
