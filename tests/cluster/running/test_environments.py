"""Whole runs on an environment: a dialogue of two seats, and a game against an opponent that is not trained."""

from pathlib import Path

import numpy as np
import pytest

from tests.runs import Runs, demo, metrics_of, responses_of

pytestmark = pytest.mark.ray

# The rows of the built-in world, which has no chat template: half of them are a dialogue, half a game.
BOTH = """
async def play(task, talk):
    mine = await talk(task)
    verdict = await talk.grade()
    if task.seed % 2:
        checker = talk.seat("checker")
        await checker(f"{task.question}{mine.text}#{task.question}")
        return {"policy": verdict, "checker": await checker.grade()}
    opponent = talk.seat("opponent", trained=False)
    theirs = await opponent(task.question)
    turn = await talk(f"#{theirs.text.rpartition('#')[2]}=", role="tool", max_tokens=4)
    return 1.0 if verdict.score > 0 and turn.text != theirs.text else -1.0
"""


def test_two_seats_and_a_game_train(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    settings = (f"rollout.environment={tmp_path}/both.py", "run.steps=2", "filter.drop=none", "learner.algorithm=grpo")
    folder = runs.train(demo(tmp_path, *settings))
    lines, rows = metrics_of(folder), responses_of(folder)
    assert [line["groups_trained"] for line in lines] == [8, 16]
    assert all(np.isfinite(line["loss"]) and line["tokens_trained"] > 0 for line in lines)
    assert all(line["turns_mean"] == pytest.approx(2.5, abs=0.5) and line["tool_calls"] > 0 for line in lines)
    assert max(line["staleness_max"] for line in lines) == 0
    assert max(line["mismatch_kl"] for line in lines) < 1e-3  # the learner computes what the engine sampled
    assert {row["outcome"] for row in rows} <= {"correct", "wrong", "unparsable"}
    assert {row["seat"] for row in rows} == {"policy", "checker"} == {row["siblings"] for row in rows}
    for number in {row["group"] for row in rows}:
        seats = [row["seat"] for row in rows if row["group"] == number]
        assert seats in (["policy"] * 8, ["policy"] * 8 + ["checker"] * 8)
    for row in rows:
        sampled, versions = np.array(row["sampled"]), np.array(row["versions"])
        assert (versions[sampled] >= 0).all()
        assert (versions[~sampled] == -1).all()
        assert not np.array(row["logprobs"])[~sampled].any()
    turns = [np.count_nonzero(np.diff(np.array(row["sampled"]).astype(int)) == 1) for row in rows]
    assert set(turns) == {1, 2}
