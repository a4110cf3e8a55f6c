"""What rounds, subsets and choices of prompts save, on additions from easy to out of reach.

Real runs through `compare`: the same warmed-up model, and as many sampled tokens for each, evaluated on held-out
problems that nobody chose.

    uniform      rejected groups are replaced, prompts come as the data has them
    halves       half of a group first (SPEED-RL)
    rounds       up to four rounds of half a group, until it is mixed (Reinforce-Ada)
    balanced     up to four rounds, until there are four of both (Reinforce-Ada-balance)
    subset       sixteen responses, of which the eight that vary most are trained on (PODS)
    skipped      prompts likely to be alike are passed over by chance, those just graded rest (GRESO, Prompt Replay)
    chosen       prompts likely to be mixed, half of a group first
    predicted    the same, with a model for prompts never seen (GPS, BOTS)

    fresh, fresh-chosen, fresh-predicted    uniform, chosen and predicted on so many prompts that none comes back

The worked answers of the warm-up hold one-digit problems without slips and two-digit problems with them; the prompts
have up to three digits, uniformly. So one-digit problems are the easiest, two-digit ones undecided, and three-digit
ones, half of all, out of reach.

    .venv/bin/python -m tests.bench.saving [--run N] [--quick] [METHOD ...]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actors.data.world import ALPHABET, write_addition
from cluster.comparing.compare import compare
from cluster.comparing.comparison import method_folder
from cluster.comparing.plan import ComparisonPlan, plan_comparison
from cluster.config.reading import config_of

TOKENS = 180_000  # sampled by each run
FEW, MANY = "few", "many"  # folders of prompts
PROMPTS = {FEW: 128, MANY: 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to spend the tokens."""

    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the settings that all share
    prompts: str = FEW  # folder of them
    against: str = "uniform"  # what it is measured against


