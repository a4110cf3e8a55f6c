"""The command `reward-model`: what it takes. Imports nothing heavy before it must."""

import argparse
from collections.abc import Callable
from pathlib import Path

from cluster.placement.token import demand_token
from cluster.reporting.terminal import say


def add_reward_model_command(add: Callable[..., argparse.ArgumentParser], setting: str) -> None:
    """Adds the command.

    Args:
        add: makes the parser of a command from its name and what it runs.
        setting: how a setting on the command line looks.
    """
    command = add(
        "reward-model",
        _reward_model,
        kept="metrics and checkpoints so far are kept",
        help="train a reward model",
        description="Trains a reward model on rows with chosen and rejected responses (Bradley-Terry), or a process "
        "reward model on rows with labelled steps (cross-entropy). A run file has the sections run, model, data, "
        "learner, eval and cluster. The last checkpoint is a folder that reward.model.path or reward.process.path "
        "reads.",
        example="winnow reward-model my.toml run.steps=200\nwinnow reward-model --resume runs/my",
    )
    command.add_argument("config", nargs="?", default="", metavar="CONFIG.toml", help="the run file")
    command.add_argument("items", nargs="*", metavar=setting, help="settings that replace the file's")
    command.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="instead of a run file: the folder of a run, or one of its checkpoints, to go on from",
    )


def _reward_model(options: argparse.Namespace) -> int:
    from cluster.config.errors import ConfigError
    from cluster.config.reading import CONFIG, load_settings
    from cluster.reward_models.config import RewardModelConfig
    from cluster.reward_models.train import resume_reward_model, train_reward_model, where_to_look

    if options.resume is not None:
        items = [item for item in (options.config, *options.items) if item]
        if others := [item for item in items if "=" not in item]:
            raise ConfigError(f"--resume takes the settings of the run itself and changes to them, got {others[0]!r}")
        folder = resume_reward_model(options.resume, items)
        say(where_to_look(folder, load_settings(RewardModelConfig, folder / CONFIG)))
        return 0
    if not options.config:
        raise ConfigError("name a run file, or the run that is to go on with --resume")
    config = load_settings(RewardModelConfig, Path(options.config), options.items)
    demand_token(config.cluster.address)
    say(where_to_look(train_reward_model(config), config))
    return 0
