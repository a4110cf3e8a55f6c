"""Help that reads like a page, and what shells complete."""

import argparse
import os
import subprocess
import sys

import pytest

from cluster import cli
from cluster.commands.pages import SHELLS, WIDTH, shell_code

PARSER = cli._parser()
(COMMANDS,) = (action.choices for action in PARSER._actions if isinstance(action, argparse._SubParsersAction))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_80_columns_and_ends_with_an_example_that_can_be_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = COMMANDS[name].format_help()
    assert [line for line in page.splitlines() if len(line) > WIDTH] == []
    _, _, examples = page.partition("\nexample")
    assert f"winnow {name}" in examples
    for line in examples.splitlines()[1:]:
        command = line.strip()
        if command.startswith("winnow "):
            PARSER.parse_known_args(command.split()[1 : command.split().index("|") if "|" in command else None])


def test_the_list_of_commands_has_a_line_for_each() -> None:
    lines = PARSER.format_help().splitlines()
    assert [name for name in COMMANDS if not any(line.startswith(f"  {name} ") for line in lines)] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    assert "winnow" in shell_code(shell)
    assert "_ARGCOMPLETE" in shell_code(shell)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("winnow comp", {"compare", "completion"}),
        ("winnow train my.toml rollout.group", {"rollout.group_size=", "rollout.groups_per_step="}),
        ("winnow train my.toml learner.algorithm=grp", {"learner.algorithm=grpo"}),
        ("winnow train my.toml learner.zero_stage=", {f"learner.zero_stage={stage}" for stage in range(4)}),
        ("winnow train my.toml --pl", {"--plan"}),
    ],
)
@pytest.mark.slow
def test_words_settings_and_their_values_are_completed(line: str, wanted: set[str], tmp_path: object) -> None:
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    code = "import os, sys\nos.dup2(1, 8)\nfrom cluster.cli import main\nmain([])"
    environment = {**os.environ, **asked, "_ARGCOMPLETE_COMP_WORDBREAKS": ""}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert {word.strip() for word in said.stdout.split("\n")} == wanted, said.stderr
