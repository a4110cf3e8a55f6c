"""Rewards of steps in miniature: the data, and the commands that train a model of steps and one of whole responses, and
then a policy on each of three rewards made of them.

The models learn from people who know: each step of a response is compared with the right one.
"""

from collections.abc import Sequence
from pathlib import Path

from examples.papers.additions import UPDATES, divided, steps, write_additions
from examples.papers.responses import Answered, answered, pairs
from examples.papers.run import Commands, newest, tell
from examples.papers.world import FOLDER, write_rows

HERE, DATA = Path(__file__).parent, FOLDER / "step_rewards"
REWARDS = {"response": "model", "mean": "process", "product": "product"}  # by run file, and column of the data
MODELS = {"process": "of_steps", "model": "of_responses"}  # the run file that trains the model of a reward


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt: by run file the reward that grades it. What is held out is graded by its
    answer."""
    return {"answer": str(result), **{file: "number" if held_out else reward for file, reward in REWARDS.items()}}


def right_steps(question: str) -> list[str]:
    """The steps of a right response to a question such as "15+27="."""
    left, right = question.removesuffix("=").split("+")
    return steps(int(left), int(right))


def labelled(questions: Sequence[Answered]) -> list[dict[str, object]]:
    """Rows for a process model: the responses of three steps, and whether each step is the right one."""
    rows: list[dict[str, object]] = []
    for each in questions:
        right = right_steps(each.question)
        for text in dict.fromkeys(one.text for one in each.said):
            said = text.split("\n\n")
            if len(said) == len(right) and all(step.strip() for step in said):
                labels = [float(step == true) for step, true in zip(said, right, strict=True)]
                rows.append({"prompt": each.question, "steps": said, "labels": labels})
    return rows


def write(folder: Path) -> None:
    """Writes the data and the policy."""
    write_additions(folder, divided, columns)


def run(winnow: Commands) -> None:
    """Warms the policy up, labels what it answers, trains both models on that, and a policy on each reward."""
    policy = winnow.train(HERE / "policy.toml", f"warmup.updates={UPDATES}")
    said = answered(winnow.evaluate(policy, DATA / "train.jsonl", "--checkpoint", "start", "--samples", "8"))
    write_rows(DATA / "steps.jsonl", labelled(said))
    write_rows(DATA / "pairs.jsonl", pairs(said, [divided(right_steps(each.question)) for each in said]))
    begin, held_out = f"model.path={policy}/warmup", 1 if winnow.quick else 80
    rows = (f"data.rows=:-{held_out}", f"eval.rows=-{held_out}:")
    trained = {
        name: winnow.train(HERE / f"{file}.toml", begin, *rows, command="reward-model") for name, file in MODELS.items()
    }
    scored = [f"reward.{name}.path={newest(model)}" for name, model in trained.items()]
    for file in REWARDS:
        tell(winnow.train(HERE / f"{file}.toml", begin, *scored))