HALVES, CHOSEN = {"size": 4}, {"choose": "likely-mixed"}
PREDICTED = {"choose": "predicted-mixed"}
METHODS = {
    "uniform": Method(),
    "halves": Method(changes={"rollout": {"rounds": HALVES}}),
    "rounds": Method(changes={"rollout": {"rounds": {"size": 4, "most": 4}}}),
    "balanced": Method(changes={"rollout": {"rounds": {"size": 4, "most": 4, "enough": 4}}}),
    "subset": Method(changes={"rollout": {"group_size": 16}, "filter": {"most_siblings": 8}}),
    "skipped": Method(changes={"rollout": {"choose": "skip-alike", "cooldown": 1}}),
    "chosen": Method(changes={"rollout": {**CHOSEN, "rounds": HALVES}}),
    "predicted": Method(changes={"rollout": {**PREDICTED, "rounds": HALVES}}),
    "fresh": Method(prompts=MANY, against="fresh"),
    "fresh-chosen": Method(changes={"rollout": {**CHOSEN, "rounds": HALVES}}, prompts=MANY, against="fresh"),
    "fresh-predicted": Method(changes={"rollout": {**PREDICTED, "rounds": HALVES}}, prompts=MANY, against="fresh"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one run spent and reached."""

    tokens: int  # sampled
    trained: int  # of these, by the learner
    kept: int  # groups
    graded: int  # groups that were kept or rejected
    start: float  # held-out accuracy
    end: float


def measure(run: int = 0, quick: bool = False, names: Sequence[str] = ()) -> dict[str, float]:
    """Runs methods with one seed.

    Args:
        run: runs recorded before this one, which is the seed.
        quick: a few small steps, which show that it works and no more.
        names: of the methods, beside those that they are measured against; none is all.

    Returns:
        as `figures_of`.

    Raises:
        RuntimeError: a run failed; its reason has been printed.
    """
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place))
        plan = replace(plan_of(Path(place), quick, names or tuple(METHODS)), seeds=(run,))
        folder, failed = compare(plan)
        if failed:
            raise RuntimeError(f"{failed} of {len(plan.methods)} runs failed")
        return figures_of({name: _read(folder / method_folder(name) / f"seed={run}") for name in plan.methods})


def plan_of(place: Path, quick: bool, names: Sequence[str]) -> ComparisonPlan:
    """The comparison of some methods and of those that they are measured against, with files in a folder."""
    wanted = {*names, *(METHODS[name].against for name in names)}
    configs = {}
    for name in METHODS:
        if name in wanted:
            tree, method = _settings(place, quick), METHODS[name]
            tree["data"]["path"] = str(place / method.prompts / "prompts.jsonl")
            configs[name] = config_of({key: {**tree.get(key, {}), **method.changes.get(key, {})} for key in tree})
    return plan_comparison("saving", "What rounds, subsets and choices of prompts save", configs, 1)


def figures_of(found: Mapping[str, Spent]) -> dict[str, float]:
    """Of each method: tokens per kept group over those of what it is measured against, and its accuracy less that
    one's, each after as many tokens; then what they are made of."""
    figures = {}
    for name, spent in found.items():
        base = METHODS[name].against
        if name != base:
            other = found[base]
            ratio = (spent.tokens / spent.kept) / (other.tokens / other.kept)
            figures[f"tokens per kept group, {name} / {base}"] = ratio
            figures[f"accuracy at equal tokens, {name} - {base}"] = spent.end - other.end
    for name, spent in found.items():
        figures[f"{name}: accuracy at the start"] = spent.start
        figures[f"{name}: accuracy at the end"] = spent.end
        figures[f"{name}: tokens"] = float(spent.tokens)
        figures[f"{name}: tokens per kept group"] = spent.tokens / spent.kept
        figures[f"{name}: learner tokens per sampled token"] = spent.trained / spent.tokens
        figures[f"{name}: share of groups kept"] = spent.kept / spent.graded
    return figures


def write_files(place: Path) -> None:
    """Writes the model, the problems and the worked answers that `plan_of` names."""
    from learner.models.tiny import write_tiny_model

    write_tiny_model(place / "model", alphabet=ALPHABET, seed=0)
    write_addition(place / "solved", digits=1, prompts=1, worked=4000, seed=1)
    write_addition(place / "undecided", digits=2, prompts=1, worked=16000, seed=2, slips=0.3)
    for name, count in PROMPTS.items():
        write_addition(place / name, digits=3, prompts=count, worked=1, seed=3)
    worked = [(place / part / "worked.jsonl").read_text(encoding="utf-8") for part in ("solved", "undecided")]
    (place / "worked.jsonl").write_text("".join(worked), encoding="utf-8")


def _settings(place: Path, quick: bool) -> dict[str, dict[str, Any]]:
    """The settings that all methods share."""
    return {
        "run": {"folder": str(place / "runs"), "steps": 3 if quick else 1000, "tokens": TOKENS},
        "model": {"path": str(place / "model"), "dtype": "float32"},
        "data": {},
        "warmup": {"path": str(place / "worked.jsonl"), "updates": 280, "lr": 3e-3},
        "rollout": {"groups_per_step": 8 if quick else 32, "group_size": 8, "max_new_tokens": 32},
        "eval": {
            "every": 1000,
            "path": str(place / FEW / "heldout.jsonl"),
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


def _read(folder: Path) -> Spent:
    """What one run spent and reached."""
    steps, evals = _lines(folder / "metrics.jsonl"), _lines(folder / "evals.jsonl")
    sampled, trained = (sum(step[f"tokens_{what}"] for step in steps) for what in ("generated", "trained"))
    last = steps[-1]
    return Spent(
        tokens=sampled,
        trained=trained,
        kept=last["groups_kept"],
        graded=last["groups_kept"] + last["groups_all_correct"] + last["groups_all_wrong"],
        start=evals[0]["accuracy"],
        end=evals[-1]["accuracy"],
    )


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description="what rounds, subsets and choices of prompts save")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(METHODS)}; none is all")
    parser.add_argument("--run", type=int, default=0, help="the seed")
    parser.add_argument("--quick", action="store_true", help="small steps: only whether it works")
    options = parser.parse_args()
    if unknown := [name for name in options.methods if name not in METHODS]:
        parser.error(f"there is no method {', '.join(unknown)}: take some of {', '.join(METHODS)}")
    for name, value in measure(options.run, options.quick, options.methods).items():
        print(f"{name:56} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
