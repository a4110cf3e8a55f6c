"""The data and the commands of RewardMATH in miniature: additions with one right worked answer and three that slip to a
wrong result. The last 200 rows are for evaluation."""

import random
from pathlib import Path

from actors.data.world import work_out
from examples.papers.run import Commands, newest
from examples.papers.world import FOLDER, write_rows

HERE = Path(__file__).parent
PAIRS = FOLDER / "rewardmath" / "pairs.jsonl"
ROWS, REJECTED, SLIPS = 2200, 3, 0.3


def row(draw: random.Random) -> dict[str, str | list[str]]:
    """An addition: prompt, chosen and rejected."""
    left, right = draw.randrange(10, 100), draw.randrange(10, 100)
    rejected: set[str] = set()
    while len(rejected) < REJECTED:
        answer = work_out(left, right, lambda: draw.choice((-1, 1)) * (draw.random() < SLIPS))
        if answer.rpartition("#")[2] != str(left + right):
            rejected.add(answer)
    return {"prompt": f"{left}+{right}=", "chosen": work_out(left, right), "rejected": sorted(rejected)}


def write(folder: Path) -> None:
    """Writes the rows."""
    draw = random.Random("rewardmath")
    write_rows(folder / PAIRS.name, [row(draw) for _ in range(ROWS)])


def run(winnow: Commands) -> None:
    """Warms a policy up, trains a reward model from it, ranks the rows that it has not seen, and chooses one of eight
    responses of the policy to each of 100 prompts."""
    policy = winnow.train(HERE / "policy.toml")
    ranker = winnow.train(HERE / "reward_model.toml", f"model.path={policy}/warmup", command="reward-model")
    winnow("eval", "--reward-model", newest(ranker), PAIRS, "data.rows=-200:")
    responses = winnow.evaluate(policy, "--samples", "8")
    winnow("eval", "--reward-model", newest(ranker), responses)
