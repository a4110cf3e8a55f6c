"""Games of several seats, with the interface of textarena: the policy against itself, or against a function."""

import random
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.rollouts.lines import place_of
from actors.rollouts.others.instance import Instance, Make
from actors.rollouts.others.steps import SEEDS, full, number, spoken, text_of

if TYPE_CHECKING:
    from actors.rollouts.episode import Task
    from actors.rollouts.seat import Seat
    from actors.rollouts.talk import Play, Talk

Opponent = Callable[[str, random.Random], str]  # (all that it was shown, what it draws with) -> action
YOUR_TURN = "It is your turn."  # where a game shows nothing new


def from_game(
    make: Make,
    *,
    seats: int = 2,
    opponent: Opponent | None = None,
    act: Callable[[str], str] = spoken,
    unfinished: float = -1.0,
) -> "Play":
    """An environment of winnow's from a game with `reset(num_players=..., seed=...)`, `get_observation() -> (number,
    observation)`, `step(action) -> (done, info)` and `close() -> (rewards, info)`.

    Each seat is a seat of the episode, "seat 0" and so on, with a score of its own. With an opponent the policy has one
    of them, which changes from row to row, and its score is that of the episode.

    Args:
        make: gives a game for each episode; it is told the task where it takes one.
        seats: how many the game has.
        opponent: plays all other seats. It is given the text of what it sees, and what it draws with, which begins the
            same for all siblings.
        act: makes an action of what the policy says; else that is the text, without what stands before `</think>`.
        unfinished: score of a seat that has no room for a turn; the others get 0 then.
    """

    async def play(task: "Task", talk: "Talk") -> dict[str, float]:
        draw = random.Random(task.seed)
        ours = {task.seed % seats: talk} if opponent else _all_seats(talk, seats)
        seen = dict.fromkeys(range(seats), "")
        drawing = _Drawing(task.seed % SEEDS)
        async with Instance(drawing.within(make), task) as game:
            await game.run(drawing, game.method("reset"), num_players=seats, seed=task.seed % SEEDS)
            done = False
            while not done:
                given = await game.run(drawing, game.method("get_observation"))
                seat, observation = _observed(given, seats, place_of(game.method("get_observation")))
                new = _news(observation, seat, seen[seat], place_of(game.method("get_observation")))
                seen[seat] += new
                if seat in ours:
                    if full(turn := await ours[seat](new.strip() or YOUR_TURN)):
                        return _scores(ours, {seat: unfinished})
                    action = await game.run(act, turn.text)
                else:
                    assert opponent is not None
                    action = text_of(await game.run(opponent, seen[seat], draw), opponent)
                done = _ended(await game.run(drawing, game.method("step"), action), place_of(game.method("step")))
            return _scores(ours, _rewards(await game.close(), seats, place_of(game.method("close"))))

    return play


class _Drawing:
    """Runs functions that draw from the common random numbers of Python and NumPy, as most games do. What they draw
    depends on a seed alone, and what draws before and after them is given what it would have been given anyway. What
    draws in another thread meanwhile has part in their numbers: libraries know of no others."""

    _lock = threading.Lock()

    def __init__(self, seed: int) -> None:
        self._states: Any = (random.Random(seed).getstate(), np.random.RandomState(seed).get_state())

    def __call__(self, function: Callable[..., Any], *given: object, **named: object) -> Any:
        """What the function gives back."""
        with self._lock:
            before = random.getstate(), np.random.get_state()
            self._set(*self._states)
            try:
                return function(*given, **named)
            finally:
                self._states = random.getstate(), np.random.get_state()
                self._set(*before)

    def within(self, make: Make) -> Make:
        """The same function, which draws as the others do."""

        @wraps(make, updated=())  # with its signature: it may take a task
        def made(*task: object) -> Any:
            return self(make, *task)

        return made

    @staticmethod
    def _set(python: Any, numpy: Any) -> None:
        random.setstate(python)
        np.random.set_state(numpy)


def _all_seats(talk: "Talk", seats: int) -> dict[int, "Seat"]:
    """The seats of the policy against itself."""
    return {seat: talk.seat(f"seat {seat}") for seat in range(seats)} if seats > 1 else {0: talk}


def _scores(ours: Mapping[int, "Seat"], rewards: Mapping[int, float]) -> dict[str, float]:
    """The score of each of the policy's seats."""
    return {seat.name: rewards.get(place, 0.0) for place, seat in ours.items()}


def _observed(given: Any, seats: int, who: str) -> tuple[int, Any]:
    """Whose turn it is, and what they see.

    Raises:
        TypeError: it is nothing of that kind.
    """
    if not isinstance(given, tuple) or len(given) != 2 or given[0] not in range(seats):
        raise TypeError(f"{who} gave {given!r:.200}: expected (number of one of {seats} seats, observation)")
    return given[0], given[1]


def _news(observation: Any, seat: int, before: str, who: str) -> str:
    """What an observation says that the seat was not shown before, and has not said itself.

    Args:
        observation: messages (number of whose they are, text, ...), of which those below 0 are the game's; or a text,
            which may begin with all that was shown before.
        seat: who sees it.
        before: all that it was shown.
        who: gave it.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(observation, str):
        return observation.removeprefix(before)
    try:
        said = [(whose, text) for whose, text, *_ in observation or () if whose != seat]
        return "".join(f"{text}\n" if whose < 0 else f"Seat {whose}: {text}\n" for whose, text in said)
    except (TypeError, ValueError):
        raise TypeError(
            f"{who} gave {observation!r:.200}: expected a text, or messages (number of a seat, text)"
        ) from None


def _ended(given: Any, who: str) -> bool:
    """Whether a step was the last.

    Raises:
        TypeError: it does not say so.
    """
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(f"{who} gave {given!r:.200}: expected (done, info)")
    return bool(given[0])


def _rewards(given: Any, seats: int, who: str) -> dict[int, float]:
    """The reward of each seat.

    Raises:
        TypeError: one has none.
    """
    rewards = given[0] if isinstance(given, tuple) and given else given
    if not isinstance(rewards, Mapping) or not set(range(seats)) <= set(rewards):
        raise TypeError(f"{who} gave {given!r:.200}: expected a reward for each of {seats} seats, {{0: 1.0, ...}}")
    return {seat: number(rewards[seat], who) for seat in range(seats)}
