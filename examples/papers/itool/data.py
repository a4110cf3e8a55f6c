"""iTool in miniature: the data, and what the policy has read before, calls of people who know the tools. At times they
give a tool another number, or take the other one."""

import random
from pathlib import Path

from examples.environments.make_data import CHAT_TEMPLATE, ROLES
from examples.papers.run import Commands, tell
from examples.papers.world import Said, conversation, write_rows

HERE = Path(__file__).parent
TOOLS = {"+": "add", "*": "multiply"}
DESCRIBED = ("Adds.", "Multiplies.")  # what the chat template shows of the tools
ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789 .,:+*<>{}()_/"'
BEGIN, MIDDLE, END = '{{"name": "{}", "arguments": {{"left": ', ', "right": ', "}}"
WORDS = ("<tool_call>", "</tool_call>", *DESCRIBED, *map(BEGIN.format, TOOLS.values()), MIDDLE, END)  # one token each
OTHER_NUMBER, OTHER_TOOL = 0.25, 0.1  # shares of the calls
IN_HASTE = 160  # updates of the warm-up there, as a search must find something
HELDOUT = 200

Question = tuple[int, str, int, str, int]  # (3+4)*5 is 3, "+", 4, "*", 5


def asked(question: Question) -> str:
    """What the policy is shown."""
    first, inner, second, outer, third = question
    return f"({first}{inner}{second}){outer}{third}"


def result(sign: str, left: int, right: int) -> int:
    """What a tool gives."""
    return left + right if sign == "+" else left * right


def call(sign: str, left: int, right: int) -> str:
    """A call as the policy says it."""
    return f"<tool_call>{BEGIN.format(TOOLS[sign])}{left}{MIDDLE}{right}{END}</tool_call>"


def said(draw: random.Random, question: Question) -> Said:
    """Somebody calls one tool, then another with what the first has said, then says what the last has said."""
    first, inner, second, outer, third = question
    turns: Said = [("system", "".join(DESCRIBED)), ("user", asked(question))]
    found = first
    for sign, number in ((inner, second), (outer, third)):
        numbers = [found, number]
        if draw.random() < OTHER_NUMBER:
            numbers[draw.randrange(2)] = draw.randrange(10)
        taken = draw.choice([*TOOLS]) if draw.random() < 2 * OTHER_TOOL else sign
        found = result(taken, *numbers)
        turns += [("assistant", call(taken, *numbers)), ("tool", str(found))]
    return [*turns, ("assistant", str(found))]


def write(folder: Path) -> None:
    """Writes the data and the policy."""
    from learner.models.tiny import write_tiny_model

    draw = random.Random("itool")
    digits = range(10)
    every = [(a, x, b, y, c) for a in digits for x in TOOLS for b in digits for y in TOOLS for c in digits]
    draw.shuffle(every)
    for name, kind, some in (("heldout", "answer", every[:HELDOUT]), ("train", "search", every[HELDOUT:])):
        rows = []
        for question in some:
            first, inner, second, outer, third = question
            answer = result(outer, result(inner, first, second), third)
            rows.append({"prompt": asked(question), "answer": f"{kind} {answer}"})
        write_rows(folder / f"{name}.jsonl", rows)
    worked = [said(draw, question) for question in draw.choices(every[HELDOUT:], k=8000)]
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_tiny_model(
        folder / "model", alphabet=ALPHABET, words=WORDS, control=ROLES, chat_template=CHAT_TEMPLATE, seed=0, heads=3
    )


def run(winnow: Commands) -> None:
    """Warms the policy up and has it search and prefer, evaluated at the beginning, halfway and at the end."""
    tell(winnow.train(HERE / "run.toml", warmup=IN_HASTE))
