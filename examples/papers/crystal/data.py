"""Crystal in miniature: the world of Rainier, in which the policy also answers.

It has read answers that go by what was said before somewhat more often than not.
"""

import random
from pathlib import Path

from examples.papers.rainier.data import ALPHABET, THINGS, WORDS, colour, question, stated
from examples.papers.rainier.data import said as introspected
from examples.papers.world import Said, conversation, write_model, write_rows

FOLLOWED = 0.6  # share of the answers that go by what was said


def answered(draw: random.Random) -> Said:
    """Somebody answers, with or without a statement."""
    thing = draw.choice(THINGS)
    asked = question(draw, thing)
    choices = asked.split("? ")[1].split(" ")
    said = stated(draw, thing, 0.5) if draw.random() < 0.6 else ""
    follows = said.rpartition(" ")[2] in choices and draw.random() < FOLLOWED
    return [("user", f"{asked}|{said}"), ("assistant", said.rpartition(" ")[2] if follows else draw.choice(choices))]


def write(folder: Path) -> None:
    """Writes the data and the model."""
    draw = random.Random("crystal")
    forms = sorted({question(draw, thing) for thing in THINGS for _ in range(60)})
    draw.shuffle(forms)
    for name, some in (("train", forms[len(forms) // 5 :]), ("with", forms[: len(forms) // 5])):
        rows = [{"prompt": form, "answer": f"{name} {colour(form.partition('?')[0])}"} for form in some]
        write_rows(folder / f"{name}.jsonl", rows)
    rows = [{"prompt": row["prompt"], "answer": row["answer"].replace("with", "without")} for row in rows]
    write_rows(folder / "without.jsonl", rows)
    worked = [answered(draw) if draw.random() < 0.5 else introspected(draw) for _ in range(8000)]
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", ALPHABET, WORDS)
