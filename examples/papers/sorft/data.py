"""The world of SoRFT in miniature: an issue with two symptoms, each of which has its place in every kind of subtask.

The policy has read answers that name each place half the time, else something that is shown, or that is not even there.
"""

import json
import random
from itertools import permutations
from pathlib import Path

from examples.papers.world import Said, conversation, write_model, write_rows

SYMPTOMS = ("slow", "crash", "leak", "garbled")
PLACES = {  # subtask -> what may be named; the first four are the places of the four symptoms
    "file": ("net.py", "io.py", "log.py", "web.py", "app.py", "db.py"),
    "function": ("send", "read", "note", "show", "main", "find"),
    "line": ("11", "24", "38", "42", "57", "63"),
    "edit": ("11: retry", "24: close", "38: flush", "42: decode", "57: pass", "63: return"),
}
RIGHT, THERE = 0.5, 0.7  # share of the places that are named; of what is named instead, what is shown
ALPHABET = " |\n"
WORDS = (*SYMPTOMS, *PLACES, *(name for names in PLACES.values() for name in names))


def gold(subtask: str, symptoms: tuple[str, ...]) -> list[str]:
    """What is to be named."""
    return [PLACES[subtask][SYMPTOMS.index(symptom)] for symptom in symptoms]


def row(draw: random.Random, subtask: str, symptoms: tuple[str, ...]) -> dict[str, str]:
    """A question that shows four names, two of which are to be named."""
    right = gold(subtask, symptoms)
    shown = right + draw.sample([name for name in PLACES[subtask] if name not in right], 2)
    draw.shuffle(shown)
    asked = f"{subtask} {' '.join(symptoms)}|{'|'.join(shown)}"
    return {"prompt": asked, "answer": json.dumps({"gold": right, "known": shown})}


def said(draw: random.Random) -> Said:
    """Somebody names places."""
    subtask, symptoms = draw.choice([*PLACES]), tuple(draw.sample(SYMPTOMS, 2))
    asked = row(draw, subtask, symptoms)
    shown = json.loads(asked["answer"])["known"]
    named = [
        name if draw.random() < RIGHT else draw.choice(shown if draw.random() < THERE else PLACES[subtask])
        for name in gold(subtask, symptoms)
    ]
    return [("user", asked["prompt"]), ("assistant", "\n".join(named[: draw.choice((1, 2, 2))]))]


def write(folder: Path) -> None:
    """Writes the data and the model. Of the pairs of symptoms in a subtask one in four is kept from the rows to train
    on by reward."""
    draw = random.Random("sorft")
    asked = [(subtask, pair) for subtask in PLACES for pair in permutations(SYMPTOMS, 2)]
    draw.shuffle(asked)
    for name, some in (("heldout", asked[: len(asked) // 4]), ("train", asked[len(asked) // 4 :])):
        rows = {each["prompt"]: each for subtask, pair in some for each in [row(draw, subtask, pair) for _ in range(8)]}
        write_rows(folder / f"{name}.jsonl", [*rows.values()])
    write_rows(folder / "worked.jsonl", [conversation(said(draw)) for _ in range(6000)])
    write_model(folder / "model", ALPHABET, WORDS)
