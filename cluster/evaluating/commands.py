"""The command `eval`: what it takes. Imports nothing heavy before it must."""

import argparse
from collections.abc import Callable
from pathlib import Path

from cluster.placement.token import demand_token


def add_eval_command(add: Callable[..., argparse.ArgumentParser], setting: str) -> None:
    """Adds the command.

    Args:
        add: makes the parser of a command from its name and what it runs.
        setting: how a setting on the command line looks.
    """
    command = add(
        "eval",
        _eval,
        kept="responses so far are kept",
        help="evaluate a model or a run",
        description="Has a model, or a checkpoint of a run, answer benchmarks with the run's own generators and "
        "verifiers: avg@k, pass@k, majority and best of k with intervals, and which prompts turned.",
        example="winnow eval MODEL test.jsonl --samples 16 reward.name=math\nwinnow eval runs/my --samples 4\n"
        "winnow eval --reward-model FOLDER pairs.jsonl",
    )
    command.add_argument(
        "what",
        metavar="MODEL|RUN",
        help="a model folder, a run folder (its newest checkpoint, by its settings) or one of its checkpoints, each "
        "also by its address; or the folder of an evaluation that goes on. With --reward-model: a file of rows with "
        "chosen and rejected responses, or the folder of an evaluation whose responses are ranked anew",
    )
    command.add_argument(
        "items",
        nargs="*",
        metavar=f"DATA|CONFIG.toml|{setting}",
        help="files of prompts and answers, each as NAME=PATH or PATH; run files, such as one with a table eval.path; "
        "settings. Without data: the held-out prompts of the run",
    )
    command.set_defaults(items_are_files=True)
    command.add_argument("--samples", type=int, metavar="K", help="responses to each prompt (eval.samples)")
    command.add_argument(
        "--checkpoint", default="", metavar="step-N|start", help="of a run: not its newest one; start: before training"
    )
    command.add_argument(
        "--against", type=Path, metavar="OTHER.json", help="another evaluation: which prompts turned, and by how much"
    )
    command.add_argument(
        "--reward-model",
        type=Path,
        metavar="FOLDER",
        help="evaluate this reward model instead: accuracy, mean reciprocal rank and pairs, or best of k",
    )
    command.add_argument("--out", type=Path, metavar="FILE.json", help="where the figures go, beside the folder's own")


def _eval(options: argparse.Namespace) -> int:
    from cluster.evaluating.words import Words, cluster_address

    if options.reward_model is not None:
        return _eval_reward_model(options)
    words = Words.of(options.items)
    demand_token(cluster_address(options.what, words))
    from cluster.evaluating.evaluate import Asked, evaluate

    evaluate(
        Asked(
            what=options.what,
            words=words,
            samples=options.samples,
            checkpoint=options.checkpoint,
            against=options.against,
            out=options.out,
        )
    )
    return 0


def _eval_reward_model(options: argparse.Namespace) -> int:
    from cluster.config.errors import ConfigError
    from cluster.evaluating.result import write_result
    from cluster.evaluating.reward_model import evaluate_reward_model
    from cluster.reporting.display import Display

    if options.samples is not None or options.checkpoint or options.against is not None:
        raise ConfigError(
            "--reward-model goes with --out and settings alone, not with --samples, --checkpoint, --against"
        )
    if others := [item for item in options.items if "=" not in item]:
        raise ConfigError(
            f"--reward-model takes one file and settings such as data.rows=:100, got {others[0]!r} besides"
        )
    with Display(0) as display:

        def advance(done: int, total: int) -> None:
            display.advance("responses scored", done, total)

        found = evaluate_reward_model(options.reward_model, Path(options.what), options.items, advance)
        display.say("\n".join(found.lines))
        if options.out is not None:
            write_result(found.as_json, options.out)
            display.say(f"done: {options.out}")
    return 0
