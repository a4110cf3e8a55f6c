"""The data of ReMA in miniature: words that ask for an operation, and what the policy has read before.

It has read plans that are right half the time and more, results that are mostly right, and a first role that lets
nearly every answer pass.
"""

import random
from pathlib import Path

from examples.papers.world import Said, conversation, write_model, write_rows

MEANINGS = {"ba": "+", "ko": "-", "mi": ">", "tu": "<"}  # > is the larger of two numbers, < the smaller
DIGITS = 4  # numbers are below it
RIGHT_PLANS, RIGHT_RESULTS, PASSED = 0.5, 0.8, 0.9
ALPHABET = "0123456789+-<>abkomitun "


def result(operation: str, left: int, right: int) -> int:
    """What an operation gives for two digits."""
    return {"+": left + right, "-": left - right, ">": max(left, right), "<": min(left, right)}[operation]


def said(draw: random.Random) -> Said:
    """One role of a dialogue, by people who are right at times."""
    word, left, right = draw.choice([*MEANINGS]), draw.randrange(DIGITS), draw.randrange(DIGITS)
    operation = MEANINGS[word] if draw.random() < RIGHT_PLANS else draw.choice([*MEANINGS.values()])
    good = result(operation, left, right)
    answers = [good if draw.random() < RIGHT_RESULTS else draw.randrange(1 - DIGITS, 2 * DIGITS - 1) for _ in range(2)]
    passes = draw.random() < PASSED
    last = [] if passes else [answers[1]]
    if draw.random() < 0.5:
        turns = [("user", f"{operation} {left} {right}"), ("assistant", str(answers[0]))]
        return turns + [turn for each in last for turn in (("user", "no"), ("assistant", str(each)))]
    turns = [("user", f"{word} {left} {right}"), ("assistant", operation), ("user", str(answers[0]))]
    turns.append(("assistant", "ok" if passes else "no"))
    return turns + [turn for each in last for turn in (("user", str(each)), ("assistant", "ok"))]


def write(folder: Path) -> None:
    """Writes the data and the model."""
    draw = random.Random("rema")
    questions = [(word, left, right) for word in MEANINGS for left in range(DIGITS) for right in range(DIGITS)]
    draw.shuffle(questions)
    rows = [
        {"prompt": f"{word} {left} {right}", "answer": str(result(MEANINGS[word], left, right))}
        for word, left, right in questions
    ]
    write_rows(folder / "heldout.jsonl", rows[:16])
    write_rows(folder / "train.jsonl", rows[16:])
    write_rows(folder / "worked.jsonl", [conversation(said(draw)) for _ in range(10000)])
    write_model(folder / "model", ALPHABET)
