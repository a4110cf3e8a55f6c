"""Runs recipes of this folder, one after the other, and prints what their evaluations say.

    python -m examples.papers.run rema --seed 1      from the root of the repository
    python -m examples.papers.run rema/both          with one of its run files alone
    python -m examples.papers.run --quick            all of them, two steps each: whether they run

For each recipe it writes the data (`write` of its data.py) and trains with each of its run files.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from examples.papers.world import FOLDER

RUNS = FOLDER / "runs"
HERE = Path(__file__).parent
QUICK = ("run.steps=2", "warmup.updates=20", "eval.prompts=4", "eval.samples=1", "rollout.groups_per_step=2")


def recipes() -> list[str]:
    """The names of all recipes: the folders that have data."""
    return sorted(folder.name for folder in HERE.iterdir() if (folder / "data.py").is_file())


def run_files(recipe: str) -> list[Path]:
    """What a recipe, or one of its files ("rema/both"), trains with, in order."""
    name, _, file = recipe.partition("/")
    return sorted((HERE / name).glob(f"{file or '*'}.toml"))


def train(file: Path, changes: list[str]) -> list[str]:
    """Trains with a run file and gives a line for each of its evaluations.

    Raises:
        SystemExit: the run failed; what it said stands above.
    """
    before = set(RUNS.glob("*/evals.jsonl"))
    command = [sys.executable, "-m", "cluster.cli", "train", str(file.relative_to(Path.cwd())), *changes]
    if code := subprocess.run([*command, f"run.folder={RUNS}"], check=False).returncode:
        raise SystemExit(f"{file} ended with the status {code}")
    evals = (set(RUNS.glob("*/evals.jsonl")) - before).pop()
    return [_shown(json.loads(line)) for line in evals.read_text(encoding="utf-8").splitlines()]


def _shown(found: dict[str, Any]) -> str:
    """An evaluation, by its tables where it has several."""
    shares = found.get("benchmarks") or {"held-out": found["accuracy"]}
    return f"after step {found['step']}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items())


def main() -> None:
    """Runs what the command line names."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reader.add_argument(
        "recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(recipes())}; all where none is named"
    )
    reader.add_argument("--quick", action="store_true", help="two steps of each, whose figures mean nothing")
    reader.add_argument("--seed", type=int, default=0)
    asked = reader.parse_args()
    for recipe in asked.recipes or recipes():
        files = run_files(recipe)
        if not files:
            raise SystemExit(f"there is no recipe {recipe!r}: take one of {', '.join(recipes())}")
        folder = files[0].parent.name
        importlib.import_module(f"examples.papers.{folder}.data").write(FOLDER / folder)
        for file in files:
            started = time.monotonic()
            for line in train(file, [f"run.seed={asked.seed}", *QUICK * asked.quick]):
                print(line)
            print(f"{file.parent.name}/{file.name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
