"""The data and the commands of RewardMATH in miniature: additions of two numbers of two digits, worked out in sums of
digits from the right. Each of the two carries is taken right or wrong: one solution is right and three are wrong.
"""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

from actors.data.world import ALPHABET
from examples.papers.run import Commands, checkpoints
from examples.papers.world import FOLDER, conversation, dealt, write_model, write_rows

HERE = Path(__file__).parent
DATA = FOLDER / "rewardmath"
ROWS = {"pairs": 2200, "heldout": 50, "train": 64, "worked": 4000}  # the last 200 pairs are for evaluation
WRONG = 0.3  # share of the carries that the policy has read taken wrong


def solution(left: int, right: int, wrong: Sequence[bool] = (False, False)) -> str:
    """A worked answer; a carry that is wrong is forgotten where there is one, and made up where there is none."""
    sums, carry, result = [], 0, ""
    for a, b, is_wrong in zip(reversed(str(left)), reversed(str(right)), wrong, strict=True):
        total = int(a) + int(b) + carry
        sums.append(f"{a}+{b}+{carry}={total}")
        carry, result = (total // 10) ^ is_wrong, str(total % 10) + result
    return f"{','.join(sums)}#{'1' * carry}{result}"


def row(left: int, right: int) -> dict[str, str | list[str]]:
    """An addition with all its solutions: prompt, chosen and rejected."""
    chosen, *rejected = (solution(left, right, wrong) for wrong in itertools.product((False, True), repeat=2))
    return {"prompt": f"{left}+{right}=", "chosen": chosen, "rejected": rejected}


def write(folder: Path) -> None:
    """Writes the data and the policy. No addition is in two sets."""
    every = [(left, right) for left in range(10, 100) for right in range(10, 100)]
    numbers, draw = dealt(every, ROWS, "rewardmath"), random.Random("rewardmath")
    write_rows(folder / "pairs.jsonl", [row(*each) for each in numbers["pairs"]])
    for name in ("heldout", "train"):
        rows = [{"prompt": f"{left}+{right}=", "answer": str(left + right)} for left, right in numbers[name]]
        write_rows(folder / f"{name}.jsonl", rows)
    worked = [
        (f"{left}+{right}=", solution(left, right, [draw.random() < WRONG for _ in range(2)]))
        for left, right in numbers["worked"]
    ]
    write_rows(
        folder / "worked.jsonl", [conversation([("user", asked), ("assistant", said)]) for asked, said in worked]
    )
    write_model(folder / "model", ALPHABET, heads=5)


def run(winnow: Commands) -> None:
    """Warms a policy up and has it answer 50 held-out prompts eight times; trains a reward model; and with each
    checkpoint of it ranks the rows that it has not seen and chooses among the policy's responses."""
    policy = winnow.train(HERE / "policy.toml")
    responses = winnow.evaluate(policy, "--checkpoint", "start", "--samples", "8")
    ranker = winnow.train(HERE / "reward_model.toml", f"model.path={policy}/warmup", command="reward-model")
    for model in checkpoints(ranker):
        winnow("eval", "--reward-model", model, DATA / "pairs.jsonl", "data.rows=-200:")
        winnow("eval", "--reward-model", model, responses)
