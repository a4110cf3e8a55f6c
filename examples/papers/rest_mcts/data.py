"""ReST-MCTS* in miniature: the data, and the commands of its rounds. In each a tree search makes what policy and value
model learn next."""

import json
import shutil
from pathlib import Path

from examples.papers.additions import IN_HASTE, divided, write_additions
from examples.papers.run import Commands, newest
from examples.papers.world import FOLDER

HERE, DATA = Path(__file__).parent, FOLDER / "rest_mcts"
VALUES = DATA / "values"  # where search_by_values.py finds the value model
SEARCHES = ("search_by_completions.py", "search_by_values.py")  # of each round


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt."""
    return {"answer": str(result)}


def write(folder: Path) -> None:
    """Writes the data and the policy."""
    write_additions(folder, divided, columns)


def solved(found: Path) -> int:
    """Questions for which a search found a right path: those of which values were left."""
    rows = (found / "left/values.jsonl").read_text(encoding="utf-8").splitlines()
    return len({json.loads(row)["prompt"] for row in rows})


def run(winnow: Commands) -> None:
    """Warms the policy up, then searches, and trains both models on what the search found, as often as there are
    searches. The policy is evaluated before the first round and after each, the value model at the end, by what it
    chooses of the responses of the first policy and of the last."""
    policy = winnow.train(HERE / "policy.toml", warmup=IN_HASTE)
    values = policy  # with whose weights the value model begins
    first = responses = winnow.evaluate(policy, DATA / "heldout.jsonl", "--samples", "4")
    held_out = 1 if winnow.quick else 100
    for search in SEARCHES:
        found = winnow.evaluate(policy, DATA / "train.jsonl", f"rollout.environment={HERE / search}", "--samples", "1")
        print(f"{search} solves {solved(found)} questions", flush=True)
        values = winnow.train(
            HERE / "values.toml",
            f"model.path={newest(values)}",
            f"data.path={found}/left/values.jsonl",
            f"data.rows=:-{held_out}",
            f"eval.rows=-{held_out}:",
            command="reward-model",
        )
        shutil.rmtree(VALUES, ignore_errors=True)
        shutil.copytree(newest(values), VALUES)
        policy = winnow.train(
            HERE / "imitation.toml", f"model.path={newest(policy)}", f"data.stored={found}/trajectories"
        )
        responses = winnow.evaluate(policy, DATA / "heldout.jsonl", "--samples", "4")
    for answers in (first, responses):
        winnow("eval", "--reward-model", newest(values), answers, "reward.process.aggregate=last")
