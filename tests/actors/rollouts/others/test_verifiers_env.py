"""An environment in the shape of verifiers' own, whose agent asks by the address that it is given."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.rollouts.others import VerifiersEnvironment
from actors.types import Group
from rewards import Outcome
from tests.environments import Paper, row, streams
from tests.tokenizers import letters

SHAPE = """
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
from actors.rollouts.others import VerifiersEnvironment


class Env:
    made = 0

    def __init__(self):
        Env.made += 1
        prompts = ["one", "", "three"]
        self.taskset = [SimpleNamespace(data=SimpleNamespace(prompt_text=text, name="no prompt")) for text in prompts]

    @asynccontextmanager
    async def serving(self):
        self.serves = True
        yield

    async def run_episode(self, task, context):
        assert self.serves
        assert Env.made == 1
        async with httpx.AsyncClient(trust_env=False) as client:
            asked = {"model": context.model, "messages": [{"role": "user", "content": task.data.prompt_text}]}
            reply = await client.post(f"{context.client.base_url}/chat/completions", json=asked)
        said = reply.json()["choices"][0]["message"]["content"]
        wrong = SimpleNamespace(message="TaskError: odd", traceback="Traceback: there")
        traces = [SimpleNamespace(agent=SimpleNamespace(trainable=True), reward=float(len(said)), errors=[])]
        traces += [SimpleNamespace(agent=SimpleNamespace(trainable=False), reward=99.0, errors=[])]
        return SimpleNamespace(ok=said != "odd", errors=[wrong] if said == "odd" else [], traces=traces)


environment = VerifiersEnvironment(Env)
play = environment.play
"""


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of the package the adapter uses."""

    def context(model: str, client: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(model=model, client=client)

    names = {"EvalClientConfig": SimpleNamespace, "ModelContext": context}
    monkeypatch.setitem(sys.modules, "verifiers", SimpleNamespace(v1=SimpleNamespace(**names)))
    monkeypatch.setitem(sys.modules, "verifiers.v1", SimpleNamespace(**names))


async def played(tmp_path: Path, says: list[str], reference: str) -> Group:
    engine = Paper(lambda shown: says[0], tokenizer=letters())
    prompt = row(engine.tokenizer, reference=reference)
    return await streams(tmp_path / "mine.py", SHAPE, engine, size=len(says), prompt=prompt)


async def test_an_episode_is_worth_what_its_trained_agents_are(tmp_path: Path) -> None:
    group = await played(tmp_path, ["four", "four"], "2")
    assert [verdict.score for verdict in group.verdicts] == [4.0, 4.0]
    assert [trajectory.text for trajectory in group.trajectories] == ["four", "four"]


async def test_what_fails_in_it_has_no_score(tmp_path: Path) -> None:
    (verdict,) = (await played(tmp_path, ["odd"], "0")).verdicts
    assert verdict.outcome is Outcome.ERROR
    assert "RuntimeError: TaskError: odd\nTraceback: there" in verdict.why


async def test_a_row_of_other_data_is_refused(tmp_path: Path) -> None:
    (verdict,) = (await played(tmp_path, ["four"], "7")).verdicts
    assert "the row names task 7, and there are 3: write the data again" in verdict.why


def test_tasks_are_written_as_rows(tmp_path: Path) -> None:
    names: dict[str, type] = {}
    exec(SHAPE, names)
    assert VerifiersEnvironment(names["Env"]).write(tmp_path / "a.jsonl", 2) == 2
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows == [{"prompt": "one", "answer": "0"}, {"prompt": "no prompt", "answer": "1"}]
