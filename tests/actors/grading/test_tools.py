"""Calls of tools on their way to verifiers."""

import asyncio
from dataclasses import dataclass, field

import pytest

from actors.errors import BrokenVerifier, VerifierDied
from actors.grading import tools
from actors.grading.tools import ToolRunner
from actors.tools.functions import Function
from actors.tools.tool import Kind, Limits, Result
from actors.tools.worker import Ready, Work

KIND = Function("mine.py", "", "f")
WORK = Work(kind=KIND, name="f", arguments={}, limits=Limits(seconds=5.0, memory_mib=1024, max_characters=100))


@dataclass
class Host:
    """A verifier that answers when it may, or fails."""

    name: str = "host"
    problem: str = ""
    fails: list[Exception] = field(default_factory=list)
    calls: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def tools(self, kind: Kind, memory_mib: int) -> Ready:
        self.calls += 1
        if self.fails:
            raise self.fails.pop(0)
        return Ready(schemas=({"type": self.name},), problem=self.problem)

    async def use(self, work: Work) -> Result:
        self.calls += 1
        if self.fails:
            raise self.fails.pop(0)
        await self.go.wait()
        return Result(text=self.name)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "SECONDS_BETWEEN", 0.0)


async def test_each_call_goes_to_the_verifier_that_runs_the_fewest() -> None:
    hosts = [Host("a"), Host("b")]
    runner = ToolRunner(hosts)
    calls = [asyncio.create_task(runner.use(WORK)) for _ in range(4)]
    await asyncio.sleep(0)
    assert [host.calls for host in hosts] == [2, 2]
    hosts[1].go.set()
    assert {(await each).text for each in (calls[1], calls[3])} == {"b"}
    last = [asyncio.create_task(runner.use(WORK)) for _ in range(2)]
    assert [(await each).text for each in last] == ["b", "b"]
    hosts[0].go.set()
    assert [(await each).text for each in (calls[0], calls[2])] == ["a", "a"]


async def test_a_call_whose_verifier_died_is_tried_again_and_then_the_tool_cannot_be_used() -> None:
    host = Host(fails=[VerifierDied("gone")])
    host.go.set()
    assert await ToolRunner([host]).use(WORK) == Result(text="host")
    host.fails = [VerifierDied("gone")] * 3
    assert await ToolRunner([host]).use(WORK) == Result(text="", failed=True, why="gone", broken=True)


async def test_a_call_that_a_verifier_refused_is_not_tried_again() -> None:
    host = Host(fails=[BrokenVerifier("cannot be pickled")])
    assert (await ToolRunner([host]).use(WORK)).why == "cannot be pickled"
    assert host.calls == 1


async def test_what_a_tool_offers_is_asked_once() -> None:
    hosts = [Host("a", fails=[VerifierDied("gone")]), Host("b")]
    runner = ToolRunner(hosts)
    found = await asyncio.gather(*(runner.ready(KIND, 1024) for _ in range(3)))
    assert [ready.schemas for ready in found] == [({"type": "b"},)] * 3
    assert [host.calls for host in hosts] == [1, 1]
    broken = Host(problem="no file")
    assert [(await ToolRunner([broken]).ready(KIND, 1024)).problem for _ in range(2)] == ["no file"] * 2
    dead = ToolRunner([Host(fails=[VerifierDied("gone")])])
    assert (await dead.ready(KIND, 1024)).problem == "gone"


async def test_the_first_failure_of_a_tool_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    runner = ToolRunner([])
    for _ in range(2):
        runner.tell("f", Result(text="Error: x", failed=True, why="mine.py, line 3"))
        runner.tell("g", Result(text="Error: x", failed=True))
    assert caplog.text.count("mine.py, line 3") == 1
    assert "the tool g" not in caplog.text


FILE = """
import time

def slow():
    time.sleep(5)
    return "done"

def quick():
    return "quick"
"""


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_a_verifier_grades_while_its_tools_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    import ray

    from actors.grading.client import VerifierClient
    from actors.grading.verifier import VERIFIER_THREADS, Verifier
    from rewards import Case, Outcome, Question, RewardSettings

    file = tmp_path_factory.mktemp("tools") / "mine.py"
    file.write_text(FILE)

    def work(name: str) -> Work:
        return Work(kind=Function(str(file), "", name), name=name, arguments={}, limits=WORK.limits)

    async def asked(client: VerifierClient) -> list[str]:
        said = list[str]()

        async def use(name: str) -> None:
            said.append((await client.use(work(name))).text)

        async def grade() -> None:
            question = Question(
                reward="number", case=Case(response="5", reference="5"), settings=RewardSettings(name="number")
            )
            (verdict,) = await client.grade([question])
            said.append(verdict.outcome.value)

        await use("quick")  # its process is there now
        await grade()
        await asyncio.gather(use("slow"), grade(), use("quick"))
        assert (await client.tools(Function(str(file), "", "quick"), 1024)).problem == ""
        await client.stop()
        return said

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        handle = ray.remote(concurrency_groups=VERIFIER_THREADS)(Verifier).options(num_cpus=0).remote({})
        said = asyncio.run(asked(VerifierClient(handle)))
    finally:
        ray.shutdown()
    assert said[:2] == ["quick", Outcome.CORRECT.value]
    assert set(said[2:4]) == {"quick", Outcome.CORRECT.value}
    assert said[4] == "done"
