"""The thread around vLLM's engine in a generator's own process; the engine is a double, whose passes are let go one by
one. The real one is in `tests.actors.transfer.test_weights`."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

# They load vLLM, which warns of what it uses itself.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Double:
    """An engine that answers a request in so many passes as its prompt has tokens. A pass begins when it is let go."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.left: dict[str, int] = {}  # request -> passes until it is answered
        self.said: list[str] = []
        self.go, self.fails = threading.Semaphore(0), False
        self.engine_core = SimpleNamespace(shutdown=lambda: self.said.append("shutdown"))

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def add_request(self, request_id: str, prompt: Any, params: Any, priority: int) -> None:
        if not prompt:
            raise ValueError("an empty prompt")
        self.left[request_id] = len(prompt)

    def abort_request(self, request_ids: list[str]) -> None:
        self.said += [f"abort {name}" for name in request_ids if self.left.pop(name)]

    def step(self) -> list[Any]:
        assert self.go.acquire(timeout=10)
        if self.fails:
            raise MemoryError("no room")
        self.left = {name: left - 1 for name, left in self.left.items()}
        ended = [name for name, left in self.left.items() if not left]
        self.left = {name: left for name, left in self.left.items() if left}
        return [output(name) for name in ended]

    def collective_rpc(self, method: str, kwargs: Any) -> list[str]:
        if method == "missing":
            raise AttributeError(method)
        return [f"{method} {kwargs}"]

    def get_weight_version(self) -> str:
        return "3"


def output(name: str) -> Any:
    from vllm.outputs import RequestOutput

    return RequestOutput(
        request_id=name, prompt=None, prompt_token_ids=[], prompt_logprobs=None, outputs=[], finished=True
    )


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from actors.rollouts import in_process

    monkeypatch.setattr(in_process, "LLMEngine", Double)
    monkeypatch.setattr(in_process, "Executor", SimpleNamespace(get_class=lambda config: None))
    llm = in_process.InProcessLLM(SimpleNamespace(create_engine_config=lambda context: None))  # type: ignore[arg-type]
    yield llm
    llm._engine.go.release(100)
    llm.shutdown()


async def answered(llm: Any, name: str, passes: int) -> str:
    prompt: Any = [0] * passes
    (found,) = [one async for one in llm.generate(prompt, None, name)]
    return str(found.request_id)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def test_requests_come_in_between_two_passes_and_each_ends_with_its_own(llm: Any) -> None:
    async def story() -> None:
        engine = llm._engine
        long = asyncio.create_task(answered(llm, "long", 3))
        await until(lambda: engine.left)
        short = asyncio.create_task(answered(llm, "short", 1))
        version = asyncio.create_task(llm.get_weight_version())
        await until(lambda: llm._asked.qsize() == 2)  # during the first pass, which waits to be let go
        engine.go.release()
        assert await version == "3"
        assert engine.left == {"long": 2, "short": 1}
        engine.go.release()
        assert (await short, long.done()) == ("short", False)
        engine.go.release()
        assert await long == "long"

    asyncio.run(story())


def test_a_pause_freezes_what_is_under_way_or_waits_for_it_and_new_requests_come_after_it(llm: Any) -> None:
    async def story() -> None:
        engine = llm._engine
        frozen = asyncio.create_task(answered(llm, "frozen", 2))
        await until(lambda: engine.left)
        engine.go.release()
        await llm.pause_generation(mode="keep", clear_cache=False)
        left = dict(engine.left)
        engine.go.release(10)
        assert await llm.collective_rpc("receive", {"part": 1}) == ["receive {'part': 1}"]
        assert engine.left == left  # no pass since
        await llm.resume_generation()
        assert await frozen == "frozen"

        before = asyncio.create_task(answered(llm, "before", 2))
        await until(lambda: engine.left or before.done())
        await llm.pause_generation(mode="wait", clear_cache=False)
        await until(before.done)
        after = asyncio.create_task(answered(llm, "after", 1))
        given_up = asyncio.create_task(answered(llm, "given up", 1))
        await asyncio.sleep(0)
        given_up.cancel()
        await llm.get_weight_version()
        assert not engine.left
        await llm.resume_generation()
        assert await after == "after"
        assert "given up" not in engine.left

    asyncio.run(story())


def test_who_stops_waiting_ends_the_request_and_a_refused_one_ends_alone(llm: Any) -> None:
    async def story() -> None:
        flying = asyncio.create_task(answered(llm, "given up", 50))
        await until(lambda: llm._engine.left)
        flying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flying
        llm._engine.go.release()
        await until(lambda: llm._engine.said)
        assert (llm._engine.said, llm._engine.left) == (["abort given up"], {})

        with pytest.raises(ValueError, match="an empty prompt"):
            await answered(llm, "empty", 0)
        with pytest.raises(AttributeError, match="missing"):
            await llm.collective_rpc("missing")
        llm._engine.go.release(9)
        assert await answered(llm, "next", 1) == "next"

    asyncio.run(story())


def test_a_failed_pass_is_the_death_of_the_engine_for_all_who_wait_and_who_come(llm: Any) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    async def story() -> None:
        flying = asyncio.create_task(answered(llm, "flying", 2))
        await until(lambda: llm._engine.left)
        assert not llm.errored
        llm._engine.fails = True
        llm._engine.go.release()
        with pytest.raises(EngineDeadError):
            await flying
        assert llm.errored
        with pytest.raises(EngineDeadError):
            await llm.get_weight_version()
        with pytest.raises(EngineDeadError):
            await answered(llm, "late", 1)
        await until(lambda: "shutdown" in llm._engine.said)

    asyncio.run(story())


def test_at_the_end_of_an_engine_nobody_goes_on_waiting_not_even_behind_a_pause(llm: Any) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    async def story() -> None:
        await llm.pause_generation(mode="wait", clear_cache=False)
        later = asyncio.create_task(answered(llm, "later", 1))
        await llm.get_weight_version()
        asyncio.get_running_loop().run_in_executor(None, llm.shutdown)
        with pytest.raises(EngineDeadError):
            await later

    asyncio.run(story())


def test_an_engine_that_does_not_start_says_why_to_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.rollouts.in_process import InProcessLLM

    def refuse(context: Any) -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        InProcessLLM(SimpleNamespace(create_engine_config=refuse))  # type: ignore[arg-type]
