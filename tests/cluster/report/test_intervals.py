import random

import pytest

from cluster.report.intervals import accuracy_interval, wilson


def line(by_prompt: list[list[int]] | None, correct: int = 0, responses: int = 0, prompts: int = 0) -> dict:
    if by_prompt is None:
        return {"correct": correct, "responses": responses, "prompts": prompts, "accuracy": correct / max(1, responses)}
    correct, responses = (sum(counts) for counts in zip(*by_prompt, strict=True))
    return line(None, correct, responses, len(by_prompt)) | {"by_prompt": by_prompt}


def test_wilsons_interval_is_the_one_of_the_books() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_responses_that_follow_their_prompt_count_as_one() -> None:
    alike = line([[4, 4]] * 10 + [[0, 4]] * 10)
    assert accuracy_interval(alike) == pytest.approx(wilson(0.5, 20), abs=0.01)


def test_responses_that_do_not_follow_their_prompt_count_each() -> None:
    noise = random.Random(0)
    apart = line([[sum(noise.random() < 0.5 for _ in range(4)), 4] for _ in range(2000)])
    low, high = accuracy_interval(apart) or (0.0, 1.0)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 8000) ** 0.5, rel=0.1)


def test_where_nothing_is_said_of_prompts_each_counts_as_one() -> None:
    assert accuracy_interval(line(None, 60, 120, 30)) == wilson(0.5, 30)


def test_all_alike_is_not_certain() -> None:
    assert accuracy_interval(line([[2, 2]] * 10)) == wilson(1.0, 10)


def test_nothing_judged_has_no_interval() -> None:
    assert accuracy_interval(line(None)) is None
    assert accuracy_interval(line([[0, 0], [0, 0]])) is None
