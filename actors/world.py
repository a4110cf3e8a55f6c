"""The built-in world of addition problems: prompts with answers, and worked answers that write every carry.

    prompt    58+467=
    worked    8+7+0=15,5+6+1=12,0+4+1=5#525      digit sums from the right as a+b+carry=sum, then the result

The length of an answer follows from the numbers, from 9 characters to 9 per digit and more.
"""

import json
import random
from pathlib import Path

ALPHABET = "0123456789+=,#"


def write_addition(folder: Path, *, digits: int, prompts: int, worked: int, seed: int) -> None:
    """Writes `prompts.jsonl` (prompt, answer) and `worked.jsonl` (prompt, response) with problems drawn apart.

    Args:
        folder: made where it is missing.
        digits: largest number of digits of an operand; the number of digits is drawn first, so short ones are as
            frequent as long ones.
        prompts: rows of prompts.jsonl.
        worked: rows of worked.jsonl.
        seed: of the random numbers; the same seed writes the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    for name, count in (("worked", worked), ("prompts", prompts)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                left, right = _operand(draw, digits), _operand(draw, digits)
                row = {"prompt": f"{left}+{right}="}
                row |= {"response": work_out(left, right)} if name == "worked" else {"answer": str(left + right)}
                file.write(json.dumps(row) + "\n")


def work_out(left: int, right: int) -> str:
    """The worked answer of one addition."""
    width = max(len(str(left)), len(str(right)))
    steps, carry = [], 0
    for a, b in zip(reversed(str(left).zfill(width)), reversed(str(right).zfill(width)), strict=True):
        total = int(a) + int(b) + carry
        steps.append(f"{a}+{b}+{carry}={total}")
        carry = total // 10
    return ",".join(steps) + f"#{left + right}"


def _operand(draw: random.Random, digits: int) -> int:
    size = draw.randint(1, digits)
    return draw.randrange(10 ** (size - 1) if size > 1 else 0, 10**size)
