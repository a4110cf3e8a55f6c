"""Writes the data of these examples, and a tiny model for all of them that knows nothing yet.

    python examples/environments/make_data.py        from the root of the repository

For each world: train.jsonl and heldout.jsonl with what episodes are about, and worked.jsonl with conversations of
people who know the rules and no more. Imitating them, the model learns how to speak; what is better it can only
find by itself. A seed decides everything, so the files are always the same.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("runs/environments")  # below runs/, which git ignores
CORPUS = Path(__file__).with_name("corpus.txt")  # what can be searched: a town and its land on each line
ALPHABET = 'abcdefghijklmnopqrstuvwxyzSWE0123456789 .,:?+-*<>{}()[]_/"'
OBJECTS = ('{"name": "calculate", "arguments": {"product": "', '{"name": "search", "arguments": {"query": "', '"}}')
WORDS = ("<tool_call>", *OBJECTS, "</tool_call>")  # one token each, so that a tiny model has less to learn
ROLES = ("<system>", "<user>", "<assistant>", "<tool>", "<end>")
CHAT_TEMPLATE = (
    "{% if tools %}<system>{% for tool in tools %}{{ tool.function.description[:14] }}{% endfor %}<end>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROWS = {"train": 2000, "heldout": 200, "worked": 4000}

Draw = random.Random
Row = dict[str, str]  # the columns prompt and answer
Said = list[tuple[str, str]]  # (role, text) of a conversation


def game_row(draw: Draw, name: str) -> Row:
    sticks = str(draw.randint(5, 15))
    return {"prompt": sticks, "answer": "random" if name == "heldout" else "itself"}  # the opponent of self-play


def game_worked(draw: Draw) -> Said:
    """Moves that the rules allow, and no more than that."""
    said, left = list[tuple[str, str]](), draw.randint(5, 15)
    while left:
        taken = draw.randint(1, min(3, left))
        said += [("user", str(left)), ("assistant", str(taken))]
        left -= taken
        left -= draw.randint(1, min(3, left)) if left else 0
    return said


def dialogue_row(draw: Draw, name: str = "") -> Row:
    """Four cards, of which only one has its colour, or its number: the one that is meant."""
    while True:
        cards = [draw.choice("rgby") + draw.choice("3579") for _ in range(4)]
        meant, others = cards[0], cards[1:]
        same = [sum(card[side] == meant[side] for card in others) for side in (0, 1)]
        if sorted(same)[0] == 0 and sorted(same)[1] >= 2:
            draw.shuffle(cards)
            return {"prompt": f"{' '.join(cards)} : {meant}", "answer": meant}


def dialogue_worked(draw: Draw) -> Said:
    """One half of a dialogue: a word for the card, its colour or its number; or any card that has the word."""
    cards, meant = dialogue_row(draw)["prompt"].split(" : ")
    if draw.random() < 0.5:
        return [("user", f"{cards} : {meant}"), ("assistant", draw.choice(meant))]
    word = draw.choice(meant)
    found = draw.choice([card for card in cards.split() if word in card])
    return [("user", f"{cards} ? {word}"), ("assistant", found)]


WANTED: dict[str, Callable[[list[str]], str]] = {
    "first": lambda digits: digits[0],
    "last": lambda digits: digits[-1],
    "least": min,
    "most": max,
}


def asked_back_row(draw: Draw, name: str = "") -> Row:
    digits, wanted = draw.sample("123456789", 4), draw.choice(list(WANTED))
    asked = [*digits, wanted] if draw.random() < 0.3 else digits
    return {"prompt": " ".join(asked), "answer": f"{wanted} {WANTED[wanted](digits)}"}


def asked_back_worked(draw: Draw) -> Said:
    """Asks back at random, guesses where it has not asked, and errs at times."""
    row = asked_back_row(draw)
    wanted, result = row["answer"].split()
    said, asks = [("user", row["prompt"])], draw.random() < 0.5
    if asks:
        said += [("assistant", "which?"), ("user", wanted)]
    if draw.random() < 0.2 or not (asks or wanted in row["prompt"]):
        result = draw.choice(row["prompt"].split()[:4])
    return [*said, ("assistant", result)]


def calculator_row(draw: Draw, name: str = "") -> Row:
    left, right = draw.randint(32, 99), draw.randint(32, 99)
    return {"prompt": f"{left}*{right}", "answer": str(left * right)}


def calculator_worked(draw: Draw) -> Said:
    """Guesses as often as it calls the tool."""
    row = calculator_row(draw)
    said = [("system", "Multiplies."), ("user", row["prompt"])]
    if draw.random() < 0.5:
        return [*said, ("assistant", str(draw.randint(1024, 9801)))]
    call = _call("calculate", product=row["prompt"])
    return [*said, ("assistant", call), ("tool", row["answer"]), ("assistant", row["answer"])]


def gym_row(draw: Draw, name: str = "") -> Row:
    return {"prompt": "1 to 7", "answer": "found"}


def gym_worked(draw: Draw) -> Said:
    """Guesses without listening to the hints."""
    number, said = draw.randint(1, 7), [("user", "1 to 7")]
    for _ in range(3):
        guess = draw.randint(1, 7)
        said.append(("assistant", str(guess)))
        if guess == number:
            break
        said.append(("user", "more" if number > guess else "less"))
    return said if said[-1][0] == "assistant" else said[:-1]


def search_row(draw: Draw, name: str = "") -> Row:
    town, land = draw.choice(CORPUS.read_text(encoding="utf-8").splitlines()).split(" lies in ")
    return {"prompt": f"{town}?", "answer": land}


def search_worked(draw: Draw) -> Said:
    """Guesses as often as it searches."""
    row, guess = search_row(draw), search_row(draw)["answer"]
    said = [("system", "Searches a col"), ("user", row["prompt"])]
    if draw.random() < 0.5:
        return [*said, ("assistant", guess)]
    town = row["prompt"].removesuffix("?")
    found = f"[1] {town} lies in {row['answer']}"
    return [*said, ("assistant", _call("search", query=town)), ("tool", found), ("assistant", row["answer"])]


def _call(name: str, **arguments: str) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


WORLDS: dict[str, tuple[Callable[[Draw, str], Row], Callable[[Draw], Said]]] = {
    "game": (game_row, game_worked),
    "dialogue": (dialogue_row, dialogue_worked),
    "asked_back": (asked_back_row, asked_back_worked),
    "calculator": (calculator_row, calculator_worked),
    "gym": (gym_row, gym_worked),
    "search": (search_row, search_worked),
}


def write_world(folder: Path, name: str, seed: int = 0) -> None:
    """Writes the data of a world into a folder."""
    row_of, worked_of = WORLDS[name]
    draw = random.Random(f"{seed}/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    for file, count in ROWS.items():
        rows = [_conversation(worked_of(draw)) if file == "worked" else row_of(draw, file) for _ in range(count)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _conversation(said: Said) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def write_model(folder: Path, seed: int = 0) -> None:
    """Writes a Hugging Face folder with random weights and a chat template."""
    from learner.models.tiny import write_tiny_model

    write_tiny_model(
        folder, alphabet=ALPHABET, words=WORDS, control=ROLES, chat_template=CHAT_TEMPLATE, seed=seed, heads=3
    )


if __name__ == "__main__":
    for world in WORLDS:
        write_world(FOLDER / world, world)
    write_model(FOLDER / "model")
    print(f"written: {', '.join(WORLDS)} and the model, in {FOLDER}")
