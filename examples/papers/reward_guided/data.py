"""The data and the commands of sampling that a reward model guides: it is trained on a policy's responses, and then
chooses what the next policy imitates, shapes the reward of its training, and chooses among its responses.

    14+27=    4+7+0=11,1+2+1=4#41        digit sums from the right with their carries, then the result

The policy has read additions of people who take one of four carries wrong. The sets of questions have none in common.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.data.world import ALPHABET
from examples.papers.responses import Answered, answered, pairs
from examples.papers.run import Commands, newest, tell
from examples.papers.world import FOLDER, Said, conversation, dealt, write_model, write_rows

HERE = Path(__file__).parent
DATA = FOLDER / "reward_guided"
ROWS = {
    "judged": 300,
    "guided": 400,
    "train": 400,
    "heldout": 100,
    "read": 4000,
}  # of judged ones the verdicts are used
WRONG, WORKED = 0.25, 8000  # share of the carries that are taken wrong in what the policy has read, and its rows
SAMPLES = "8"


def sets() -> dict[str, list[tuple[int, int]]]:
    """The two numbers of each question, by set."""
    every = [(left, right) for left in range(10, 100) for right in range(10, 100)]
    return dealt(every, ROWS, "reward guided")


def worked_out(left: int, right: int, wrong: Sequence[bool] = (False, False)) -> str:
    """A response. A carry that is wrong is forgotten where there is one, and made up where there is none."""
    sums, carry, result = [], 0, ""
    for one, other, is_wrong in zip(reversed(str(left)), reversed(str(right)), wrong, strict=True):
        total = int(one) + int(other) + carry
        sums.append(f"{one}+{other}+{carry}={total}")
        carry, result = (total // 10) ^ is_wrong, f"{total % 10}{result}"
    return f"{','.join(sums)}#{'1' * carry}{result}"


def imitated(guided: Sequence[Answered]) -> list[dict[str, Any]]:
    """What the next policy imitates: of each question the response that the reward model likes best."""
    return [conversation([("user", each.question), ("assistant", each.best)]) for each in guided if each.best]


def write(folder: Path) -> None:
    """Writes the questions, what the policy has read, and the model."""
    draw, questions = random.Random("carries"), sets()
    for name in ("judged", "guided", "train", "heldout"):
        rows = [{"prompt": f"{left}+{right}=", "answer": str(left + right)} for left, right in questions[name]]
        write_rows(folder / f"{name}.jsonl", rows)
    worked: list[Said] = []
    for left, right in draw.choices(questions["read"], k=WORKED):
        said = worked_out(left, right, [draw.random() < WRONG for _ in range(2)])
        worked.append([("user", f"{left}+{right}="), ("assistant", said)])
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", ALPHABET, heads=5)


def run(winnow: Commands) -> None:
    """Warms a policy up and has it answer; trains a reward model on the verdicts; has the policy answer other
    questions, of whose responses the reward model chooses; and one of eight to each held-out one. The next policy is
    trained on what was chosen, and evaluated; then by the shaped reward, and evaluated again."""

    def responses(of: Path, name: str, *words: str) -> Path:
        return winnow.evaluate(of, f"{name}={DATA}/{name}.jsonl", "--samples", SAMPLES, *words)

    before = ("--checkpoint", "start")  # after the warm-up, before any reward
    policy = winnow.train(HERE / "policy.toml")
    judged = answered(responses(policy, "judged", *before))
    worked = [worked_out(left, right) for left, right in sets()["judged"]]
    write_rows(DATA / "pairs.jsonl", pairs(judged, worked))
    begin = f"model.path={policy}/warmup"
    judge = newest(winnow.train(HERE / "reward_model.toml", begin, command="reward-model"))
    likes = f"reward.model.path={judge}"
    guided = answered(responses(policy, "guided", *before, "reward.name=model", likes))
    write_rows(DATA / "imitated.jsonl", imitated(guided))
    responses(policy, "heldout", *before, likes)
    tell(winnow.train(HERE / "shaped.toml", begin, likes))
