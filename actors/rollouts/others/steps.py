"""Environments with `reset` and `step`: Gymnasium's, Gym's before it, OpenEnv's clients, and whatever is shaped so."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actors.rollouts.lines import place_of
from actors.rollouts.others.instance import Instance, Make, accepts

if TYPE_CHECKING:
    from actors.rollouts.episode import Task
    from actors.rollouts.stream import Turn
    from actors.rollouts.talk import Play, Talk

NAMES = ("observation", "observations", "reward", "done", "terminated", "truncated")
SEEDS = 2**31  # what all libraries take
EXPECTED = (
    "(observation, reward, terminated, truncated, info), (observation, reward, done, info), or an object with "
    "observation, reward and done"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an environment says after an action."""

    observation: Any
    reward: Any  # a number, once it has been looked at
    done: bool


def from_steps(
    make: Make,
    *,
    act: Callable[[str], Any] | None = None,
    show: Callable[[Any], str] | None = None,
    opening: str = "{question}\n\n{observation}",
    score: Literal["sum", "last"] = "sum",
    turn_rewards: bool = False,
) -> "Play":
    """An environment of winnow's from one with `reset(seed=...)` and `step(action)`, whose methods may be coroutines.

    Args:
        make: gives an environment for each episode, such as a class; it is told the task where it takes one.
        act: makes an action of what the policy says; else it is the text, without what stands before `</think>`. The
            message of a ValueError that it raises is told to the policy, which may try again.
        show: makes a text of an observation; else a text is itself, and what is none its JSON.
        opening: what the policy is told first.
        score: whether the episode is worth all rewards together or the last one.
        turn_rewards: whether each reward is also one of its turn (`talk.reward`).

    Raises:
        ValueError: an argument is none of these.
    """
    if score not in ("sum", "last"):
        raise ValueError(f'score must be "sum" or "last", got {score!r}')
    act, show = act or spoken, show or shown

    async def play(task: "Task", talk: "Talk") -> float:
        rewards = [0.0]
        async with Instance(make, task) as environment:
            reset = environment.method("reset")
            seed = {"seed": task.seed % SEEDS} if accepts(reset, "seed") else {}
            seen = await environment.run(show, first(await environment.run(reset, **seed), place_of(reset)))
            said = begun(opening, task.question, text_of(seen, show))
            while not full(turn := await talk(said)):
                try:
                    action = await environment.run(act, turn.text)
                except ValueError as failure:
                    said = f"Not understood: {failure}"
                    continue
                step = step_of(await environment.call("step", action), place_of(environment.method("step")))
                rewards.append(step.reward)
                if turn_rewards:
                    talk.reward(step.reward)
                if step.done:
                    break
                said = text_of(await environment.run(show, step.observation), show)
        return sum(rewards) if score == "sum" else rewards[-1]

    return play


def full(turn: "Turn") -> bool:
    """Whether there was no room for the turn: the episode can only end."""
    return not turn.tokens and turn.finish == "length"


def spoken(text: str) -> str:
    """What is said behind the thoughts."""
    return text.rpartition("</think>")[2].strip()


def shown(observation: Any) -> str:
    """An observation as text."""
    if isinstance(observation, str):
        return observation
    if hasattr(observation, "model_dump_json"):  # of pydantic
        return str(observation.model_dump_json())
    if isinstance(observation, Mapping | list | tuple):
        return json.dumps(observation, ensure_ascii=False, default=str)
    return str(observation)


def text_of(text: Any, show: Callable[..., Any]) -> str:
    """What `show` gave, which must be text.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(text, str):
        raise TypeError(f"{place_of(show)} gave {text!r:.200}: expected a text for the policy")
    return text


def begun(opening: str, question: str, observation: str) -> str:
    """The first text, with what there is of question and observation in their places."""
    texts = {"question": question, "observation": observation}
    return re.sub(r"\{(question|observation)\}", lambda place: texts[place[1]], opening).strip()


def first(given: Any, who: str) -> Any:
    """The first observation, of what `reset` gave.

    Args:
        given: an observation alone, with a dictionary behind it, or in an object.
        who: gave it.

    Raises:
        TypeError: it is over already.
    """
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        return given[0]
    if (fields := _fields(given)) is None:
        return given
    if fields.done:
        raise TypeError(f"{who} gave an environment that is over before the first action: {given!r:.200}")
    return fields.observation


def step_of(given: Any, who: str) -> Step:
    """What `step` gave.

    Raises:
        TypeError: it is nothing of that kind, or the reward is no number.
    """
    fields = _fields(given)
    if isinstance(given, tuple) and len(given) in (4, 5):
        fields = Step(observation=given[0], reward=given[1], done=any(map(bool, given[2 : len(given) - 1])))
    if fields is None:
        raise TypeError(f"{who} gave {given!r:.200}: expected {EXPECTED}")
    reward = 0.0 if fields.reward is None else number(fields.reward, who)
    return Step(observation=fields.observation, reward=reward, done=fields.done)


def number(reward: Any, who: str) -> float:
    """A reward, which must be a finite number.

    Raises:
        TypeError: it is none.
    """
    try:
        found = float(reward)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise TypeError(f"{who} gave the reward {reward!r:.200}: expected a finite number")
    return found


def _fields(given: Any) -> Step | None:
    """What an object or a dictionary says that has an observation and says whether it is the last."""
    row = (
        given if isinstance(given, Mapping) else {name: getattr(given, name) for name in NAMES if hasattr(given, name)}
    )
    seen = [row[name] for name in ("observation", "observations") if name in row]
    ends = [bool(row[name]) for name in ("done", "terminated", "truncated") if name in row]
    return Step(observation=seen[0], reward=row.get("reward"), done=any(ends)) if seen and ends else None
