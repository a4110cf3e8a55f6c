"""The commands of the first hour: `init`, `settings`, `completion`. Imports nothing heavy before it must."""

import argparse
from collections.abc import Callable
from pathlib import Path

from cluster.commands.pages import SHELLS, shell_code
from cluster.reporting.terminal import say


def add_first_commands(add: Callable[..., argparse.ArgumentParser], setting: str) -> None:
    """Adds the commands.

    Args:
        add: makes the parser of a command from its name and what it runs.
        setting: how a setting on the command line looks.
    """
    init = add(
        "init",
        _init,
        kept="nothing was written",
        help="write a run file for a model and data",
        description="Looks at a model folder and a data file and writes a run file for them: columns, a reward that "
        "was tried on the references, lengths by the model's tokenizer, sizes that fit the machine; each setting with "
        "its reason. Starts nothing. Settings that are given are taken as they are.",
        example="winnow init /models/my-model /data/train.jsonl -o my.toml\n"
        "winnow init MODEL data.csv data.prompt_column=q data.answer_column=a --on 8x80",
    )
    init.add_argument("model", metavar="MODEL", help="a Hugging Face folder, or its address")
    init.add_argument("data", metavar="DATA", help="a data file, a folder, a pattern with *, or its address")
    init.add_argument("items", nargs="*", metavar=setting, help="settings that are not to be guessed")
    init.add_argument("-o", "--out", type=Path, metavar="FILE.toml", help="the run file (named by the data)")
    init.add_argument("--on", default="", metavar="NODESxGPUSxGIB", help="for a cluster like this, such as 8x80")
    init.add_argument("--force", action="store_true", help="write over a file that is there")
    settings = add(
        "settings",
        _settings,
        kept="nothing was changed",
        help="print settings with default and meaning",
        description="Prints every setting of a run file, those of a section, or one: its default, what it may be, and "
        "what it does.",
        example="winnow settings rollout\nwinnow settings learner.zero_stage",
    )
    settings.add_argument("names", nargs="*", metavar="section[.key]", help="only these")
    completion = add(
        "completion",
        _completion,
        kept="nothing was changed",
        help="print what makes a shell complete commands",
        description="Prints a script for a shell, after which Tab completes commands, options, and the names and "
        "values of settings.",
        example='bash, zsh  eval "$(winnow completion bash)"     in ~/.bashrc or ~/.zshrc\n'
        "fish       winnow completion fish | source      in ~/.config/fish/config.fish",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")


def _init(options: argparse.Namespace) -> int:
    from cluster.commands.drafting.draft import Wanted, file_for, write_draft

    write_draft(
        Wanted(
            model=options.model,
            data=options.data,
            items=tuple(options.items),
            on=options.on,
            file=options.out or file_for(options.data),
        ),
        force=options.force,
        say=say,
    )
    return 0


def _settings(options: argparse.Namespace) -> int:
    from cluster.commands.settings import settings_page

    say(settings_page(options.names))
    return 0


def _completion(options: argparse.Namespace) -> int:
    say(shell_code(options.shell))
    return 0
