"""The data and the commands of sampling that a reward model guides: it is trained on a policy's responses, and then
chooses what the next policy imitates, shapes the reward of its training, and chooses among its responses.

Questions are sums of four digits; the four sets of them have none in common.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.papers.responses import Answered, answered, pairs
from examples.papers.run import Commands, newest
from examples.papers.sums import sums, worked_out, write_sums
from examples.papers.world import FOLDER, conversation, write_rows

HERE = Path(__file__).parent
DATA = FOLDER / "reward_guided"
ROWS = {"judged": 300, "guided": 400, "train": 400, "heldout": 100}  # of judged ones the verdicts are used
SEED, SAMPLES = "reward guided", "8"


def imitated(guided: Sequence[Answered]) -> list[dict[str, Any]]:
    """What the next policy imitates: of each question the response that the reward model likes best."""
    return [conversation([("user", each.question), ("assistant", each.best)]) for each in guided if each.best]


def write(folder: Path) -> None:
    """Writes the questions, what the policy has read, and the model."""
    write_sums(folder, sums(ROWS, SEED))


def run(winnow: Commands) -> None:
    """Warms a policy up and has it answer; trains a reward model on the verdicts; has the policy answer other
    questions, of whose responses the reward model chooses; trains the next policy on these, then by the shaped reward;
    and evaluates both, with the reward model choosing one of eight responses."""

    def responses(of: Path, name: str, *words: str) -> Path:
        return winnow.evaluate(of, f"{name}={DATA}/{name}.jsonl", "--samples", SAMPLES, *words)

    before = ("--checkpoint", "start")  # after the warm-up, before any reward
    policy = winnow.train(HERE / "policy.toml")
    judged = answered(responses(policy, "judged", *before))
    worked = [worked_out(terms) for terms in sums(ROWS, SEED)["judged"]]
    write_rows(DATA / "pairs.jsonl", pairs(judged, worked))
    begin = f"model.path={policy}/warmup"
    judge = newest(winnow.train(HERE / "reward_model.toml", begin, command="reward-model"))
    likes = f"reward.model.path={judge}"
    guided = answered(responses(policy, "guided", *before, "reward.name=model", likes))
    write_rows(DATA / "imitated.jsonl", imitated(guided))
    trained = winnow.train(HERE / "shaped.toml", begin, likes)
    responses(policy, "heldout", *before, likes)
    responses(trained, "heldout", *before, "reward.name=number")
    responses(trained, "heldout", "reward.name=number")
