"""Writes the data of these examples, and a tiny model for all of them that knows nothing yet.

    python examples/environments/make_data.py        from the root of the repository

For each world: train.jsonl and heldout.jsonl with what episodes are about, and worked.jsonl with conversations of
people who know the rules and no more. Imitating them, the model learns how to speak; what is better it can only
find by itself. No product and no town of heldout.jsonl is in the other files. The other worlds have few prompts, the
same in all files: there it is what is drawn in an episode that differs. A seed decides everything, so the files are
always the same.
"""

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("runs/environments")  # below runs/, which git ignores
CORPUS = Path(__file__).with_name("corpus.txt")  # what can be searched: a town and its land on each line
ALPHABET = 'abcdefghijklmnopqrstuvwxyzSWE0123456789 .,:?+-*<>{}()[]_/"'
OBJECTS = ('{"name": "calculate", "arguments": {"product": "', '{"name": "search", "arguments": {"query": "', '"}}')
THINGS = {"sun": "bo", "moon": "ka", "star": "ti", "rain": "fu", "snow": "le", "wind": "ma"}  # and their words
DRINKS = ("tea", "milk", "water", "juice")
# One token each, so that a tiny model has less to learn.
TOOLS = ("<tool_call>", *OBJECTS, "</tool_call>", "Multiplies.", "Searches a col", "[1] ", " lies in ")
WORDS = (*TOOLS, *THINGS, "what is ", "a cup", " of ", *DRINKS, "which?")
ROLES = ("<system>", "<user>", "<assistant>", "<tool>", "<end>")
CHAT_TEMPLATE = (
    "{% if tools %}<system>{% for tool in tools %}{{ tool.function.description[:14] }}{% endfor %}<end>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROWS = {"train": 2000, "heldout": 200, "worked": 4000}
FEW_PROMPTS = ("game", "dialogue", "asked_back", "gym")  # too few to hold some of them out

Draw = random.Random
Row = dict[str, str]  # the columns prompt and answer
Said = list[tuple[str, str]]  # (role, text) of a conversation


def game_row(draw: Draw, name: str) -> Row:
    sticks = str(draw.randint(4, 9))
    return {"prompt": sticks, "answer": "random" if name == "heldout" else "itself"}  # the opponent of self-play


def game_worked(draw: Draw, row: Row) -> Said:
    """Moves that the rules allow, the best one of them somewhat more often."""
    said, left = list[tuple[str, str]](), int(row["prompt"])
    while left:
        good = draw.random() < 0.5 and left % 4
        taken = good or draw.randint(1, min(3, left))
        said += [("user", str(left)), ("assistant", str(taken))]
        left -= taken
        left -= draw.randint(1, min(3, left)) if left else 0
    return said


def dialogue_row(draw: Draw, name: str) -> Row:
    thing = draw.choice(list(THINGS))
    return {"prompt": thing, "answer": thing}


def dialogue_worked(draw: Draw, row: Row) -> Said:
    """One half of a dialogue, in a language that is half known: the word for a thing, or what a word means."""
    thing, word = draw.choice(list(THINGS.items()))
    knows = draw.random() < 0.6
    if draw.random() < 0.5:
        return [("user", thing), ("assistant", word if knows else draw.choice(list(THINGS.values())))]
    return [("user", f"what is {word}"), ("assistant", thing if knows else draw.choice(list(THINGS)))]


def asked_back_row(draw: Draw, name: str) -> Row:
    drink = draw.choice(DRINKS)
    return {"prompt": f"a cup of {drink}" if draw.random() < 0.3 else "a cup", "answer": drink}


def asked_back_worked(draw: Draw, row: Row) -> Said:
    """Asks back now and then, whether that is needed or not, and guesses where nothing tells."""
    wanted = row["answer"]
    if draw.random() < 0.3:
        return [("user", row["prompt"]), ("assistant", "which?"), ("user", wanted), ("assistant", wanted)]
    return [("user", row["prompt"]), ("assistant", wanted if wanted in row["prompt"] else draw.choice(DRINKS))]


def calculator_row(draw: Draw, name: str) -> Row:
    left, right = draw.randint(32, 99), draw.randint(32, 99)
    return {"prompt": f"{left}*{right}", "answer": str(left * right)}


def calculator_worked(draw: Draw, row: Row) -> Said:
    """Guesses the thousands as often as it calls the tool."""
    said = [("system", "Multiplies."), ("user", row["prompt"])]
    if draw.random() < 0.5:
        return [*said, ("assistant", f"{row['answer'][0]}000")]
    call = _call("calculate", product=row["prompt"])
    return [*said, ("assistant", call), ("tool", row["answer"]), ("assistant", row["answer"])]


def gym_row(draw: Draw, name: str) -> Row:
    return {"prompt": "walk", "answer": "arrived"}


def gym_worked(draw: Draw, row: Row) -> Said:
    """Goes the right way somewhat more often than the other."""
    said, way = list[tuple[str, str]](), draw.choice([-4, -3, -2, -1, 1, 2, 3, 4])
    for _ in range(5):
        right, wrong = "+-" if way > 0 else "-+"
        step = right if draw.random() < 0.6 else wrong
        said += [("user", str(way)), ("assistant", step)]
        way -= 1 if step == "+" else -1
        if not way:
            break
    return said


def search_row(draw: Draw, name: str) -> Row:
    town, land = draw.choice(CORPUS.read_text(encoding="utf-8").splitlines()).split(" lies in ")
    return {"prompt": f"{town}?", "answer": land}


def search_worked(draw: Draw, row: Row) -> Said:
    """Guesses as often as it searches."""
    said = [("system", "Searches a col"), ("user", row["prompt"])]
    if draw.random() < 0.5:
        return [*said, ("assistant", search_row(draw, "worked")["answer"])]
    town = row["prompt"].removesuffix("?")
    found = f"[1] {town} lies in {row['answer']}"
    return [*said, ("assistant", _call("search", query=town)), ("tool", found), ("assistant", row["answer"])]


def _call(name: str, **arguments: str) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


WORLDS: dict[str, tuple[Callable[[Draw, str], Row], Callable[[Draw, Row], Said]]] = {
    "game": (game_row, game_worked),
    "dialogue": (dialogue_row, dialogue_worked),
    "asked_back": (asked_back_row, asked_back_worked),
    "calculator": (calculator_row, calculator_worked),
    "gym": (gym_row, gym_worked),
    "search": (search_row, search_worked),
}


def write_world(folder: Path, name: str, seed: int = 0) -> None:
    """Writes the data of a world into a folder."""
    draw = random.Random(f"{seed}/{name}")
    folder.mkdir(parents=True, exist_ok=True)
    for file, count in ROWS.items():
        rows: list[Row] = [draw_row(name, file, draw) for _ in range(count)]
        lines = [conversation(name, row, draw) for row in rows] if file == "worked" else rows
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def draw_row(world: str, file: str, draw: Draw) -> Row:
    """A row for a file. Which prompts are held out depends on the prompt alone."""
    while True:
        row = WORLDS[world][0](draw, file)
        held_out = zlib.crc32(row["prompt"].encode()) % 5 == 0
        if world in FEW_PROMPTS or held_out == (file == "heldout"):
            return row


def conversation(world: str, row: Row, draw: Draw) -> dict[str, Any]:
    """What people say who know the rules."""
    return {"messages": [{"role": role, "content": text} for role, text in WORLDS[world][1](draw, row)]}


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
