"""The real engine trains a reward model: the first loss is log 2, the reader agrees with the trainer, and what goes on
from a checkpoint makes the same updates. One rank in a process of its own, without Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.data.world import ALPHABET

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.ray

SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from actors.transfer.stores import listen, port_of
from learner.engine import join_learners
from learner.methods.algorithms import algorithm_of
from learner.reward_models.session import RewardModelSession
from learner.reward_models.types import RewardModelKind, RewardModelTask, Rows
from learner.settings import AdapterSettings, LearnerSettings, ModelSettings
from learner.types import Place, Schedule
from tests.builders import learner_spec

folder, kind, stage, rank = Path(sys.argv[1]), RewardModelKind(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
place, door = Place(rank=0, ranks=1), listen("127.0.0.1")
join_learners(place, "127.0.0.1", port_of(door), door)
settings = LearnerSettings(lr=1e-3, zero_stage=stage, micro_batch_tokens=128, adapter=AdapterSettings(rank=rank))
spec = learner_spec(ModelSettings(dtype="float32").on_device(False), settings, algorithm_of("raft"), None)
rows = Rows(path=str(folder / "rows.jsonl"))
task = RewardModelTask(kind=kind, train=rows, heldout=rows, prompt_column="prompt", batch=6)

def opened():
    return RewardModelSession(place, spec, folder / "model", Schedule(lr=1e-3, updates=9, warmup=0, end=0.5), task)

session = opened()
first = session.update().agreement.loss
for _ in range(3):
    session.update()
trained = session.evaluate()
session.save_checkpoint(folder / "out")
problem = session.published.finish_checkpoint().problem
after = [session.update().agreement.loss for _ in range(3)]
session.close()
again = opened()
again.restore(folder / "out", 4)
went_on = [again.update().agreement.loss for _ in range(3)]
again.close()
found = {"first": first, "margin": trained.margin, "after": after, "went_on": went_on, "problem": problem}
(folder / "found.json").write_text(json.dumps(found))
"""


@pytest.mark.parametrize(("kind", "stage", "rank"), [("outcome", 3, 0), ("process", 2, 4)])
def test_a_reward_model_learns_is_read_and_goes_on(tmp_path: Path, kind: str, stage: int, rank: int) -> None:
    from learner.models.tiny import write_tiny_model

    write_tiny_model(tmp_path / "model", alphabet=ALPHABET, seed=0)
    sums = [(number * 7 % 50, number * 3 % 50) for number in range(16)]
    pairs = [{"prompt": f"{a}+{b}=", "chosen": f"{a + b}#", "rejected": [f"{a + b}", f"{a}#{b}"]} for a, b in sums]
    steps = [{"prompt": f"{a}+{b}=", "steps": [f"{a},", f"{b}#"], "labels": [1, 0]} for a, b in sums]
    lines = [json.dumps(row) + "\n" for row in (pairs if kind == "outcome" else steps)]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    env = os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), kind, str(stage), str(rank)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["problem"], found["first"]) == ("", pytest.approx(0.693147, abs=1e-5))
    assert found["went_on"] == pytest.approx(found["after"], abs=1e-6)
    assert margin_as_read(tmp_path / "out", kind, pairs) == pytest.approx(found["margin"], abs=1e-3)


def margin_as_read(folder: Path, kind: str, pairs: list[dict]) -> float:
    """Mean score of what is right less that of what is wrong, by the reward that reads the folder."""
    from rewards import Case
    from rewards.models.scoring import TOKENS, ModelSettings, _load, _step_scores, model

    if kind == "outcome":
        chosen, rejected = (
            [Case(prompt=row["prompt"], response=text, reference="") for row in pairs for text in texts(row)]
            for texts in (lambda row: [row["chosen"]], lambda row: row["rejected"])
        )
        good, bad = (
            [result.parts["raw"] for result in model(cases, ModelSettings(path=str(folder)))]
            for cases in (chosen, rejected)
        )
        return sum(good) / len(good) - sum(bad) / len(bad)
    import math

    loaded = _load(str(folder), "cpu", TOKENS)
    rows = []
    for row in pairs:
        one, other = row["rejected"][1].split("#")
        case = Case(prompt=row["prompt"], response=f"{one},{other}#", reference="")
        rows.append(loaded.texts.separated(case, [(0, len(one) + 1), (len(one) + 1, len(case.response))]))
    scores = [[math.log(p / (1 - p)) for p in each] for each in _step_scores(loaded, rows)]
    return sum(first - second for first, second in scores) / len(scores)
