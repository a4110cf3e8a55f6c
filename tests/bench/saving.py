"""What the filter and the choice of prompts save, on additions from easy to out of reach.

Real runs through `compare`: the same warmed-up model, the same number of steps on as many accepted groups, evaluated on
held-out problems that nobody chose.

    uniform    rejected groups are replaced, prompts come as the data has them
    chosen     prompts likely to be mixed, half of a group first

The worked answers of the warm-up hold one-digit problems without slips and two-digit problems with them; the prompts
have up to three digits, uniformly. So one-digit problems are the easiest, two-digit ones undecided, and three-digit
ones, half of all, out of reach.

    .venv/bin/python -m tests.bench.saving [--run N] [--quick]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.data.world import ALPHABET, write_addition
from cluster.comparing.compare import compare
from cluster.comparing.comparison import method_folder
from cluster.comparing.plan import plan_comparison
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "uniform": {},
    "chosen": {"rollout": {"choose": "likely-mixed", "rounds": {"size": 4}}},
}
Run = Mapping[str, Any]


def measure(run: int = 0, quick: bool = False) -> dict[str, float]:
    """Runs both methods with one seed.

    Args:
        run: runs recorded before this one, which is the seed.
        quick: a few small steps, which show that it works and no more.

    Returns:
        tokens sampled per accepted group and their ratio; learner tokens per sampled token; held-out accuracy at the
        start and the end.

    Raises:
        RuntimeError: a run failed; its reason has been printed.
    """
    with tempfile.TemporaryDirectory() as place:
        tree = _settings(Path(place), quick)
        methods = {name: _config(tree, changes) for name, changes in METHODS.items()}
        plan = replace(plan_comparison("saving", "What choosing saves", methods, 1), seeds=(run,))
        folder, failed = compare(plan)
        if failed:
            raise RuntimeError(f"{failed} of {len(methods)} runs failed")
        found = {method: _read(folder / method_folder(method) / f"seed={run}") for method in methods}
    chosen, uniform = found["chosen"], found["uniform"]
    figures = {
        "tokens per kept group, chosen / uniform": chosen["spent"] / uniform["spent"],
        "accuracy gained against uniform": chosen["end"] - uniform["end"],
        "accuracy at the start": uniform["start"],
    }
    for method, told in found.items():
        figures[f"{method}: accuracy at the end"] = told["end"]
        figures[f"{method}: tokens per kept group"] = told["spent"]
        figures[f"{method}: learner tokens per sampled token"] = told["trained"]
        figures[f"{method}: share of groups kept"] = told["kept"]
    return figures


def _settings(place: Path, quick: bool) -> dict[str, dict[str, Any]]:
    """The settings that all methods share; writes the model, the problems and the worked answers."""
    from learner.models.tiny import write_tiny_model

    write_tiny_model(place / "model", alphabet=ALPHABET, seed=0)
    write_addition(place / "solved", digits=1, prompts=1, worked=4000, seed=1)
    write_addition(place / "undecided", digits=2, prompts=1, worked=16000, seed=2, slips=0.3)
    write_addition(place / "mixed", digits=3, prompts=128, worked=1, seed=3)
    worked = [(place / part / "worked.jsonl").read_text(encoding="utf-8") for part in ("solved", "undecided")]
    (place / "worked.jsonl").write_text("".join(worked), encoding="utf-8")
    return {
        "run": {"folder": str(place / "runs"), "steps": 3 if quick else 12, "tokens": 10**9},
        "model": {"path": str(place / "model"), "dtype": "float32"},
        "data": {"path": str(place / "mixed" / "prompts.jsonl")},
        "warmup": {"path": str(place / "worked.jsonl"), "updates": 280, "lr": 3e-3},
        "rollout": {"groups_per_step": 8 if quick else 32, "group_size": 8, "max_new_tokens": 32},
        "eval": {
            "every": 100,
            "path": str(place / "mixed" / "heldout.jsonl"),
            "prompts": 64 if quick else 256,
            "samples": 2,
        },
        "filter": {"drop": "both"},
        "learner": {
            "algorithm": "grpo",
            "updates_per_step": 2,
            "lr": 3e-4,
            "lr_warmup": 4,
            "micro_batch_tokens": 2048,
        },
        "cluster": {"device": "cpu"},
    }


def _config(tree: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    sections = {*tree, *changes}
    return config_of({section: {**tree.get(section, {}), **changes.get(section, {})} for section in sections})


def _read(folder: Path) -> Run:
    """What one run spent and reached."""
    steps, evals = _lines(folder / "metrics.jsonl"), _lines(folder / "evals.jsonl")
    sampled, trained = (sum(step[f"tokens_{what}"] for step in steps) for what in ("generated", "trained"))
    last = steps[-1]
    graded = last["groups_kept"] + last["groups_all_correct"] + last["groups_all_wrong"]
    return {
        "spent": sampled / last["groups_kept"],
        "trained": trained / sampled,
        "kept": last["groups_kept"] / graded,
        "start": evals[0]["accuracy"],
        "end": evals[-1]["accuracy"],
    }


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description="what the filter and the choice of prompts save")
    parser.add_argument("--run", type=int, default=0, help="the seed")
    parser.add_argument("--quick", action="store_true", help="small steps: only whether it works")
    options = parser.parse_args()
    for name, value in measure(options.run, options.quick).items():
        print(f"{name:48} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
