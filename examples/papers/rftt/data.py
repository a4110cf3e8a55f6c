"""Reinforced Functional Token Tuning in miniature: the data, and the commands of its two stages."""

from collections.abc import Sequence
from pathlib import Path

from examples.papers.additions import IN_HASTE, write_additions
from examples.papers.rftt.rftt_paths import NEXT, OUTPUT, REFINE, RIGHT, VERIFY, WRONG
from examples.papers.run import Commands, newest, tell
from examples.papers.world import FOLDER

HERE, DATA = Path(__file__).parent, FOLDER / "rftt"
WORDS = (NEXT, VERIFY, REFINE, OUTPUT, RIGHT, WRONG)  # one token each


def told(steps: Sequence[str]) -> str:
    """A response of a policy that does not know how to verify yet."""
    *sums, result = steps
    return "".join(f"{NEXT}{each}\n" for each in sums) + OUTPUT + result


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt: how it is answered, and the result."""
    return {"answer": f"{'alone' if held_out else 'tree'} {result}"}


def write(folder: Path) -> None:
    """Writes the data and the policy, which has the functional tokens in its vocabulary."""
    write_additions(folder, told, columns, WORDS)


def run(winnow: Commands) -> None:
    """Warms the policy up, searches, imitates what the search has found, and goes on with reinforcement learning. The
    policy is evaluated before the search, after the imitation, and at the end."""
    policy = winnow.train(HERE / "policy.toml", warmup=IN_HASTE)
    winnow.evaluate(policy, DATA / "heldout.jsonl", "--samples", "4")
    found = winnow.evaluate(
        policy, DATA / "train.jsonl", f"rollout.environment={HERE / 'functional_search.py'}", "--samples", "1"
    )
    tuned = winnow.train(HERE / "trees.toml", f"model.path={newest(policy)}", f"warmup.path={found}/left/worked.jsonl")
    tell(tuned)
