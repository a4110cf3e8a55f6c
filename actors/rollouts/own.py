"""An environment of a person's own file (`rollout.environment`): the package is not edited.

async def play(task, talk):                          # task.question, task.reference, task.seed: a row of the data
    turn = await talk(task)                          # the policy sees the prompt and answers
    if "=" in turn.text:
        turn = await talk("now without signs")       # goes on in the same conversation
    return await talk.grade(turn.text)               # the run's reward; or a score, or one for each seat
"""

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.person_file import load_file

if TYPE_CHECKING:
    from actors.rollouts.talk import Play


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a policy meets."""

    play: "Play"
    file: str  # as its code names it in tracebacks
    where: str  # file and line of play


def load_environment(file: str) -> Environment:
    """The environment of a file.

    Raises:
        ValueError: the file does not load, or holds none; the message says what is wrong with it.
    """
    play = getattr(load_file(file), "play", None)
    if not callable(play):
        raise ValueError(f"file must define a coroutine play(task, talk), and {file} defines none")
    line = _line_of(play, str(Path(file).absolute()))
    where = f"{Path(file).name}, line {line}" if line else file
    if not inspect.iscoroutinefunction(play):
        raise ValueError(f"file must define play as a coroutine, `async def play(task, talk)`: {where}")
    try:
        inspect.signature(play).bind(None, None)
    except TypeError as failure:
        raise ValueError(
            f"file must define play with two parameters, play(task, talk): {where} has play{inspect.signature(play)} "
            f"({failure})"
        ) from None
    return Environment(play=play, file=str(Path(file).absolute()), where=f"{where}, in play")


def _line_of(play: object, file: str) -> int:
    """Where the file defines it, or gives the name to what other code has made; 0 where that is not known."""
    code = getattr(play, "__code__", None)
    if code is not None and code.co_filename == file:
        return int(code.co_firstlineno)
    named = [
        node.lineno
        for node in ast.parse(Path(file).read_bytes()).body
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "play" for target in node.targets)
    ]
    return named[-1] if named else 0
