"""Runs recipes of this folder, one after the other, and prints what their evaluations say.

    python -m examples.papers.run rema --seed 1      from the root of the repository
    python -m examples.papers.run rema/both          with one of its run files alone, where they are not one recipe
    python -m examples.papers.run --quick            all of them, two steps each: whether they run

For each recipe it writes the data (`write` of its data.py, which teaches models that never change) and trains with each
of its run files, or does what `run` of its data.py says where several commands are one recipe. In haste several are run
at a time, each in a process of its own whose output is shown when it has ended.
"""

import argparse
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster import cli
from cluster.config.reading import load_config
from examples.papers.world import FOLDER

AT_A_TIME, CPUS = 2, 4  # recipes in haste, and Ray's CPUs for them: each runs on two, as on the smallest machine
HERE = Path(__file__).parent
QUICK = {
    "train": (
        *("run.steps=2", "eval.prompts=4", "eval.samples=1", "rollout.groups_per_step=2"),
        "filter.drop=none",  # a policy that has learned nothing yet has no mixed groups
    ),
    "reward-model": ("run.steps=2", "run.checkpoint_every=2"),
    "eval": ("eval.prompts=4",),
}


class Commands:
    """The command line of winnow, with the seed and the haste that were asked for, and the folder for its runs."""

    def __init__(self, seed: int, *, quick: bool, runs: Path) -> None:
        self.seed, self.quick, self.runs = seed, quick, runs

    def __call__(self, command: str, first: str | Path, *words: str | Path) -> None:
        """Runs a command in this process, which has loaded its packages once for all of them, and shows what it prints.
        Settings among the words win over those of haste.

        Raises:
            SystemExit: it failed; what it said stands above.
        """
        short = QUICK.get(command, ()) if self.quick and first != "--reward-model" else ()
        told = [command, str(first), *short, *map(str, words)]
        if code := cli.main(told):
            raise SystemExit(f"winnow {' '.join(told)} ended with the status {code}")

    def train(self, file: Path, *words: str, command: str = "train", warmup: int = 20) -> Path:
        """Trains with a run file, by `train` or by `reward-model`, and gives the run's folder. A warm-up has `warmup`
        updates in haste."""
        before = set(self.runs.glob("*"))
        if self.quick and command == "train" and load_config(file, words).warmup.updates:
            words = (f"warmup.updates={warmup}", "warmup.batch=32", *words)
        self(command, file.relative_to(Path.cwd()), f"run.folder={self.runs}", f"run.seed={self.seed}", *words)
        (folder,) = set(self.runs.glob("*")) - before
        return folder

    def evaluate(self, run: Path, *words: str | Path) -> Path:
        """Evaluates the newest checkpoint of a run and gives the folder of the evaluation."""
        before = set(run.glob("evaluations/*"))
        self("eval", run, *words)
        (folder,) = set(run.glob("evaluations/*")) - before
        return folder


def recipes() -> list[str]:
    """The names of all recipes: the folders that have data."""
    return sorted(folder.name for folder in HERE.iterdir() if (folder / "data.py").is_file())


def run_files(recipe: str) -> list[Path]:
    """What a recipe, or one of its files ("rema/both"), trains with, in order."""
    name, _, file = recipe.partition("/")
    return sorted((HERE / name).glob(f"{file or '*'}.toml"))


def shown(found: dict[str, Any]) -> str:
    """A line of evals.jsonl in words, by its tables where it has several."""
    shares = found.get("benchmarks") or {"held-out": found["accuracy"]}
    return f"after step {found['step']}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items())


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints that a run has kept, the oldest first."""
    return sorted(run.glob("checkpoints/step-*"), key=lambda step: int(step.name.removeprefix("step-")))


def newest(run: Path) -> Path:
    """The newest checkpoint of a run."""
    return checkpoints(run)[-1]


def tell(run: Path) -> None:
    """Prints a line for each evaluation of a run."""
    for line in (run / "evals.jsonl").read_text(encoding="utf-8").splitlines():
        print(shown(json.loads(line)), flush=True)


def trained(commands: Commands, file: Path) -> None:
    """Trains with a run file and prints a line for each of its evaluations."""
    started = time.monotonic()
    tell(commands.train(file))
    print(f"{file.parent.name}/{file.name}: {time.monotonic() - started:.0f} s", flush=True)


def run_recipe(named: str, seed: int, *, quick: bool) -> None:
    """Runs a recipe, or one of its run files.

    Raises:
        SystemExit: there is no such recipe, the file of one is asked for that runs as a whole, or a command failed.
    """
    files = run_files(named)
    if not files:
        raise SystemExit(f"there is no recipe {named!r}: take one of {', '.join(recipes())}")
    folder = files[0].parent.name
    commands = Commands(seed, quick=quick, runs=FOLDER / "runs" / folder)
    data = importlib.import_module(f"examples.papers.{folder}.data")
    if named != folder and hasattr(data, "run"):
        raise SystemExit(f"{named} needs what the commands before it have made: take {folder}, which runs all of them")
    haste = {"quick": quick} if "quick" in inspect.signature(data.write).parameters else {}
    data.write(FOLDER / folder, **haste)
    if hasattr(data, "run"):
        data.run(commands)
        return
    for file in files:
        trained(commands, file)


def try_all(named: Mapping[str, Sequence[str]], seed: int) -> bool:
    """Runs recipes in haste, AT_A_TIME of them at a time, and prints what each said and how long it took; whether all
    ran. They share a session of Ray, whose start and end a short run would wait for longest. Those with most run files
    come first, so that no long one is left to run alone.

    Args:
        named: by recipe what of it was asked for.
        seed: of all.
    """
    import ray

    longest_first = sorted(named, key=lambda recipe: len(run_files(recipe)), reverse=True)
    lines, all_ran = [], True
    with (
        ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False) as session,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):
        env = os.environ | {"RAY_ADDRESS": session.address_info["gcs_address"]}
        tried = pool.map(lambda recipe: in_haste(named[recipe], seed, env), longest_first)
        for recipe, (ended, seconds) in zip(longest_first, tried, strict=True):
            how = f"failed with the status {ended.returncode}" if ended.returncode else "ran"
            lines.append(f"{recipe}: {how}, {seconds:.0f} s")
            all_ran = all_ran and not ended.returncode
            print(ended.stdout, lines[-1], sep="\n", flush=True)
    print("", *lines, sep="\n")
    return all_ran


def in_haste(asked: Sequence[str], seed: int, env: Mapping[str, str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """A process that ran a recipe, or some of its run files, and seconds that it took."""
    started = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "examples.papers.run", *asked, "--quick", f"--seed={seed}"]
    ended = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(env)
    )
    return ended, time.monotonic() - started


def main() -> None:
    """Runs what the command line names."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reader.add_argument(
        "recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(recipes())}; all where none is named"
    )
    reader.add_argument("--quick", action="store_true", help="two steps of each, whose figures mean nothing")
    reader.add_argument("--seed", type=int, default=0)
    asked = reader.parse_args()
    named: dict[str, list[str]] = {}
    for name in asked.recipes or recipes():
        named.setdefault(name.partition("/")[0], []).append(name)
    if asked.quick and len(named) > 1:
        sys.exit(0 if try_all(named, asked.seed) else 1)
    for name in itertools.chain.from_iterable(named.values()):
        run_recipe(name, asked.seed, quick=asked.quick)


if __name__ == "__main__":
    main()
