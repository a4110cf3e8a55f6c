"""The pool of generators: who gets a group, what a failure costs, and how busy they were."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from ray.exceptions import RayActorError, RayTaskError

import actors.rollouts.client
from actors.errors import ActorDied, BrokenPart, RolloutFailed, Unpackable
from actors.pool import GeneratorPool
from actors.rollouts.client import GeneratorClient
from actors.settings import RolloutSettings
from actors.types import RolloutRequest, SamplingSpec
from rewards import RewardSettings
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
    assert list(both.alive) == ["b"]
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


async def test_a_group_that_comes_late_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: list[asyncio.Future[Any]] = []

    class Handle:
        """A generator that answers when the test has it answer."""

        @property
        def rollout(self) -> "Handle":
            return self

        def remote(self, request: RolloutRequest) -> tuple[Any, Any]:
            replies.append(asyncio.get_running_loop().create_future())
            return replies[-1], f"arrays {len(replies)}"

    handle: Any = Handle()
    generator = GeneratorClient("generator-0", handle)
    generator._timeout = 0.3
    monkeypatch.setattr(actors.rollouts.client, "BESIDE_ROLLOUT", 0.0)
    some = pool(generator)
    bringing = asyncio.create_task(some.rollout(REQUEST))
    while len(replies) < 2:
        await asyncio.sleep(0.001)
    if not replies[0].done():
        replies[0].set_result(summary([1.0], id=4))  # nobody waits for it any more
    replies[1].set_result(summary([-1.0], id=4))
    found, arrays = await bringing
    assert (found.scores, arrays) == ((-1.0,), "arrays 2")
    assert some.finished["generator-0"] == 1


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


async def test_a_group_whose_generators_die_is_not_lost_as_long_as_it_cannot_be_its_fault() -> None:
    dying = [Double(f"a.{number}", ActorDied("killed")) for number in range(3)]
    assert (await pool(*dying, Double("b", seconds=0.01)).rollout(REQUEST))[1] == "arrays by b"
    assert [each.asked for each in dying] == [1, 1, 1]


async def test_groups_wait_for_a_generator_that_is_coming_and_end_when_none_is() -> None:
    some = pool(Double("a", ActorDied("a: killed")))
    some.tend("a")
    waiting = asyncio.create_task(some.rollout(REQUEST))
    await asyncio.sleep(0.01)
    new: Any = Double("a.1")
    some.add_ready(new)
    await asyncio.sleep(0.01)
    assert not waiting.done()  # it lacks the current version
    assert some.join(["a.1", "x"]) == ["a.1"]
    assert (await waiting)[1] == "arrays by a.1"
    some.remove_dead("a.1", "a.1: killed")
    waiting = asyncio.create_task(some.rollout(REQUEST))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    some.give_up("a")
    with pytest.raises(BrokenPart, match=r"no generator is left\. a: killed; a\.1: killed"):
        await waiting


class Mortal(Double):
    """A generator whose engine dies of one prompt, and with it whatever it has in hand; a new one comes at once."""

    born = 0
    brought: ClassVar[Counter[int]] = Counter()

    def __init__(self, pool_of_it: list[GeneratorPool]) -> None:
        super().__init__(f"a.{Mortal.born}")
        Mortal.born += 1
        self.pool, self.dead = pool_of_it, asyncio.Event()

    async def rollout(self, request: RolloutRequest) -> tuple[Any, Any]:
        dying = asyncio.create_task(self.dead.wait())
        if request.group == 13:
            await asyncio.sleep(0.005)
            self.dead.set()
            if self.name in self.pool[0].alive:
                self.pool[0].remove_dead(self.name, f"{self.name}: killed")
                new: Any = Mortal(self.pool)
                self.pool[0].add_ready(new)
                self.pool[0].join([new.name])
        await asyncio.wait({dying}, timeout=0.02)
        if self.dead.is_set():
            raise ActorDied(f"{self.name}: killed")
        dying.cancel()
        self.brought[request.group] += 1
        return summary([1.0], id=request.group), None


async def test_a_prompt_that_kills_every_engine_ends_after_four_deaths_and_takes_no_other_group_along() -> None:
    pools: list[GeneratorPool] = []
    Mortal.born = 0
    Mortal.brought.clear()
    first: Any = Mortal(pools)
    pools.append(pool(first))
    requests = [RolloutRequest(group=number, prompt=prompt("7"), visit=0) for number in range(20)]
    found = await asyncio.gather(*(pools[0].rollout(each) for each in requests), return_exceptions=True)
    assert [number for number, each in enumerate(found) if isinstance(each, BaseException)] == [13]
    assert isinstance(found[13], RolloutFailed)
    assert found[13].reason == "generator_error"
    assert "4 generators died of it, at last: a.3: killed" in str(found[13])
    assert Mortal.born == 5
    assert Mortal.brought == dict.fromkeys([*range(13), *range(14, 20)], 1)  # each is counted once


async def test_a_group_that_is_not_done_in_time_is_said_in_our_words() -> None:
    class Handle:
        rollout = begin = property(lambda self: self)

        def remote(self, *_: Any) -> Any:
            late = asyncio.get_running_loop().create_future()
            late.set_exception(RayTaskError("Generator.rollout", "a traceback", TimeoutError()))
            return late, "no arrays"

    handle: Any = Handle()
    generator = GeneratorClient("generator-0", handle)
    generator._timeout = 20.0
    said = r"^generator-0 was not done with it after 20 s \(rollout.timeout_seconds\): its sampling or its verdicts"
    with pytest.raises(TimeoutError, match=said):
        await generator.rollout(REQUEST)


class Together:
    """A generator whose groups come when the test says so; group 13 fails, and 14 takes too long."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.released = asyncio.Event()
        self.failure: Exception | None = None

    begin = rollouts = property(lambda self: self)

    def options(self, num_returns: int) -> "Together":
        self.returns = num_returns
        return self

    def remote(self, said: Any) -> Any:
        if isinstance(said, SamplingSpec):
            return asyncio.sleep(0)
        assert self.returns == 1 + len(said)
        self.calls.append([request.group for request in said])
        return asyncio.ensure_future(self.answer(said)), *(f"arrays {request.group}" for request in said)

    async def answer(self, said: list[RolloutRequest]) -> list[Any]:
        await self.released.wait()
        if self.failure:
            raise self.failure
        causes = {13: ValueError("no such token"), 14: TimeoutError()}
        return [
            RayTaskError("rollouts", "traceback", causes[request.group])
            if request.group in causes
            else summary([1.0], id=request.group)
            for request in said
        ]


