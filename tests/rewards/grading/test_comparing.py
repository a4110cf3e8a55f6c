import time

import pytest

from rewards import Grader, RewardSettings
from tests.tables import each

HALF = r"\boxed{\frac{1}{2}}"


@each(
    ("kind", "responses", "numbers"),
    [
        ("math", [HALF, "The answer is 0.5.", "\\boxed{2x+2}", "\\boxed{2(x+1)}", ""], [0, 0, 1, 1, None]),
        ("math", ["\\boxed{1} and \\boxed{2}", "\\boxed{2, 1}", "\\boxed{1, 3}"], [0, 0, 1]),
        ("number", ["#### 0.50", "so it is 1/2", "#### 3", "no idea"], [0, 0, 1, None]),
        ("choice", ["(B)", "The answer is B.", "C", "A or B"], [0, 0, 1, None]),
        ("exact", ["The Moon", "moon.", "sun", " "], [0, 0, 1, None]),
        ("math", [], []),
    ],
)
def test_responses_are_numbered_by_the_answers_that_their_reward_takes_for_different(
    kind: str, responses: list[str], numbers: list[int | None]
) -> None:
    grader = Grader()
    try:
        assert grader.answers(kind, responses, RewardSettings(name=kind)) == numbers
    finally:
        grader.close()


@pytest.mark.slow
def test_answers_that_cannot_be_compared_in_time_are_not_compared_and_the_next_are() -> None:
    grader, settings = Grader(), RewardSettings(name="math", seconds=0.05)
    try:
        began = time.monotonic()
        many = [rf"\boxed{{\int_0^{number} e^{{-x^{number}}} dx}}" for number in range(2, 60)]
        assert grader.answers("math", many, settings) is None
        assert time.monotonic() - began < 60
        assert grader.answers("math", ["\\boxed{1}", "\\boxed{1}"], RewardSettings(name="math")) == [0, 0]
    finally:
        grader.close()
