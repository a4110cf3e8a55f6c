"""The data of Absolute Zero in miniature: prompts without answers, held-out tasks, and what the policy has read before.

The policy begins as a model that has read programs and answers of people who are often wrong, more often with some
operations than with others, and who propose what is no program as often as not.
"""

import random
from pathlib import Path

from examples.papers.absolute_zero.environment import NUMBERS, shown_and_hidden
from examples.papers.world import Said, conversation, write_model, write_rows

KINDS = ("d", "a", "i")
KNOWN = {"+": 0.9, "-": 0.6, "*": 0.5}  # operation -> share of answers that are right
PROPOSED = {"+": 0.7, "-": 0.2, "*": 0.1}  # operation -> share of the proposals that are programs
BROKEN = ("x%0", "x+", "-", "3x")  # proposals that are none, or fail
ALPHABET = "0123456789x+-*/%: dai"


def program(draw: random.Random, shares: dict[str, float]) -> str:
    """An expression of x, such as x*4."""
    return f"x{draw.choices([*shares], [*shares.values()])[0]}{draw.randrange(NUMBERS)}"


def result(expression: str, x: int) -> int:
    """What a program of this world gives."""
    number = int(expression[2:])
    return {"+": x + number, "-": x - number, "*": x * number}[expression[1]]


def task(draw: random.Random, kind: str, expression: str) -> tuple[str, str, str]:
    """A question, what the judge compares with, and a right answer."""
    x = draw.randrange(NUMBERS)
    if kind == "i":
        shown, hidden = ([f"{each}:{result(expression, each)}" for each in some] for some in shown_and_hidden(x))
        return f"i {' '.join(shown)}", " ".join(hidden), expression
    output = str(result(expression, x))
    return (f"d {expression} {x}", output, output) if kind == "d" else (f"a {expression} {output}", output, str(x))


def solved(draw: random.Random) -> Said:
    """Somebody solves a task, rightly or not."""
    expression = program(draw, dict.fromkeys(KNOWN, 1.0))
    kind = draw.choice(KINDS)
    question, _, answer = task(draw, kind, expression)
    if draw.random() >= KNOWN[expression[1]]:
        answer = task(draw, kind, program(draw, dict.fromkeys(KNOWN, 1.0)))[2]
    return [("user", question), ("assistant", answer)]


def proposed(draw: random.Random) -> Said:
    """Somebody proposes a program, or what is none."""
    said = program(draw, PROPOSED) if draw.random() < 0.6 else draw.choice(BROKEN)
    return [("user", f"{draw.choice(KINDS)} {draw.randrange(NUMBERS)}"), ("assistant", said)]


def write(folder: Path) -> None:
    """Writes the data and the model."""
    draw = random.Random("absolute zero")
    asked = [f"{kind} {x}" for kind in KINDS for x in range(NUMBERS)]
    for file, answer in (("train", "propose"), ("proposals", "measure")):
        write_rows(folder / f"{file}.jsonl", [{"prompt": prompt, "answer": answer} for prompt in asked])
    tasks = [task(draw, KINDS[n % 3], program(draw, dict.fromkeys(KNOWN, 1.0))) for n in range(60)]
    write_rows(folder / "heldout.jsonl", [{"prompt": question, "answer": hidden} for question, hidden, _ in tasks])
    worked = [proposed(draw) if draw.random() < 0.25 else solved(draw) for _ in range(12000)]
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", ALPHABET)
