"""Environments with `reset` and `step`, of classes made here in the shapes of several projects."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from actors.rollouts.others import from_steps
from rewards import Outcome, RewardSettings
from tests.environments import Paper, streams

BEGIN = "from actors.rollouts.others import from_steps\n"
WALK = """
class Walk:
    def reset(self, seed=None):
        self.place = 0
        return {reset}

    def step(self, action):
        self.place += {{"left": -1, "right": 1}}[action]
        reward, done = float(self.place), self.place == 2
        return {step}

    def close(self):
        with open(__file__ + ".closed", "a") as file:
            file.write("closed ")
"""
SHAPES = {
    "gymnasium": ("f'at {self.place}', {}", "f'at {self.place}', reward, done, False, {}"),
    "truncated": ("f'at {self.place}', {}", "f'at {self.place}', reward, False, done, {}"),
    "gym": ("f'at {self.place}'", "f'at {self.place}', reward, done, {}"),
    "object": (
        "__import__('types').SimpleNamespace(observation=f'at {self.place}', reward=None, done=False)",
        "__import__('types').SimpleNamespace(observation=f'at {self.place}', reward=reward, done=done)",
    ),
    "dictionary": (
        "f'at {self.place}'",
        "dict(observations=f'at {self.place}', reward=reward, done=done, metadata=0)",
    ),
}


def walk(shape: str = "gymnasium", *, asynchronous: bool = False, play: str = "from_steps(Walk)") -> str:
    """An environment file: a walk to place 2, each step of which is worth the place that it leads to."""
    reset, step = SHAPES[shape]
    text = BEGIN + WALK.format(reset=reset, step=step)
    text = text.replace("    def ", "    async def ") if asynchronous else text
    return f"{text}\nplay = {play}\n"


async def scores(tmp_path: Path, text: str, says: list[str], **more: Any) -> list[float | None]:
    group = await streams(tmp_path / "mine.py", text, Paper(says), **more)
    return [verdict.score for verdict in group.verdicts]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
async def test_an_environment_of_any_shape_is_played_to_its_end(shape: str, asynchronous: bool, tmp_path: Path) -> None:
    engine = Paper(["left", "<think>up</think> right", "right", "right"])
    group = await streams(tmp_path / "mine.py", walk(shape, asynchronous=asynchronous), engine)
    assert [verdict.score for verdict in group.verdicts] == [-1.0 + 0.0 + 1.0 + 2.0]
    shown = [engine.read(tokens) for tokens in engine.shown]
    assert shown == [
        "?\n\nat 0",
        f"{shown[0]}leftat -1",
        f"{shown[1]}<think>up</think> rightat 0",
        f"{shown[2]}rightat 1",
    ]
    assert closed(tmp_path) == 1


def closed(tmp_path: Path) -> int:
    """How many environments were closed."""
    file = tmp_path / "mine.py.closed"
    return file.read_text().count("closed") if file.exists() else 0


async def test_the_score_may_be_the_last_reward(tmp_path: Path) -> None:
    play = 'from_steps(Walk, score="last", opening="{observation}")'
    assert await scores(tmp_path, walk(play=play), ["right", "right"]) == [2.0]


async def test_each_reward_may_be_one_of_its_turn_too(tmp_path: Path) -> None:
    text = walk(play="from_steps(Walk, turn_rewards=True)")
    group = await streams(tmp_path / "mine.py", text, Paper(["right", "right"]), reward=RewardSettings(span_weight=0.5))
    (rewards,) = group.span_rewards
    assert [float(value) for value in rewards if value == value] == [0.5, 1.0]
    assert [verdict.score for verdict in group.verdicts] == [3.0]


async def test_what_is_no_action_is_told_to_the_policy(tmp_path: Path) -> None:
    engine = Paper(["up", "1", "1"])
    play = 'from_steps(Walk, act=lambda text: ["left", "right"][int(text)])'
    group = await streams(tmp_path / "mine.py", walk(play=play), engine)
    assert [verdict.score for verdict in group.verdicts] == [3.0]
    assert engine.read(engine.shown[1]).endswith("upNot understood: invalid literal for int() with base 10: 'up'")


async def test_siblings_get_an_environment_each_of_the_same_seed(tmp_path: Path) -> None:
    text = walk().replace("return f'at {self.place}', {}", "return f'{seed} {id(self)}', {}")
    engine = Paper(["right"] * 6)
    await streams(tmp_path / "mine.py", text, engine, size=3)
    openings = [engine.read(shown).split()[1:] for shown in engine.shown if "right" not in engine.read(shown)]
    (seed,) = {seed for seed, _ in openings}
    assert 0 <= int(seed) < 2**31
    assert len({which for _, which in openings}) == 3
    assert closed(tmp_path) == 3


async def test_an_environment_may_be_made_of_the_row(tmp_path: Path) -> None:
    text = walk(play="from_steps(Walk)").replace(
        "def reset", "def __init__(self, task):\n        self.row = task\n\n    def reset"
    )
    engine = Paper(["right"] * 2)
    await streams(tmp_path / "mine.py", text.replace("f'at {self.place}', {}", "self.row.reference, {}"), engine)
    assert engine.read(engine.shown[0]) == "?\n\n5"


async def test_where_there_is_no_room_left_the_episode_ends_with_what_it_has(tmp_path: Path) -> None:
    assert await scores(tmp_path, walk(), ["right", "left"], rollout={"max_turns": 2}) == [1.0]
    assert closed(tmp_path) == 1


LINE = r"mine\.py, line {}, in {}: "
WRONG: dict[str, tuple[str, str, str]] = {  # what stands in the file, what in its place, and what people are told
    "raises": ("self.place += ", "self.plaice += ", LINE.format(9, "step") + r"AttributeError: 'Walk' object has no"),
    "raises where it begins": ("self.place = 0", "self.place = 1 / 0", LINE.format(5, "reset") + r"ZeroDivisionError"),
    "raises where it is closed": ("with open", "with 0, open", LINE.format(14, "close") + r"TypeError"),
    "knows no action": ('"left": -1, ', "", LINE.format(9, "step") + r"KeyError: 'left'"),
    "ends an iterator": ("self.place += ", "next(iter(())) ; 1 + ", LINE.format(9, "step") + r"RuntimeError: StopIt"),
    "leaves the program": ("self.place += ", "raise SystemExit(3) ; 1 + ", LINE.format(9, "step") + r"SystemExit: 3"),
    "has no step": ("def step", "def steps", r"must have a method step\(\), and \S+\.Walk has none"),
    "is nothing": ("from_steps(Walk)", "from_steps(lambda: None)", r"must have a method reset\(\), and None has none"),
    "gives no step": ("return f'at {self.place}', rew", "return 5 #", r"Walk\.step \(mine\.py, line 8\) gave 5: expec"),
    "gives no reward": ("', reward,", "', 'much',", r"\(mine\.py, line 8\) gave the reward 'much': expected a finite"),
    "gives no finite reward": ("', reward,", "', 1e999,", r"gave the reward inf: expected a finite number"),
    "shows no text": ("(Walk)", "(Walk, show=lambda seen: 7)", r"<lambda> \(mine\.py, line 17\) gave 7: expected a"),
    "is over at once": (
        "return f'at {self.place}', {}",
        "return dict(observation='', done=True)",
        r"Walk\.reset \(mine\.py, line 4\) gave an environment that is over before the first action",
    ),
    "rewards turns without weight": (
        "(Walk)", "(Walk, turn_rewards=True)", LINE.format(17, "play") + r"rewards a turn, and reward\.span_weight = 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_goes_wrong_in_an_environment_fails_the_episode_with_its_line(name: str, tmp_path: Path) -> None:
    right, wrong, why = WRONG[name]
    assert right in walk()
    engine = Paper(["left", "right", "right", "right"])
    group = await streams(tmp_path / "mine.py", walk().replace(right, wrong), engine)
    (verdict,) = group.verdicts
    assert (verdict.outcome, verdict.score) == (Outcome.ERROR, None)
    assert re.search(why, verdict.why), verdict.why
    assert closed(tmp_path) == (name not in ("is nothing", "raises where it is closed"))


async def test_a_line_of_another_file_is_named_where_the_environment_lies_there(tmp_path: Path) -> None:
    (tmp_path / "walks_of_others.py").write_text(walk().replace("self.place += ", "self.plaice += "))
    text = f"{BEGIN}from walks_of_others import Walk\nplay = from_steps(Walk)\n"
    (verdict,) = (await streams(tmp_path / "mine.py", text, Paper(["left"]))).verdicts
    assert verdict.why.startswith("walks_of_others.py, line 9, in step: AttributeError")


async def test_an_environment_that_hangs_is_named_with_its_line_ended_and_closed(tmp_path: Path) -> None:
    text = walk().replace("self.place += ", "while True: pass\n        self.place += ")
    group = await streams(tmp_path / "mine.py", text, Paper(["left"]), rollout={"episode_seconds": 1.0})
    (verdict,) = group.verdicts
    assert verdict.why == "mine.py, line 9, in step: the episode took longer than rollout.episode_seconds = 1"
    for _ in range(500):
        if closed(tmp_path):
            break
        await asyncio.sleep(0.01)
    assert closed(tmp_path) == 1


async def test_a_coroutine_of_another_file_that_blocks_all_episodes_is_interrupted(tmp_path: Path) -> None:
    text = walk(asynchronous=True).replace("self.place += ", "while True: pass\n        self.place += ")
    (tmp_path / "blocking_walks_of_others.py").write_text(text)
    text = f"{BEGIN}from blocking_walks_of_others import Walk\nplay = from_steps(Walk)\n"
    (verdict,) = (await streams(tmp_path / "mine.py", text, Paper(["left"]), blocked_seconds=0.3)).verdicts
    assert verdict.why.startswith("blocking_walks_of_others.py, line 9, in step: blocks all episodes for more than 0.3")


def test_a_score_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match='score must be "sum" or "last", got \'mean\''):
        from_steps(dict, score="mean")  # type: ignore[arg-type]
