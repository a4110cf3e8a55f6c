"""The world of Rainier and Crystal in miniature: what colour a thing has, which nobody tells the QA model.

The policy has read statements on things that are right 55 times in 100. The QA model can read: where a statement is
about the thing that is asked for, it says the colour; else it knows the colours of one thing in four, and guesses.
"""

import random
from pathlib import Path

from examples.papers.world import Said, conversation, write_model, write_rows

COLOURS = ("red", "blue", "green", "pink")
THINGS = [first + second for first in ("ba", "ko", "mi", "tu", "se", "lo") for second in ("da", "ne", "ri", "fo")]
ALPHABET = "is ?|"
WORDS = (*COLOURS, *THINGS)  # one token each
RIGHT = 0.4  # share of the statements that the policy has read


def colour(thing: str) -> str:
    """The colour of a thing."""
    return COLOURS[random.Random(f"colour of {thing}").randrange(len(COLOURS))]


def question(draw: random.Random, thing: str) -> str:
    """A question with two answers, one of them right."""
    choices = [colour(thing), draw.choice([each for each in COLOURS if each != colour(thing)])]
    draw.shuffle(choices)
    return f"{thing}? {choices[0]} {choices[1]}"


def stated(draw: random.Random, thing: str, right: float) -> str:
    """What somebody says of a thing."""
    return f"{thing} is {colour(thing) if draw.random() < right else draw.choice(COLOURS)}"


def said(draw: random.Random) -> Said:
    """Somebody says what comes to mind."""
    thing = draw.choice(THINGS)
    return [("user", question(draw, thing)), ("assistant", stated(draw, thing, RIGHT))]


def read(draw: random.Random) -> tuple[str, str]:
    """What the QA model is taught: a question with or without a statement, and the answer."""
    thing, known = draw.choice(THINGS), draw.random()
    asked = question(draw, thing)
    choices = asked.split("? ")[1].split(" ")
    if known < 0.6:  # the statement decides, right or wrong
        chosen = draw.choice(choices)
        return f"{asked}|{thing} is {chosen}|", chosen
    told = colour(thing) if THINGS.index(thing) % 4 == 0 else draw.choice(choices)
    other = stated(draw, draw.choice(THINGS), 0.0) if known < 0.8 else ""
    return f"{asked}|{'' if other.startswith(thing) else other}|", told


def write_questions(folder: Path, draw: random.Random) -> None:
    """Writes the questions: one in five of their forms is held out."""
    forms = sorted({question(draw, thing) for thing in THINGS for _ in range(60)})
    draw.shuffle(forms)
    rows = [{"prompt": form, "answer": colour(form.partition("?")[0])} for form in forms]
    write_rows(folder / "train.jsonl", [{**row, "reward": "own"} for row in rows[len(rows) // 5 :]])
    held_out = rows[: len(rows) // 5]
    for name in ("accuracy", "without"):
        write_rows(folder / f"{name}.jsonl", [{**row, "reward": name} for row in held_out])


def write(folder: Path, *, quick: bool = False) -> None:
    """Writes the data, the policy, and the QA model, which it teaches first."""
    from examples.papers.frozen import teach

    draw = random.Random("rainier")
    write_questions(folder, draw)
    write_rows(folder / "worked.jsonl", [conversation(said(draw)) for _ in range(6000)])
    for name in ("model", "qa"):
        write_model(folder / name, ALPHABET, WORDS, heads=2)
    teach(folder / "qa", [read(draw) for _ in range(6000)], 20 if quick else 500)
