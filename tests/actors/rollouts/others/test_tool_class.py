"""Classes whose methods are tools, as TRL takes them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rewards import Outcome, RewardSettings
from tests.environments import Paper, row, streams
from tests.tokenizers import letters

CALCULATOR = '''from actors.rollouts.others import from_class


class Calculator:
    def reset(self, **row):
        self.wanted, self.total = int(row["answer"]), 0
        return f" Begin at {self.total}."

    def add(self, number: int) -> int:
        """Adds to the total.

        Args:
            number: what is added.
        """
        self.total += number
        return self.total

    def get_reward(self) -> float:
        return 1.0 if self.total == self.wanted else -0.5

    def _hidden(self):
        raise AssertionError

    def close(self):
        with open(__file__ + ".closed", "a") as file:
            file.write("closed ")


play = from_class(Calculator)
'''


def call(**arguments: Any) -> str:
    """A call of the tool."""
    return json.dumps({"name": "add", "arguments": arguments})


def closed(tmp_path: Path) -> int:
    return (tmp_path / "mine.py.closed").read_text().count("closed")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_methods_are_tools_and_the_class_says_what_it_was_worth(asynchronous: bool, tmp_path: Path) -> None:
    text = re.sub("def (add|reset|get_reward)", r"async def \1", CALCULATOR) if asynchronous else CALCULATOR
    engine = Paper([call(number=2), f"more\n{call(number=3)}", "done"], tokenizer=letters())
    group = await streams(tmp_path / "mine.py", text, engine)
    assert [verdict.score for verdict in group.verdicts] == [1.0]
    shown = [engine.read(tokens) for tokens in engine.shown]
    assert shown[0].endswith("? Begin at 0.")
    assert '"name": "add"' in shown[0]
    assert "hidden" not in shown[0]
    assert "close" not in shown[0]
    assert closed(tmp_path) == 1


async def test_siblings_have_an_object_each(tmp_path: Path) -> None:
    engine = Paper(lambda shown: "done" if "add: 5" in shown else call(number=5), tokenizer=letters())
    group = await streams(tmp_path / "mine.py", CALCULATOR, engine, size=3)
    assert [verdict.score for verdict in group.verdicts] == [1.0] * 3
    assert closed(tmp_path) == 3


async def test_a_call_that_fails_is_text_and_the_episode_goes_on(tmp_path: Path) -> None:
    text = CALCULATOR.replace("self.total += number", "self.total += 10 // number")
    says = [call(number=0), call(count=1), call(number=2), "done"]
    engine = Paper(says, tokenizer=letters())
    group = await streams(tmp_path / "mine.py", text, engine)
    assert [verdict.score for verdict in group.verdicts] == [1.0]
    shown = engine.read(engine.shown[-1])
    assert "add failed: ZeroDivisionError" in shown
    assert "wrong arguments for add" in shown


@pytest.mark.parametrize(
    ("parameters", "shown", "reference", "given"),
    [
        ("self", "1 + 1", "5", "2"),
        ("self, level", "level", '{"answer": "5", "level": "hard"}', "hard"),
        ("self, *, prompt, answer='0'", "prompt + answer", "5", "?5"),
        ("self, answer, **row", "sorted(row)", '{"answer": "5", "level": "hard"}', "['level', 'prompt']"),
        ("self, seed", "seed < 2**31", "5", "True"),
    ],
)
async def test_reset_is_given_what_it_names_of_the_row(
    parameters: str, shown: str, reference: str, given: str, tmp_path: Path
) -> None:
    text = CALCULATOR.replace("self, **row", parameters).replace('int(row["answer"])', "0")
    engine = Paper(["done"], tokenizer=letters())
    prompt = row(engine.tokenizer, reference=reference)
    text = text.replace('f" Begin at {self.total}."', f"f'<{{{shown}}}>'")
    await streams(tmp_path / "mine.py", text, engine, prompt=prompt)
    assert engine.read(engine.shown[0]).endswith(f"?<{given}>")


async def test_without_a_text_the_row_is_shown_and_without_a_reward_the_run_grades(tmp_path: Path) -> None:
    text = CALCULATOR.replace('return f" Begin at {self.total}."', "pass").replace("get_reward", "_reward")
    engine = Paper(["it is 5"], tokenizer=letters())
    group = await streams(tmp_path / "mine.py", text, engine)
    assert [(verdict.score, verdict.why) for verdict in group.verdicts] == [(1.0, "so it is")]
    assert engine.read(engine.shown[0]).endswith("?")


async def test_a_truth_value_is_a_verdict_of_the_runs_scale(tmp_path: Path) -> None:
    text = CALCULATOR.replace("return 1.0 if", "return False and").replace("else -0.5", "")
    group = await streams(
        tmp_path / "mine.py", text, Paper(["done"], tokenizer=letters()), reward=RewardSettings(wrong=-3.0)
    )
    assert [verdict.score for verdict in group.verdicts] == [-3.0]


WRONG: dict[str, tuple[str, str, str]] = {  # what stands in the file, what in its place, and what people are told
    "a column that there is not": ("**row", "level", r"Calculator\.reset \(mine\.py, line 5\): missing a required"),
    "no text": ('f" Begin at {self.total}."', "7", r"reset \(mine\.py, line 5\) gave 7: expected a text or None"),
    "no docstring": ('"""Adds to the total.', '""; """', r"mine\.py, line 29, in play: offers tools, and .*docst"),
    "no reward": ("return 1.0 if", "0 if", r"get_reward \(mine\.py, line 18\) gave the reward None: expected a finite"),
    "a reward that raises": ("else -0.5", "else 1 / 0", r"mine\.py, line 19, in get_reward: ZeroDivisionE"),
    "no reset": ("def reset", "def begin", r"must have a method reset\(\), and \S+Calculator has none"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_what_goes_wrong_in_the_class_fails_the_episode_with_its_line(name: str, tmp_path: Path) -> None:
    right, wrong, why = WRONG[name]
    assert right in CALCULATOR
    engine = Paper(["done"], tokenizer=letters())
    (verdict,) = (await streams(tmp_path / "mine.py", CALCULATOR.replace(right, wrong), engine)).verdicts
    assert (verdict.outcome, verdict.score) == (Outcome.ERROR, None)
    assert re.search(why, verdict.why), verdict.why
    assert closed(tmp_path) == 1
