"""The world of a semantic reward: comments on vulnerable calls, each of which can be said in eight ways.

The policy has read comments of which five words in eight are about the call, and the others about another one.
"""

import random
from pathlib import Path

from examples.papers.world import Said, conversation, write_model, write_rows

COMMENTS = {  # call -> what is at fault, what happens to it, what is to be done; two words for each
    "strcpy": (("buffer", "array"), ("overflows", "overruns"), ("bound", "limit")),
    "system": (("command", "shell"), ("injected", "spliced"), ("escape", "quote")),
    "free": (("pointer", "address"), ("freed", "released"), ("null", "clear")),
    "printf": (("format", "template"), ("controlled", "chosen"), ("fix", "freeze")),
}
ARGUMENTS = ("a", "b", "c", "d", "e", "f", "g", "h")
RIGHT = 0.5  # share of the words of a comment that are about its call for sure
ALPHABET = "(), |abcdefgh"
WORDS = (*COMMENTS, *(word for slots in COMMENTS.values() for pair in slots for word in pair))


def comment(draw: random.Random, call: str, right: float = 1.0) -> str:
    """A comment, of whose words this share is about the call for sure."""
    calls = [call if draw.random() < right else draw.choice([*COMMENTS]) for _ in range(3)]
    return " ".join(draw.choice(COMMENTS[each][place]) for place, each in enumerate(calls))


def write(folder: Path, *, quick: bool = False) -> None:
    """Writes the data, the policy, and the encoder, which it teaches first: it says which call a comment is about."""
    from examples.papers.frozen import teach

    draw = random.Random("secrepair")
    calls = [(call, f"{call}({one}, {other})") for call in COMMENTS for one in ARGUMENTS for other in ARGUMENTS]
    draw.shuffle(calls)
    rows = [{"prompt": code, "answer": comment(draw, call)} for call, code in calls]
    write_rows(folder / "train.jsonl", [{**row, "reward": "own"} for row in rows[64:]])
    for name in ("meaning", "words"):
        reward = "own" if name == "meaning" else name
        write_rows(folder / f"{name}.jsonl", [{**row, "reward": reward} for row in rows[:64]])
    worked: list[Said] = [
        [("user", code), ("assistant", comment(draw, call, RIGHT))] for call, code in draw.choices(calls[64:], k=6000)
    ]
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    for name in ("model", "encoder"):
        write_model(folder / name, ALPHABET, WORDS, heads=2)
    named = draw.choices([*COMMENTS], k=4000)
    teach(folder / "encoder", [(f"{comment(draw, call, 0.7)}|", call) for call in named], 20 if quick else 300)
