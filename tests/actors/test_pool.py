"""The pool of generators: who gets a group, what a failure costs, and how busy they were."""

import asyncio
from typing import Any

import pytest

from actors.errors import ActorDied, BrokenPart, RolloutFailed, Unpackable
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from actors.types import RolloutRequest
from tests.builders import prompt, summary

REQUEST = RolloutRequest(group=4, prompt=prompt("7"), visit=0)


class Double:
    """A generator that takes a while, or fails as it is told."""

    def __init__(self, name: str, *failures: Exception, seconds: float = 0.0) -> None:
        self.name, self.failures, self.seconds, self.asked = name, list(failures), seconds, 0

    async def rollout(self, request: RolloutRequest) -> tuple[Any, Any]:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        return summary([1.0, -1.0], id=request.group), f"arrays by {self.name}"


def pool(*generators: Any) -> GeneratorPool:
    return GeneratorPool(generators)


async def test_groups_go_to_the_least_busy_generator() -> None:
    a, b = Double("a", seconds=0.01), Double("b", seconds=0.01)
    both = pool(a, b)
    await asyncio.gather(*(both.rollout(REQUEST) for _ in range(6)))
    assert (a.asked, b.asked) == (3, 3)


async def test_a_dead_generator_is_left_out_and_its_group_goes_to_another() -> None:
    dead, living = Double("a", ActorDied("a: the process of vLLM's engine has ended")), Double("b")
    both = pool(dead, living)
    assert (await both.rollout(REQUEST))[1] == "arrays by b"
    assert list(both.living()) == ["b"]
    assert both.deaths == {"a": "a: the process of vLLM's engine has ended"}
    both.remove_dead("b", "b: gone too")
    with pytest.raises(BrokenPart, match=r"no generator is left\. a: the process of vLLM's engine has ended; b: gone"):
        await both.rollout(REQUEST)


@pytest.mark.parametrize(
    ("failure", "reason"), [(TimeoutError("a: 30 s"), "timeout"), (BrokenPart("a failed: no"), "generator_error")]
)
async def test_a_group_that_fails_twice_is_given_up_with_its_reason(failure: Exception, reason: str) -> None:
    generator = Double("a", failure, failure)
    with pytest.raises(RolloutFailed, match=rf"group 4 \(prompt 7\) failed twice: {failure}") as given_up:
        await pool(generator).rollout(REQUEST)
    assert given_up.value.reason == reason
    assert (await pool(Double("a", failure)).rollout(REQUEST))[1] == "arrays by a"  # once is not twice


async def test_a_group_that_failed_is_tried_on_another_generator_though_the_first_one_is_idle() -> None:
    hangs, works = Double("a", TimeoutError("a: no answer"), TimeoutError("a: no answer")), Double("b")
    assert (await pool(hangs, works).rollout(REQUEST))[1] == "arrays by b"
    assert (hangs.asked, works.asked) == (1, 1)


async def test_asking_how_busy_the_generators_were_changes_nothing() -> None:
    generators = pool(Double("a", seconds=0.05), Double("b"))
    assert generators.busy_seconds() == 0.0
    work = asyncio.gather(generators.rollout(REQUEST), generators.rollout(REQUEST))
    await asyncio.sleep(0.02)
    first, second = generators.busy_seconds(), generators.busy_seconds()
    assert 0.0 < first <= second
    await work
    done = generators.busy_seconds()
    assert done >= 0.05
    await asyncio.sleep(0.01)
    assert generators.busy_seconds() == done  # nobody had a group since


async def test_a_group_that_cannot_be_packed_is_given_up_at_once_with_its_reason() -> None:
    from ray.exceptions import RayTaskError

    class Handle:
        """A generator whose groups Arrow refuses, as Ray passes it on."""

        asked = 0

        @property
        def rollout(self) -> "Handle":
            return self

        def remote(self, request: RolloutRequest) -> tuple[Any, Any]:
            self.asked += 1
            cause = Unpackable("group 4 (prompt 7) cannot be stored: reference = [5]: expected a text, got int")
            reply = asyncio.get_running_loop().create_future()
            reply.set_exception(RayTaskError("rollout", "traceback", cause))
            return reply, None

    handle: Any = Handle()
    with pytest.raises(RolloutFailed, match=r"^group 4 \(prompt 7\) cannot be stored: reference") as lost:
        await pool(GeneratorClient("generator-0", handle)).rollout(REQUEST)
    assert lost.value.reason == "unpackable"
    assert handle.asked == 1
