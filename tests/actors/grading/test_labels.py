import asyncio
from collections.abc import Sequence

import pytest

from actors.grading.labels import StepLabel, label_steps
from rewards.verdict import Outcome

WORDS = {
    "right": Outcome.CORRECT,
    "wrong": Outcome.WRONG,
    "none": Outcome.UNPARSABLE,
    "late": Outcome.TIMEOUT,
    "lost": Outcome.ERROR,
}


class Completer:
    """Continues each text with the endings written down for it, and notes who asked for how many."""

    def __init__(self, endings: dict[str, Sequence[str]]) -> None:
        self.endings = endings
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, text: str, count: int) -> list[str]:
        self.asked.append((text, count))
        return list(self.endings[text])


async def by_last_word(response: str) -> Outcome:
    return WORDS[response.split()[-1]]


@pytest.mark.parametrize(("right", "hard", "soft"), [(2, 1.0, 0.25), (0, 0.0, 0.0), (8, 1.0, 1.0)])
async def test_eight_completions_label_a_step_as_in_math_shepherd(right: int, hard: float, soft: float) -> None:
    complete = Completer({"Q: a": [" right"] * right + [" wrong"] * (8 - right)})
    assert await label_steps("Q: ", ["a"], complete, by_last_word) == [
        StepLabel(step=0, hard=hard, soft=soft, scored=8)
    ]
    assert complete.asked == [("Q: a", 8)]


async def test_completions_begin_behind_each_step_and_are_judged_as_whole_responses_without_the_prompt() -> None:
    complete = Completer({"Q: a": [" b right"], "Q: a\nb": [" right"], "Q: a\nb\nc": [""]})
    judged: list[str] = []

    async def judge(response: str) -> Outcome:
        judged.append(response)
        return Outcome.CORRECT

    await label_steps("Q: ", ["a", "\nb", "\nc"], complete, judge, completions=1)
    assert set(judged) == {"a b right", "a\nb right", "a\nb\nc"}


async def test_completions_without_verdict_do_not_count() -> None:
    complete = Completer({"a": [" right", " late", " lost", " none"], "ab": [" late", " lost"]})
    assert await label_steps("", ["a", "b"], complete, by_last_word, completions=4) == [
        StepLabel(step=0, hard=1.0, soft=0.5, scored=2),
        StepLabel(step=1, hard=None, soft=None, scored=0),
    ]


async def test_labels_do_not_depend_on_the_order_in_which_steps_and_verdicts_arrive() -> None:
    endings = {"a": [" right", " wrong"], "ab": [" wrong", " wrong"], "abc": [" right", " right"]}
    arrived: list[str] = []

    there = {text: asyncio.Event() for text in endings}

    async def complete(text: str, count: int) -> list[str]:
        if longer := endings.keys() & {f"{text}b", f"{text}c"}:  # the last step first
            await there[longer.pop()].wait()
        arrived.append(text)
        there[text].set()
        return endings[text]

    async def judge(response: str) -> Outcome:
        for _ in range(5 if "right" in response else 0):  # wrong ones first
            await asyncio.sleep(0)
        return await by_last_word(response)

    labels = await label_steps("", ["a", "b", "c"], complete, judge, completions=2)
    assert arrived == ["abc", "ab", "a"]
    assert [label.step for label in labels] == [0, 1, 2]
    assert [label.soft for label in labels] == [0.5, 0.0, 1.0]
    assert [label.hard for label in labels] == [1.0, 0.0, 1.0]


async def test_all_steps_are_completed_at_the_same_time() -> None:
    together = asyncio.Barrier(3)

    async def complete(text: str, count: int) -> list[str]:
        await asyncio.wait_for(together.wait(), 10)
        return [" right"]

    labels = await label_steps("", ["a", "b", "c"], complete, by_last_word, completions=1)
    assert [label.soft for label in labels] == [1.0, 1.0, 1.0]


async def test_a_generator_that_fails_is_heard() -> None:
    async def complete(text: str, count: int) -> list[str]:
        raise ConnectionError("gone")

    with pytest.raises(ExceptionGroup) as failure:
        await label_steps("", ["a", "b"], complete, by_last_word)
    assert failure.group_contains(ConnectionError, match="gone")


async def test_no_steps_have_no_labels() -> None:
    assert await label_steps("Q", [], Completer({}), by_last_word) == []


async def test_a_label_needs_a_completion() -> None:
    with pytest.raises(ValueError, match="at least one completion, got 0"):
        await label_steps("Q", ["a"], Completer({}), by_last_word, completions=0)
