"""Games of several seats, of a class made here in textarena's shape."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from actors.types import Group
from rewards import Outcome
from tests.environments import Paper, streams

BEGIN = "import random\nimport numpy\nfrom actors.rollouts.others import from_game\n"
GAME = """
class Sticks:
    def reset(self, num_players, seed=None):
        self.left, self.turn, self.rewards, self.dice = 3, 0, None, ""
        self.new = {seat: [(-1, f"Three sticks, seat {seat}.", "PROMPT")] for seat in range(num_players)}
        random.seed(seed)

    def get_observation(self):
        new, self.new[self.turn] = self.new[self.turn], []
        return self.turn, new

    def step(self, action):
        self.left -= int(action.split()[0])
        self.dice += f"<{random.random()} {numpy.random.rand()}>"
        for seat in self.new:
            self.new[seat] += [(self.turn, action), (-1, f"{self.left} left.{self.dice}")]
        if self.left <= 0:
            self.rewards = {seat: 1 if seat == self.turn else -1 for seat in self.new}
        self.turn = (self.turn + 1) % len(self.new)
        return self.left <= 0, {}

    def close(self):
        with open(__file__ + ".closed", "a") as file:
            file.write("closed ")
        return self.rewards, {}
"""


def game(play: str = "from_game(Sticks)") -> str:
    """A file with a game that who takes the last stick wins."""
    return f"{BEGIN}{GAME}\nplay = {play}\n"


def by_seat(group: Group) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for trajectory, verdict in zip(group.trajectories, group.verdicts, strict=True):
        found.setdefault(trajectory.seat, []).append(verdict.score)
    return found


def read(engine: Paper) -> list[str]:
    """What the policy was shown, without what was drawn."""
    return [re.sub("<.*?>", "", engine.read(tokens)) for tokens in engine.shown]


async def test_the_policy_plays_against_itself_from_two_seats(tmp_path: Path) -> None:
    engine = Paper(["1", "<think>both</think>2"])
    group = await streams(tmp_path / "mine.py", game(), engine)
    assert by_seat(group) == {"seat 0": [-1.0], "seat 1": [1.0]}
    assert read(engine) == ["Three sticks, seat 0.", "Three sticks, seat 1.\nSeat 0: 1\n2 left."]
    assert (tmp_path / "mine.py.closed").read_text() == "closed "


async def test_a_game_of_one_is_the_policys_own(tmp_path: Path) -> None:
    group = await streams(tmp_path / "mine.py", game("from_game(Sticks, seats=1)"), Paper(["1", "2"]))
    assert by_seat(group) == {"policy": [1.0]}


async def test_an_opponent_plays_the_other_seats_the_same_for_all_siblings(tmp_path: Path) -> None:
    says = 'lambda seen, draw: f"1 {draw.random()} {seen}"'
    engine = Paper(lambda shown: "1")
    group = await streams(tmp_path / "mine.py", game(f"from_game(Sticks, opponent={says})"), engine, size=2)
    ((seat, scores),) = by_seat(group).items()
    assert seat == "policy"
    assert scores[0] == scores[1]
    first = [shown for shown in engine.shown if "Seat" not in engine.read(shown)]
    assert len(first) == 2 < len(engine.shown)  # of each sibling, in whatever order they are asked
    assert len(engine.shown) == 2 * len({engine.read(shown) for shown in engine.shown})  # with all that was drawn


async def test_what_a_game_draws_changes_nobody_elses_draws(tmp_path: Path) -> None:
    random.seed(5), np.random.seed(5)
    expected = [(random.random(), np.random.rand()) for _ in range(2)]
    random.seed(5), np.random.seed(5)
    found = [(random.random(), np.random.rand())]
    await streams(tmp_path / "mine.py", game(), Paper(["1", "2"]))
    assert [*found, (random.random(), np.random.rand())] == expected


async def test_what_a_game_draws_when_it_is_made_is_the_same_for_siblings(tmp_path: Path) -> None:
    made = "class Made(Sticks):\n    def __init__(self, task):\n        self.first = random.random()\n"
    reset = "    def reset(self, **given):\n        super().reset(**given)\n        self.dice = f'<{self.first}>'\n"
    engine = Paper(lambda shown: "1")
    before = random.getstate()
    await streams(tmp_path / "mine.py", f"{BEGIN}{GAME}{made}{reset}play = from_game(Made)\n", engine, size=2)
    firsts = {re.findall("<(.*?)>", text)[0] for text in map(engine.read, engine.shown) if "<" in text}
    assert len(firsts) == 1
    assert random.getstate() == before


async def test_a_game_that_shows_everything_again_is_shown_what_is_new(tmp_path: Path) -> None:
    everything = (
        "self.all = getattr(self, 'all', '') + ''.join(text for _, text, *_ in new)\n        return self.turn, self.all"
    )
    text = game("from_game(Sticks, seats=1)").replace("return self.turn, new", everything)
    engine = Paper(["1", "1", "1"])
    await streams(tmp_path / "mine.py", text, engine)
    assert read(engine)[2] == "Three sticks, seat 0.112 left.111 left."


async def test_a_seat_without_room_loses_and_the_others_do_not(tmp_path: Path) -> None:
    group = await streams(tmp_path / "mine.py", game(), Paper(["1", "1"]), rollout={"max_turns": 2})
    assert by_seat(group) == {"seat 0": [-1.0], "seat 1": [0.0]}


WRONG: dict[str, tuple[str, str, str]] = {  # what stands in the file, what in its place, and what people are told
    "no such action": ("int(action", "int('a' + action", r"mine\.py, line 16, in step: ValueError: invalid literal"),
    "an opponent that is silent": ("(Sticks)", "(Sticks, opponent=lambda seen, draw: 0)", r"gave 0: expected a text"),
    "no end": ("return self.left <= 0, {}", "return 5", r"Sticks\.step \(mine\.py, line 15\) gave 5: expected \(done"),
    "no messages": ("return self.turn, new", "return 0, 7", r"_observation \(mine\.py, line 11\) gave 7: expected a"),
    "no seat": ("return self.turn, new", "return 0", r"observation \(mine\.py, line 11\) gave 0: expected \(number"),
    "no rewards": ("return self.rewards, {}", "pass", r"close \(mine\.py, line 25\) gave None: expected a reward"),
    "no reward of a seat": ("return self.rewards, {}", "return {0: 1}", r"gave {0: 1}: expected a reward for each"),
    "no number": ("return self.rewards, {}", "return {0: 1, 1: 'a'}", r"gave the reward 'a': expected a finite"),
    "other seats": ("def reset(self, num_players", "def reset(self, num", r"TypeError: \S+ got an unexpected keyword"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_goes_wrong_in_a_game_fails_the_episode_with_its_line(name: str, tmp_path: Path) -> None:
    right, wrong, why = WRONG[name]
    group = await streams(tmp_path / "mine.py", game().replace(right, wrong), Paper(lambda shown: "1"))
    assert {verdict.outcome for verdict in group.verdicts} == {Outcome.ERROR}
    assert re.search(why, group.verdicts[0].why), group.verdicts[0].why
