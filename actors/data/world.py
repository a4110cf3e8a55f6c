"""The built-in world of addition problems: prompts with answers, and worked answers that write every carry.

    prompt    58+467=
    worked    8+7+0=15,5+6+1=12,0+4+1=5#525      digit sums from the right as a+b+carry=sum, then the result

The length of an answer follows from the numbers. The worked answers hold slips, as people's do: a model that imitates
them slips as often, and reinforcement learning, which sees only whether the result is right, can rid it of them.
"""

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ALPHABET = "0123456789+=,#"
HELDOUT = 1000  # rows of heldout.jsonl


def write_addition(
    folder: Path, *, digits: int, prompts: int, worked: int, seed: int, slips: float | Sequence[float] = 0.0
) -> None:
    """Writes `prompts.jsonl` and `heldout.jsonl` (prompt, answer) and `worked.jsonl` (prompt, response), with problems
    drawn apart.

    Args:
        folder: made where it is missing.
        digits: largest number of digits of an operand; the number of digits is drawn first, so short ones are as
            frequent as long ones.
        prompts: rows of prompts.jsonl.
        worked: rows of worked.jsonl.
        seed: of the random numbers; the same seed writes the same files.
        slips: probability that a digit sum of a worked answer is one off; several are those of problems whose longer
            operand has 1, 2, ... digits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    for name, count in (("worked", worked), ("prompts", prompts), ("heldout", HELDOUT)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                left, right = _operand(draw, digits), _operand(draw, digits)
                row = {"prompt": f"{left}+{right}="}
                if name == "worked":
                    share = slips if isinstance(slips, float | int) else slips[len(str(max(left, right))) - 1]
                    row["response"] = work_out(left, right, partial(_slip, draw, share))
                else:
                    row["answer"] = str(left + right)
                file.write(json.dumps(row) + "\n")


def work_out(left: int, right: int, slip: Callable[[], int] = lambda: 0) -> str:
    """The worked answer of one addition; `slip` is added to each digit sum, and all that follows builds on it."""
    width = max(len(str(left)), len(str(right)))
    steps, carry, result = [], 0, ""
    for a, b in zip(reversed(str(left).zfill(width)), reversed(str(right).zfill(width)), strict=True):
        total = max(0, int(a) + int(b) + carry + slip())
        steps.append(f"{a}+{b}+{carry}={total}")
        carry = total // 10
        result = str(total % 10) + result
    return ",".join(steps) + "#" + (str(carry) * (carry > 0) + result).lstrip("0").zfill(1)


def _slip(draw: random.Random, share: float) -> int:
    return draw.choice((-1, 1)) * (draw.random() < share)


def _operand(draw: random.Random, digits: int) -> int:
    size = draw.randint(1, digits)
    return draw.randrange(10 ** (size - 1) if size > 1 else 0, 10**size)
