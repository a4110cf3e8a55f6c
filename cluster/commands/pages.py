"""How the help of a command is laid out, and what a shell is told when somebody presses Tab. Imports nothing heavy
before a shell asks."""

import argparse
import os
import shutil
import textwrap
from collections.abc import Iterable

WIDTH = 80  # letters of a line at most
COMMAND = 14  # letters for the name of a command
SHELLS = ("bash", "zsh", "fish")
_ASKED = "_ARGCOMPLETE"  # the variable by which a shell asks


class Page(argparse.RawDescriptionHelpFormatter):
    """Help at 80 columns at most: description and example as they are written, a line for each command, and no value
    twice where an option has a short name."""

    def __init__(self, prog: str) -> None:
        width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        super().__init__(prog, max_help_position=24, width=width)

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        return "".join(f"  {command.dest:<{COMMAND}}{command.help}\n" for command in action._choices_actions)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def paragraph(text: str) -> str:
    """A description, broken into lines."""
    return textwrap.fill(text, WIDTH - 2, break_on_hyphens=False)


def example_of(commands: str) -> str:
    """The end of a help page: command lines, one or several; "" without any."""
    if not commands:
        return ""
    lines = commands.splitlines()
    return f"example{'s' * (len(lines) > 1)}:\n" + "\n".join(f"  {line}" for line in lines)


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks what may come next, and ends the process then; else does nothing."""
    if _ASKED not in os.environ:
        return
    import argcomplete

    for command in _below(parser):
        for action in command._actions:
            if action.dest == "items" or "CONFIG.toml" in str(action.metavar):
                action.completer = _settings_or_files  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def shell_code(shell: str) -> str:
    """What makes a shell complete the words of `winnow`."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode(["winnow"], shell=shell))


def _below(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _settings_or_files(prefix: str, **asked: object) -> Iterable[str]:
    """Settings that begin so, with `=` behind, and behind that the words that they may be; else run files."""
    from argcomplete.completers import FilesCompleter

    from cluster.config.described import described

    name, equals, _ = prefix.partition("=")
    if equals:
        return [f"{name}={value}" for row in described() if row.name == name for value in row.choices]
    found = [f"{row.name}=" for row in described() if row.name.startswith(prefix)]
    files = FilesCompleter(allowednames=("toml", "jsonl", "json", "parquet", "csv"))
    return [*found, *files(prefix)] if "." in prefix and found else [*files(prefix), *_sections(prefix)]


def _sections(prefix: str) -> list[str]:
    """The sections that begin so, with a dot behind."""
    from cluster.config.described import described

    return list(dict.fromkeys(f"{row.section}." for row in described() if row.section.startswith(prefix)))
