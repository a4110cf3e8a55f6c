"""RewardMATH in miniature: its solutions by hand, and what its commands are told."""

import re
from pathlib import Path

import pytest

from examples.papers.rewardmath import data
from tests.examples.test_paper_recipes import Told


@pytest.mark.parametrize(
    ("numbers", "right", "wrong"),
    [
        ((74, 68), "4+8+0=12,7+6+1=14#142", ["#42", "4+8+0=12,7+6+0=13#132", "7+6+0=13#32"]),
        ((22, 26), "2+6+0=8,2+2+0=4#48", ["#148", "2+6+0=8,2+2+1=5#58", "2+2+1=5#158"]),
        ((45, 55), "5+5+0=10,4+5+1=10#100", ["=10#00", "5+5+0=10,4+5+0=9#90", "4+5+0=9#190"]),
    ],
)
def test_a_carry_that_is_wrong_is_forgotten_or_made_up(numbers: tuple[int, int], right: str, wrong: list[str]) -> None:
    found = data.row(*numbers)
    assert (found["prompt"], found["chosen"]) == (f"{numbers[0]}+{numbers[1]}=", right)
    (last, first, both) = found["rejected"]
    for said, end in zip((last, both), (wrong[0], wrong[2]), strict=True):
        assert said.endswith(end)
    assert first == wrong[1]


def test_one_solution_of_every_addition_is_right() -> None:
    def result(said: str) -> int:
        return int(re.split("#", said)[1])

    for left in range(10, 100):
        for right in range(10, 100, 7):
            row = data.row(left, right)
            assert result(str(row["chosen"])) == left + right
            assert all(result(said) != left + right for said in row["rejected"])
            assert len({row["chosen"], *row["rejected"]}) == 4


class Asked(Told):
    """Commands that nobody runs, with evaluations of the run file's own prompts."""

    def evaluate(self, run: Path, *words: str | Path) -> Path:
        self("eval", run, *words)
        return run / "evaluations/heldout"


def test_every_checkpoint_ranks_unseen_rows_and_chooses_among_responses(tmp_path: Path) -> None:
    told = Asked(tmp_path)
    data.run(told)
    assert [command for command, *_ in told.told] == ["train", "eval", "reward-model", *["eval"] * 4]
    ranked = [Path(words[2]).name for words in told.told[3:]]
    assert ranked == ["step-2", "step-2", "step-10", "step-10"]
    assert all("data.rows=-200:" in words for words in told.told[3::2])
