"""What an environment has at hand: the seat of the policy, other seats, and attempts at tasks that it has made."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from actors.rollouts import question
from actors.rollouts.episode import PLAYED, Episode, Task
from actors.rollouts.lines import failure_in
from actors.rollouts.seat import Seat
from actors.rollouts.seeds import turn_seed
from actors.rollouts.stream import Whose
from actors.types import LeftRow
from rewards import Verdict

Score = Verdict | float | bool
LEFT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # of a file that rows are left in
Play = Callable[[Task, "Talk"], Awaitable[Score | Mapping[str, Score]]]  # an environment


class Talk(Seat):
    """An episode as its environment has it: the seat of the policy, and whatever other seats it takes."""

    def __init__(self, episode: Episode) -> None:
        super().__init__(episode, episode.whose)

    def seat(self, name: str, system: str | None = None, *, trained: bool = True) -> Seat:
        """Another conversation of the policy's in the same episode; call it as `talk` itself.

        Args:
            name: it is compared with the seats of this name in the group's other episodes; in an attempt at a made
                task with those in the other attempts.
            system: its system message; None for that of the data.
            trained: whether its turns are trained on; else they are only sampled, such as an opponent's.
        """
        self._refuse_misuse()
        if name in self._episode.seats or not name:
            raise self._misuse(f"takes a seat {name!r}, which must be a name that no seat of the episode has")
        whose = replace(self._whose, seat=name, siblings=name + self._whose.siblings.removeprefix(self._whose.seat))
        return Seat(self._episode, whose, system, trained=trained)

    def leave(self, name: str, row: Mapping[str, Any]) -> None:
        """Leaves a row of data for later training, such as the labels of steps, worked answers or pairs. Rows of
        episodes that do not fail come into `left/NAME.jsonl` in the folder of the run or the evaluation, each once.

        Args:
            name: of the file, such as "steps".
            row: column -> value, whatever JSON holds; arrays and numbers of numpy too.
        """
        self._refuse_misuse()
        if not isinstance(name, str) or not LEFT_NAME.fullmatch(name):
            raise self._misuse(
                f"leaves a row in {name!r:.80}: give the name of a file, up to 64 letters, digits, - and _"
            )
        if not isinstance(row, Mapping):
            raise self._misuse(f"leaves the row {row!r:.80}: give a dictionary of its columns")
        try:
            written = json.dumps(dict(row), ensure_ascii=False, allow_nan=False, default=_plain)
        except (TypeError, ValueError, RecursionError) as problem:
            raise self._misuse(f"leaves the row {row!r:.80} in {name!r}, which JSON cannot hold: {problem}") from None
        whole = written.encode("utf-8", "backslashreplace").decode()  # half a character as JSON's escape of it
        self._episode.left += (LeftRow(name, whole),)

    async def solve(self, task: Task, count: int, seat: str = "solver", play: Play = question.play) -> list[Verdict]:
        """The verdicts of attempts at a task that the episode has made (`Task.made`), which are siblings of each other.

        Args:
            task: what they are about.
            count: how many.
            seat: whose turns they are.
            play: the environment of an attempt; else one question, graded by the run's reward.
        """
        self._refuse_misuse()
        parent, first = self._episode, len(self._episode.attempts)
        above = f"{parent.seed}/" if "/" in parent.whose.siblings else ""  # where the parent is an attempt itself
        siblings = f"{seat}/{parent.whose.episode}/{above}{first}"
        whose = Whose(episode=parent.whose.episode, seat=seat, siblings=siblings)
        attempts = tuple(
            Episode(parent.means, task, whose, turn_seed(parent.seed, -1 - first - number), parent.grade, parent.home)
            for number in range(count)
        )
        parent.attempts += attempts
        await asyncio.gather(*(_attempt(attempt, play) for attempt in attempts))
        return [attempt.verdicts[0] for attempt in attempts]


async def _attempt(episode: Episode, play: Play) -> None:
    PLAYED.set(episode)
    try:
        found = await play(episode.task, Talk(episode))
    except Exception as failure:  # a person's function raises what it likes
        episode.fail(failure_in(failure, episode.means.file))
        episode.close()
    else:
        episode.close(found)
    if episode.broken is not None:
        raise episode.broken


def _plain(value: Any) -> Any:
    """What numpy holds, as JSON does."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is none of its types")
