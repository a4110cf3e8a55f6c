import json
from pathlib import Path

from actors.types import Purpose, RolloutRequest
from cluster.running.evaluate import Evaluator
from cluster.running.room import Room
from tests.builders import prompt, summary


class Pool:
    """Answers every request with one right, one wrong and one unjudged response."""

    def __init__(self) -> None:
        self.requests: list[RolloutRequest] = []

    async def rollout(self, request: RolloutRequest) -> tuple:
        self.requests.append(request)
        return summary([1.0, -1.0, None]), []


async def test_an_evaluation_asks_the_same_every_time_and_writes_what_it_found(tmp_path: Path) -> None:
    pool = Pool()
    evaluator = Evaluator(
        pool=pool,
        prompts=[prompt("eval/0"), prompt("eval/1")],
        samples=3,
        file=tmp_path / "e.jsonl",
        room=Room(print),
    )
    assert (await evaluator.run(0, 0, 0.0)).scored.accuracy == 0.5
    advanced: list[tuple[int, int]] = []
    found = await evaluator.run(4, 900, 12.5, lambda done, prompts: advanced.append((done, prompts)))
    assert found.line == "held-out accuracy after step 4: 0.500 (2 of 4 responses to 2 prompts)"
    assert advanced == [(1, 2), (2, 2)]
    assert pool.requests[:2] == pool.requests[2:]
    assert all(request.responses == 3 and request.purpose is Purpose.EVALUATION for request in pool.requests)
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert lines[1].pop("seconds") >= 0
    assert lines[1] == {
        "step": 4,
        "tokens": 900,
        "wall_seconds": 12.5,
        "prompts": 2,
        "responses": 4,
        "correct": 2,
        "accuracy": 0.5,
        "by_prompt": [[1, 2], [1, 2]],
    }


async def test_several_benchmarks_have_an_accuracy_each(tmp_path: Path) -> None:
    prompts = [prompt("eval/easy/0"), prompt("eval/hard/0"), prompt("eval/hard/1")]
    evaluator = Evaluator(pool=Pool(), prompts=prompts, samples=3, file=tmp_path / "e.jsonl", room=Room(print))
    assert (await evaluator.run(0, 0, 0.0)).scored.accuracy == 0.5
    assert json.loads((tmp_path / "e.jsonl").read_text())["benchmarks"] == {"easy": 0.5, "hard": 0.5}
