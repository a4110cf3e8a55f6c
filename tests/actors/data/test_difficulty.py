"""The model of difficulty: its numbers, what it learns of prompts that it has not seen, and what it costs."""

import random

import numpy as np
import pytest

from actors.data.chooser import Chooser
from actors.data.difficulty import SURE, Difficulty
from tests.builders import prompt


def test_a_step_on_the_worked_example() -> None:
    """One token: one n-gram, whose entry is 1, a 1 and the logarithm of 1: x x = 2."""
    model = Difficulty([prompt("a", [7]), prompt("b", [8])])
    assert model.predict("a") == 0.5
    model.learn("a", 1.0)
    assert model.predict("a") == pytest.approx(1 / (1 + np.exp(-0.5 * 0.5 * 2)))  # RATE (predicted - r) x x
    assert model.predict("b") == pytest.approx(1 / (1 + np.exp(-0.5 * 0.5 * 1)))  # has the 1 in common
    model.learn("a", 1.0)
    assert model.predict("a") == pytest.approx(0.7063, abs=2e-4)


def test_no_prompt_is_certain() -> None:
    model = Difficulty([prompt("a"), prompt("b")])
    for _ in range(2000):
        model.learn("a", 1.0)
    assert model.predict("a") == SURE
    for _ in range(4000):
        model.learn("a", 0.0)
    assert model.predict("a") == pytest.approx(1 - SURE)


def of_kind(first: int, draw: random.Random) -> list[int]:
    return [first + draw.randrange(5) for _ in range(8)]


def test_it_knows_prompts_that_are_like_those_it_has_learned_from() -> None:
    draw = random.Random(0)
    prompts = [prompt(f"{first}-{n}", of_kind(first, draw)) for first in (10, 20) for n in range(80)]
    model = Difficulty(prompts)
    for n in range(60):
        model.learn(f"10-{n}", 1.0)
        model.learn(f"20-{n}", 0.0)
    found = {first: [model.predict(f"{first}-{n}") for n in range(60, 80)] for first in (10, 20)}
    assert np.mean(found[10]) > 0.75
    assert np.mean(found[20]) < 0.25


def test_length_alone_tells_prompts_apart_that_have_no_word_in_common() -> None:
    prompts = [prompt(f"{size}-{n}", range(1000 * n, 1000 * n + size)) for size in (4, 400) for n in range(1, 60)]
    model = Difficulty(prompts)
    for _ in range(10):
        for n in range(1, 50):
            model.learn(f"4-{n}", 1.0)
            model.learn(f"400-{n}", 0.0)
    short, long = (np.mean([model.predict(f"{size}-{n}") for n in range(50, 60)]) for size in (4, 400))
    assert short > long + 0.2


def test_a_prompt_that_is_expected_to_be_decided_is_less_likely_mixed_and_verdicts_outweigh_what_is_expected() -> None:
    model = Difficulty([prompt("hard", [1]), prompt("other", [2])])
    chooser = Chooser(group_size=8, difficulty=model)
    before = chooser.chance("hard")
    assert before == pytest.approx(0.607, abs=1e-3)  # as without a model
    for _ in range(20):
        model.learn("hard", 0.0)
    expected = model.predict("hard")
    first = np.prod([(1 - expected + i) / (1 + i) for i in range(8)])
    second = np.prod([(expected + i) / (1 + i) for i in range(8)])
    assert chooser.chance("hard") == pytest.approx(1 - first - second)
    assert chooser.chance("hard") < 0.6 * before
    chooser.observe("hard", 4, 4, version=0)
    assert chooser.chance("hard") > 0.9
