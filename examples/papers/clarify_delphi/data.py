"""The world of ClarifyDelphi in miniature: things that somebody does, and the one question on which a judgement hangs.

The policy has read questions that are the right one more often than any other, and some that are none.
"""

import random
from pathlib import Path

from examples.papers.clarify_delphi.clarify_reward import ANSWERS
from examples.papers.world import Said, conversation, write_model, write_rows

VERBS = ("eat", "take", "play", "call", "hit", "help", "sing", "hide")  # each hangs on one question
THINGS = ("apple", "bread", "ball", "dog", "cup", "car", "book", "drum", "friend", "stone")
QUESTIONS = tuple(ANSWERS)
ALPHABET = "hm |"
RIGHT, NONE = 0.3, 0.2  # shares of what the policy has read: the right question beyond chance, and no question
WORDS = (*VERBS, *THINGS, *QUESTIONS, *(word for pair in ANSWERS.values() for word in pair), "good", "okay", "bad")


def matters(situation: str) -> str:
    """The question on which the judgement of a situation hangs."""
    return QUESTIONS[VERBS.index(situation.partition(" ")[0]) % len(QUESTIONS)]


def said(draw: random.Random) -> Said:
    """Somebody asks, or does not."""
    situation = f"{draw.choice(VERBS)} {draw.choice(THINGS)}"
    question = matters(situation) if draw.random() < RIGHT else draw.choice(QUESTIONS)
    return [("user", situation), ("assistant", "hm" if draw.random() < NONE else question)]


def judged(draw: random.Random) -> tuple[str, str]:
    """What the judge is taught: a situation with an answer, and an opinion."""
    situation, side = f"{draw.choice(VERBS)} {draw.choice(THINGS)}", draw.randrange(2)
    question = matters(situation) if draw.random() < 0.5 else draw.choice(QUESTIONS)
    opinion = ("good", "bad")[side] if question == matters(situation) else "okay"
    return f"{situation}|{question}|{ANSWERS[question][side]}|", opinion


def write(folder: Path, *, quick: bool = False) -> None:
    """Writes the data, the policy, and the judge, which it teaches first."""
    from examples.papers.frozen import teach

    draw = random.Random("clarify")
    situations = [f"{verb} {thing}" for verb in VERBS for thing in THINGS]
    draw.shuffle(situations)
    rows = [{"prompt": situation, "answer": matters(situation)} for situation in situations]
    write_rows(folder / "heldout.jsonl", rows[:20])
    write_rows(folder / "train.jsonl", rows[20:])
    write_rows(folder / "worked.jsonl", [conversation(said(draw)) for _ in range(6000)])
    for name in ("model", "judge"):
        write_model(folder / name, ALPHABET, WORDS, heads=2)
    teach(folder / "judge", [judged(draw) for _ in range(8000)], 20 if quick else 1200, lr=1e-3)
