"""A whole run whose environment searches trees, trains on their leaves, and leaves rows."""

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from actors.sampled import SampledTurn, check_turns
from cluster.config.reading import load_config
from cluster.running.left import write_left
from learner.models.tiny import write_tiny_model
from tests.runs import Runs, metrics_of, responses_of

pytestmark = pytest.mark.ray

SEARCH = """
from actors.rollouts.search import Tree

async def grade(seat):
    return float(seat.turn.tokens % 2)

async def play(task, talk):
    tree = Tree(talk, task, stop=("1", "5"), branch=2, depth=3, nodes=6, step_tokens=5, tokens=160, grade=grade)
    await tree.search()
    talk.leave("trees", {"prompt": task.question, "steps": [node.text for node in tree.nodes], "tokens": tree.tokens})
    return await tree.responses([node for node in tree.nodes if not node.children])
"""


def test_leaves_are_trained_on_as_they_were_sampled_and_rows_are_left_once(runs: Runs, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", alphabet="0123456789+=", seed=0)
    (tmp_path / "search.py").write_text(SEARCH)
    asked = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(9)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (tmp_path / "run.toml").write_text(f"""
run = {{folder = "{tmp_path}/runs", steps = 2}}
model = {{path = "{tmp_path}/model", dtype = "float32"}}
data = {{path = "{tmp_path}/data.jsonl"}}
rollout = {{environment = "{tmp_path}/search.py", groups_per_step = 4, group_size = 2, max_new_tokens = 24}}
filter = {{drop = "none"}}
eval = {{every = 0}}
cluster = {{device = "cpu"}}
""")
    folder = runs.train(load_config(tmp_path / "run.toml"))
    lines, rows = metrics_of(folder), responses_of(folder)
    assert max(line["mismatch_kl"] for line in lines) < 1e-3  # the learner computes what the engine sampled
    for row in rows:
        tokens, sampled = np.array(row["tokens"], np.int32), np.array(row["sampled"])
        check_turns(tokens, sampled, [SampledTurn(**turn) for turn in row["turns"]])
        assert sampled[row["prompt_tokens"] :].all()  # the whole path
    trees = [list(group) for _, group in groupby(rows, lambda row: (row["group"], row["episode"]))]
    assert all(len({row["siblings"] for row in tree}) == 1 and len(tree) > 1 for tree in trees)
    assert write_left(folder) == {"left/trees.jsonl": len(trees)}
    left = [json.loads(line) for line in (folder / "left/trees.jsonl").read_text().splitlines()]
    assert max(len(row["steps"]) for row in left) == 6
    assert sum(line["tokens_generated"] for line in lines) == sum(row["tokens"] for row in left)
