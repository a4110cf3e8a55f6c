"""Rewards of steps in miniature: the data, and the commands that train a model of steps and one of whole responses, and
then a policy on each of three rewards made of them.

The models learn from people who know: each step of a response is compared with the right one.
"""

import random
from pathlib import Path
from typing import Any

from examples.papers.additions import divided, graded, steps, write_additions
from examples.papers.run import Commands, newest, tell
from examples.papers.world import FOLDER, write_rows

HERE, DATA = Path(__file__).parent, FOLDER / "step_rewards"
REWARDS = {"response": "model", "mean": "process", "product": "product"}  # by run file, and column of the data
MODELS = {"process": "of_steps", "model": "of_responses"}  # the run file that trains the model of a reward
LABELLED, HELDOUT = 6000, 200  # questions with responses
RESPONSES = 4  # of people to each of these


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt: by run file the reward that grades it. What is held out is graded by its
    answer."""
    return {"answer": str(result), **{file: "number" if held_out else reward for file, reward in REWARDS.items()}}


def labelled(question: str, right: list[str], said: list[str]) -> dict[str, Any]:
    """A row for a model of steps: whether each step of a response is the right one."""
    labels = [float(one == true) for one, true in zip(said, right, strict=True)]
    return {"prompt": question, "steps": said, "labels": labels}


def write(folder: Path) -> None:
    """Writes the data of all models."""
    write_additions(folder, divided, columns)
    draw = random.Random("step rewards")
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for _ in range(LABELLED + HELDOUT):
        left, right = draw.randrange(10, 100), draw.randrange(10, 100)
        question, true = f"{left}+{right}=", steps(left, right)
        said = [graded(left, right, draw) for _ in range(RESPONSES)]
        rows.append(labelled(question, true, said[0]))
        if wrong := [divided(one) for one in said if one != true]:
            pairs.append({"prompt": question, "chosen": divided(true), "rejected": list(dict.fromkeys(wrong))})
    write_rows(folder / "steps.jsonl", rows)
    write_rows(folder / "pairs.jsonl", pairs)


def run(winnow: Commands) -> None:
    """Warms the policy up, trains both models, which begin as it does, and a policy on each reward."""
    begin = f"model.path={winnow.train(HERE / 'policy.toml')}/warmup"
    scored = [
        f"reward.{name}.path={newest(winnow.train(HERE / f'{file}.toml', begin, command='reward-model'))}"
        for name, file in MODELS.items()
    ]
    for file in REWARDS:
        tell(winnow.train(HERE / f"{file}.toml", begin, *scored))
