"""The data and the commands of ESRL's dynamic sampling: sums of four digits, worked out number by number.

    3+5+2+6=    8,10#16        what the first two are, what the first three are, then the result

The policy has read sums of people who are one off in one of five numbers; all that follows builds on it.
"""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

from examples.papers.run import Commands, tell
from examples.papers.world import Said, conversation, dealt, write_model, write_rows

HERE = Path(__file__).parent
ROWS = {"train": 128, "heldout": 100}  # few to train on, so that each comes back
DIGITS, TERMS = range(1, 10), 4
SLIPS, WORKED = 0.2, 8000  # share of the numbers that are one off in what the policy has read, and its rows
NUMBERS = tuple(str(number) for number in range(TERMS * DIGITS.stop))  # a token each
Sum = tuple[int, ...]


def asked(terms: Sum) -> str:
    """The prompt of a sum."""
    return "+".join(map(str, terms)) + "="


def worked_out(terms: Sum, slip: Callable[[], int] = lambda: 0) -> str:
    """A response; `slip` is added to each of its numbers."""
    numbers = [*itertools.accumulate(terms, lambda so_far, term: so_far + term + slip())][1:]
    return f"{','.join(map(str, numbers[:-1]))}#{numbers[-1]}"


def write(folder: Path) -> None:
    """Writes the questions, what the policy has read, and the model."""
    draw, every = random.Random("esrl"), [*itertools.product(DIGITS, repeat=TERMS)]
    sets = dealt(every, ROWS, "esrl")
    for name, mark in (("train", ""), ("heldout", "once ")):
        rows = [{"prompt": asked(terms), "answer": f"{mark}{sum(terms)}"} for terms in sets[name]]
        write_rows(folder / f"{name}.jsonl", rows)
    others = {*every} - {*sets["heldout"]}
    worked: list[Said] = []
    for terms in draw.choices(sorted(others), k=WORKED):
        said = worked_out(terms, lambda: draw.choice((-1, 1)) * (draw.random() < SLIPS))
        worked.append([("user", asked(terms)), ("assistant", said)])
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", "+=,#", NUMBERS)


def sampled(run: Path) -> int:
    """Tokens that a run has sampled for training."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["tokens_generated"] for line in lines)


def run(winnow: Commands) -> None:
    """Trains with plain sampling, and with dynamic sampling from the same warm-up; says how many tokens each has
    sampled."""
    plain = winnow.train(HERE / "plain.toml")
    dynamic = winnow.train(HERE / "dynamic.toml", f"model.path={plain}/warmup")
    for name, folder in (("plain", plain), ("dynamic", dynamic)):
        tell(folder)
        print(f"{name}: {sampled(folder)} tokens sampled", flush=True)