async def asked_together(handle: Any, groups: Sequence[int], **rollout: Any) -> tuple[GeneratorClient, list[Any]]:
    """A client whose run has begun, and tasks that wait for these groups, asked for at the same time."""
    client = GeneratorClient("generator-0", handle)
    settings = RolloutSettings(**rollout)
    await client.begin(SamplingSpec(seed=0, rollout=settings, reward=RewardSettings(), greedy=False))
    requests = [RolloutRequest(group=group, prompt=prompt("7"), visit=0) for group in groups]
    tasks = [asyncio.create_task(client.rollout(request)) for request in requests]
    await asyncio.sleep(0.01)
    return client, tasks


async def test_short_answers_that_are_asked_for_at_the_same_time_come_by_calls_of_eight_groups() -> None:
    handle = Together()
    client, tasks = await asked_together(handle, range(20, 39), max_new_tokens=64)
    assert handle.calls == [[*range(20, 28)], [*range(28, 36)], [*range(36, 39)]]
    later = asyncio.create_task(client.rollout(RolloutRequest(group=50, prompt=prompt("7"), visit=0)))
    await asyncio.sleep(0.01)
    assert handle.calls[3:] == [[50]]
    handle.released.set()
    for group, (found, arrays) in zip([*range(20, 39), 50], await asyncio.gather(*tasks, later), strict=True):
        assert (found.id, arrays) == (group, f"arrays {group}")


async def test_a_group_that_fails_or_is_given_up_takes_no_other_of_its_call_along() -> None:
    handle = Together()
    _, tasks = await asked_together(handle, range(12, 17), max_new_tokens=8)
    tasks[0].cancel()
    handle.released.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found[:3]] == [asyncio.CancelledError, BrokenPart, TimeoutError]
    assert [each[0].id for each in found[3:]] == [15, 16]


async def test_when_a_generator_dies_all_groups_of_its_call_hear_of_it() -> None:
    handle = Together()
    _, tasks = await asked_together(handle, range(3), max_new_tokens=8)
    handle.failure = RayActorError(error_msg="The actor died because of an exit code 1")
    handle.released.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [ActorDied] * 3
    assert len({str(each) for each in found}) == 1


async def test_long_answers_have_a_call_each() -> None:
    class Alone(Together):
        rollout = property(lambda self: self)

        def remote(self, said: Any) -> Any:
            if isinstance(said, SamplingSpec):
                return asyncio.sleep(0)
            self.calls.append([said.group])
            reply = asyncio.get_running_loop().create_future()
            reply.set_result(summary([1.0], id=said.group))
            return reply, f"arrays {said.group}"

    handle = Alone()
    _, tasks = await asked_together(handle, range(3), max_new_tokens=65)
    assert [found[0].id for found in await asyncio.gather(*tasks)] == [0, 1, 2]
    assert handle.calls == [[0], [1], [2]]
