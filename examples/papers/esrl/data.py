"""The data and the commands of ESRL's dynamic sampling, on sums that the policy has read with slips."""

import json
from pathlib import Path

from examples.papers.run import Commands, tell
from examples.papers.sums import sums, write_sums

HERE = Path(__file__).parent
ROWS = {"train": 128, "heldout": 100}  # few to train on, so that each comes back


def write(folder: Path) -> None:
    """Writes the questions, what the policy has read, and the model."""
    write_sums(folder, sums(ROWS, "esrl"), once="once ")


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
