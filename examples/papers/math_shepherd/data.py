"""Math-Shepherd in miniature: the data, and the commands that label steps, train a process model on them, choose among
responses with it, and train the policy on its scores."""

from pathlib import Path

from examples.papers.additions import IN_HASTE, divided, write_additions
from examples.papers.math_shepherd.reranking import reranked
from examples.papers.run import Commands, newest, tell
from examples.papers.world import FOLDER

HERE, DATA = Path(__file__).parent, FOLDER / "math_shepherd"


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt. What is trained on is graded by the process model, what is held out by its
    answer."""
    return {"answer": str(result), "reward": "number" if held_out else "process"}


def write(folder: Path) -> None:
    """Writes the data and the policy."""
    write_additions(folder, divided, columns)


def run(winnow: Commands) -> None:
    """Warms the policy up, labels the steps of its solutions, trains the process model, and uses it twice."""
    policy = winnow.train(HERE / "policy.toml", warmup=IN_HASTE)
    labels = winnow.evaluate(
        policy, DATA / "train.jsonl", f"rollout.environment={HERE / 'step_labels.py'}", "--samples", "2"
    )
    held_out = 2 if winnow.quick else 80
    shepherd = winnow.train(
        HERE / "process_model.toml",
        f"model.path={newest(policy)}",
        f"data.path={labels}/left/steps.jsonl",
        f"data.rows=:-{held_out}",
        f"eval.rows=-{held_out}:",
        command="reward-model",
    )
    responses = winnow.evaluate(policy, DATA / "heldout.jsonl", "--samples", "8")
    for rule, share in reranked(responses, newest(shepherd)).items():
        print(f"{rule}: {share:.3f}")
    tell(winnow.train(HERE / "steps.toml", f"model.path={newest(policy)}", f"reward.process.path={newest(shepherd)}"))
