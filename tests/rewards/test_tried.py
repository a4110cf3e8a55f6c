"""Graded rows taken from public reports, where people or their policies met a false verdict."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Case, Grader, Question, RewardSettings

TRIED = Path(__file__).parents[3] / "shared" / "data" / "tried_cases.jsonl"


@pytest.fixture
def grader() -> Iterator[Grader]:
    made = Grader()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.skipif(not TRIED.is_file(), reason="shared/data/tried_cases.jsonl is not beside the checkout")
def test_every_tried_case_is_judged_as_it_should_be(grader: Grader) -> None:
    rows = [json.loads(line) for line in TRIED.read_text(encoding="utf-8").splitlines()]
    settings, questions = RewardSettings(), []
    for row in rows:
        reference = row["reference"] if isinstance(row["reference"], str) else json.dumps(row["reference"])
        case = Case(response=row["response"], reference=reference)
        questions.append(Question(reward=row["reward"], case=case, settings=settings))
    found = [verdict for question in questions for verdict in grader.grade([question])]
    wrong = [
        (row["response"], row["reference"], verdict.outcome, verdict.why)
        for row, verdict in zip(rows, found, strict=True)
        if (row["expected"] == "correct") != ((verdict.score or 0.0) > 0)
    ]
    assert len(rows) > 40
    assert wrong == []
