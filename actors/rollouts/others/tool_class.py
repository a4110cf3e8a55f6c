"""A class whose methods are tools, as TRL's trainers take it for their `environment_factory`."""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from actors.rollouts.lines import place_of
from actors.rollouts.others.instance import Instance, Make
from actors.rollouts.others.steps import SEEDS, begun, number

if TYPE_CHECKING:
    from actors.rollouts.episode import Task
    from actors.rollouts.talk import Play, Score, Talk

NO_TOOLS = ("reset", "get_reward", "close")


def from_class(
    make: Make,
    *,
    opening: str = "{question}{observation}",
    rounds: int = sys.maxsize,
    form: str = "auto",
    seconds: float = 30.0,
    max_characters: int = 4000,
) -> "Play":
    """An environment of winnow's from a class with `reset(**row) -> str | None` and `get_reward() -> float`, whose
    other public methods are tools. Their docstrings say what they do, and under "Args:" what they take.

    `reset` is given `prompt`, and `answer` or the columns of `data.answer_column`: all of them or those that it names,
    and `seed` where it names that. Without `get_reward` the run's reward grades the episode.

    Args:
        make: the class, or what gives an object of it; it is told the task where it takes one.
        opening: what the policy is told where `reset` returns a text; else it is shown the row.
        rounds: most times that tools are run; `rollout.max_turns` bounds turns.
        form: how calls are written, as `talk.tools` takes it.
        seconds: most that a call may take.
        max_characters: most characters of a result that the policy reads.
    """

    async def play(task: "Task", talk: "Talk") -> "Score":
        async with Instance(make, task) as environment:
            reset, tools = environment.method("reset"), _tools(environment)
            if tools:
                talk.tools(tools, form=form, seconds=seconds, max_characters=max_characters)
            told = await environment.run(reset, **_given(reset, row_of(task)))
            if told is not None and not isinstance(told, str):
                raise TypeError(f"{place_of(reset)} gave {told!r:.200}: expected a text or None")
            await talk.use(task if told is None else begun(opening, task.question, told), rounds)
            if not environment.has("get_reward"):
                return await talk.grade()
            reward = await environment.call("get_reward")
            if isinstance(reward, bool):
                return reward
            return number(reward, place_of(environment.method("get_reward")))

    return play


def row_of(task: "Task") -> Mapping[str, Any]:
    """What the row of a task says, by column, with the seed that all siblings have."""
    row: dict[str, Any] = {"prompt": task.question, "answer": task.reference, "seed": task.seed % SEEDS}
    try:
        columns = json.loads(task.reference)
    except ValueError:
        columns = None
    return {**row, **columns} if isinstance(columns, dict) else row


def _given(reset: Callable[..., Any], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a row `reset` is given.

    Raises:
        TypeError: it needs something else.
    """
    signature = inspect.signature(reset)
    named = {name: row[name] for name in signature.parameters if name in row}
    if any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values()):
        named = {**{name: value for name, value in row.items() if name != "seed"}, **named}
    try:
        signature.bind(**named)
    except TypeError as failure:
        raise TypeError(f"{place_of(reset)}: {failure}; the row has {', '.join(row)}") from None
    return named


def _tools(environment: Instance) -> list[Callable[..., Any]]:
    """Its public methods, run in its thread."""
    names = [name for name, _ in inspect.getmembers(environment.kind, inspect.isfunction)]
    return [_tool(environment, name) for name in names if not name.startswith("_") and name not in NO_TOOLS]


def _tool(environment: Instance, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(environment.method(name))
    async def tool(**given: Any) -> Any:
        return await environment.call(name, **given)

    return tool
