"""Chooses among the responses of an evaluation, with the scores of a process model and without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cluster.evaluating.answers import recorded_groups, responses_in, texts_in
from rewards import Case, Outcome
from rewards.answers.text import number_said
from rewards.models.scoring import ProcessSettings, process

RULES = ("one response", "majority", "highest score", "weighted vote")


def voted(answers: Sequence[str | None], weights: Sequence[float]) -> str | None:
    """The answer for which the responses weigh most, the earlier of two; None where nobody answers.
    arXiv 2312.08935."""
    total: dict[str, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            total[answer] = total.get(answer, 0.0) + weight
    return max(total, key=lambda answer: total[answer], default=None)


def chosen(answers: Sequence[str | None], scores: Sequence[float], right: Sequence[bool]) -> tuple[float, ...]:
    """How right each of RULES is on one question; of one response that is the mean.

    Args:
        answers: of the responses.
        scores: of the process model.
        right: whether each is.
    """
    correct = {answer for answer, is_right in zip(answers, right, strict=True) if is_right}
    best = max(range(len(scores)), key=lambda place: scores[place])
    majority = voted(answers, [1.0] * len(answers)) in correct
    return float(np.mean(right)), float(majority), float(right[best]), float(voted(answers, scores) in correct)


def reranked(evaluation: Path, model: Path) -> dict[str, float]:
    """The accuracy of each rule.

    Args:
        evaluation: the folder of one whose responses end with a number.
        model: a process model, whose lowest score of a step is that of the response.
    """
    groups = [(group, texts_in(group)) for group in recorded_groups(evaluation / "trajectories")]
    cases = [
        Case(response=text, reference="", question=group.prompt.question, messages=group.prompt.messages)
        for group, texts in groups
        for text in texts
    ]
    scores = (result.reward or 0.0 for result in process(cases, ProcessSettings(path=str(model))))
    found = []
    for group, texts in groups:
        right = [response.outcome is Outcome.CORRECT for response in responses_in(group)]
        found.append(chosen([number_said(text) for text in texts], [next(scores) for _ in texts], right))
    return dict(zip(RULES, np.mean(found, axis=0).tolist(), strict=True))
