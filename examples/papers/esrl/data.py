"""The data and the commands of ESRL's dynamic sampling: additions, and a policy that has read answers with slips."""

import json
import random
from pathlib import Path

from actors.data.world import ALPHABET, work_out
from examples.papers.run import Commands, tell
from examples.papers.world import Said, conversation, dealt, write_model, write_rows

HERE = Path(__file__).parent
ROWS = {"train": 128, "heldout": 100}  # few to train on, so that each comes back
SLIPS = 0.25


def said(draw: random.Random, left: int, right: int) -> Said:
    """Somebody adds two numbers, and slips at times."""
    answer = work_out(left, right, lambda: draw.choice((-1, 1)) * (draw.random() < SLIPS))
    return [("user", f"{left}+{right}="), ("assistant", answer)]


def write(folder: Path) -> None:
    """Writes the questions, what the policy has read, and the model."""
    draw = random.Random("esrl")
    every = [(left, right) for left in range(100) for right in range(100)]
    sets = dealt(every, ROWS, "esrl")
    for name, mark in (("train", ""), ("heldout", "once ")):
        rows = [{"prompt": f"{left}+{right}=", "answer": f"{mark}{left + right}"} for left, right in sets[name]]
        write_rows(folder / f"{name}.jsonl", rows)
    others = [pair for pair in every if pair not in sets["heldout"]]
    write_rows(folder / "worked.jsonl", [conversation(said(draw, *draw.choice(others))) for _ in range(8000)])
    write_model(folder / "model", ALPHABET, heads=5)


def sampled(run: Path) -> int:
    """Tokens that a run has sampled for training."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["tokens_generated"] for line in lines)


def run(winnow: Commands) -> None:
    """Trains with plain sampling and with dynamic sampling, and says how many tokens each has sampled."""
    for name in ("plain", "dynamic"):
        folder = winnow.train(HERE / f"{name}.toml")
        tell(folder)
        print(f"{name}: {sampled(folder)} tokens sampled", flush=True)
