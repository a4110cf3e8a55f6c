import json
from dataclasses import replace
from pathlib import Path

import pytest

from actors.types import Purpose, RolloutRequest
from cluster.running.evaluate import Evaluator
from cluster.running.room import Room
from cluster.running.state import Counters
from tests.builders import prompt, summary

PROMPTS = (prompt("eval/0"), prompt("eval/1"))


class Pool:
    """Answers every request with one right, one wrong and one unjudged response, of one version."""

    def __init__(self, version: int = 0) -> None:
        self.requests: list[RolloutRequest] = []
        self.version = version

    async def rollout(self, request: RolloutRequest) -> tuple:
        self.requests.append(request)
        return replace(summary([1.0, -1.0, None]), oldest_version=self.version), []


def evaluator(folder: Path, prompts: tuple = PROMPTS) -> Evaluator:
    return Evaluator(prompts=prompts, samples=3, file=folder / "e.jsonl", room=Room(print))


async def test_an_evaluation_asks_the_same_every_time_and_writes_what_it_found(tmp_path: Path) -> None:
    pool, one = Pool(), evaluator(tmp_path)
    assert (await one.run(pool, Counters(), lambda: 0.0)).scored.accuracy == 0.5
    advanced: list[tuple[int, int]] = []
    pool.version, at = 4, Counters(step=4, tokens=900, seconds=12.5)
    found = await one.run(pool, at, lambda: 1.5, lambda done, prompts: advanced.append((done, prompts)), evaluators=2)
    assert found.line == "held-out accuracy after step 4: 0.500 (2 of 4 responses to 2 prompts)"
    assert advanced == [(1, 2), (2, 2)]
    assert pool.requests[:2] == pool.requests[2:]
    assert all(request.responses == 3 and request.purpose is Purpose.EVALUATION for request in pool.requests)
    assert list(one.evaluated()) == [0, 4]
    line = one.evaluated()[4]
    assert line.pop("seconds") >= 0
    assert line == {
        "step": 4,
        "version": 4,
        "tokens": 900,
        "wall_seconds": 12.5,
        "waited": 1.5,
        "evaluators": 2,
        "prompts": 2,
        "responses": 4,
        "correct": 2,
        "accuracy": 0.5,
        "by_prompt": [[1, 2], [1, 2]],
    }


async def test_several_benchmarks_have_an_accuracy_each(tmp_path: Path) -> None:
    one = evaluator(tmp_path, (prompt("eval/easy/0"), prompt("eval/hard/0"), prompt("eval/hard/1")))
    assert (await one.run(Pool(), Counters(), lambda: 0.0)).scored.accuracy == 0.5
    assert json.loads((tmp_path / "e.jsonl").read_text())["benchmarks"] == {"easy": 0.5, "hard": 0.5}


async def test_a_response_of_other_weights_than_those_of_the_step_is_no_part_of_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="evaluation after step 4 is of the weights of step 5"):
        await evaluator(tmp_path).run(Pool(version=5), Counters(step=4), lambda: 0.0)
    assert not evaluator(tmp_path).evaluated()


def test_a_line_that_was_cut_short_is_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"step": 2, "accuracy": 0.5}\n{"step": 4, "accu')
    assert list(evaluator(tmp_path).evaluated()) == [2]
