"""The table of rewards by kind. A new kind is a row here.

A row names the class of its settings, a function that grades cases, and functions that say beforehand whether a
reference and the settings can serve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from rewards.answers.mathematics import check_math, math, math_said
from rewards.answers.names import check_names, names
from rewards.answers.reference import answers_of
from rewards.answers.text import (
    check_choice,
    check_exact,
    check_number,
    choice,
    choice_said,
    exact,
    exact_said,
    number,
    number_said,
)
from rewards.format import FormatSettings, format_reward, length_reward
from rewards.models.judges import JudgeSettings, check_judge, judge
from rewards.models.scoring import ModelSettings, ProcessSettings, check_model, check_process, model, process
from rewards.own import OwnSettings, check_own, own, own_group, wants_group
from rewards.programs.code import CodeSettings, check_code, code
from rewards.queries.sql import SqlSettings, check_sql, check_sql_settings, sql
from rewards.settings import AnswerSettings, Budget, KindSettings
from rewards.verdict import Case, Outcome, RewardResult

S = TypeVar("S", bound=KindSettings)
Grade = Callable[[Sequence[Case], S, Budget], list[RewardResult]]


class Place(StrEnum):
    """Where a reward is computed."""

    CONFINED = "confined"  # one case at a time in a process with a memory limit that is killed at its deadline
    MODELS = "models"  # many cases at a time in a process of its own, which keeps a model loaded
    REMOTE = "remote"  # many cases at a time by another server or actor, which is only asked


@dataclass(frozen=True, kw_only=True)
class Reward(Generic[S]):
    """A row of the table."""

    about: str  # what it grades against which reference
    settings: type[S]  # of its section [reward.NAME]
    grade: Grade[S]
    check: Callable[[str, S, Budget], None] | None = None  # raises ValueError for a useless reference; None takes any
    check_settings: Callable[[S], None] | None = None  # raises ValueError, beginning with the name of a setting
    place: Place = Place.CONFINED
    echoes: bool = False  # whether the reference is itself a right response
    # The answer of a response, which may be put in the place of a reference to find out who answered the same; None: a
    # response holds no such thing.
    said: Callable[[str], str | None] | None = None
    graded: bool = False  # whether rewards lie between 0 and 1, whatever the settings
    gives_spans: bool = False  # whether it may give span rewards
    nothing: str = ""  # a response that does nothing, which no reference may find right
    blames: bool = True  # whether grading that takes too much is the response's doing; not so of a person's function
    grade_group: Grade[S] | None = None  # grades the siblings of one prompt together; None cannot
    wants_group: Callable[[S], bool] | None = None  # whether siblings are to be graded together; None: never


def answer(
    about: str,
    grade_one: Callable[[Case], RewardResult],
    check: Callable[[str], None],
    said: Callable[[str], str | None],
) -> Reward[Any]:
    """The row of a reward of a final answer. An answer that is there and wrong gets the reward `partial`, so that it
    is better than none. arXiv 2401.08967 (ReFT), which has 0.1. Of a reference of several answers any is right."""

    def grade(cases: Sequence[Case], settings: AnswerSettings, budget: Budget) -> list[RewardResult]:
        found = (_any_right(case, grade_one) for case in cases)
        return [replace(r, reward=settings.partial) if r.outcome is Outcome.WRONG else r for r in found]

    def check_all(reference: str, settings: AnswerSettings, budget: Budget) -> None:
        for one in answers_of(reference):
            check(one)

    return Reward(
        about=about,
        settings=AnswerSettings,
        grade=grade,
        check=check_all,
        echoes=True,
        said=said,
    )


def _any_right(case: Case, grade_one: Callable[[Case], RewardResult]) -> RewardResult:
    """The verdict by the first answer that finds the response right; where none does, by the first one."""
    answers = answers_of(case.reference)
    found = (grade_one(replace(case, reference=one)) for one in answers)
    first = next(found)
    if first.outcome is Outcome.CORRECT or len(answers) == 1:
        return first
    right = next((result for result in found if result.outcome is Outcome.CORRECT), None)
    return right or replace(first, why=f"{first.why}; nor is it another of the {len(answers)} right answers")


REWARDS: dict[str, Reward[Any]] = {
    "exact": answer(
        "The final answer equals the reference as text; case, articles and punctuation around it aside.",
        exact,
        check_exact,
        exact_said,
    ),
    "choice": answer("The letter chosen is the reference's.", choice, check_choice, choice_said),
    "number": answer("The final number has the value of the reference's.", number, check_number, number_said),
    "math": answer("The final answer equals the reference as mathematics.", math, check_math, math_said),
    "names": Reward(
        about="F-beta of the names listed, such as files to change, against the reference's list.",
        settings=KindSettings,
        grade=lambda cases, settings, budget: [names(case) for case in cases],
        check=lambda reference, settings, budget: check_names(reference),
        graded=True,
    ),
    "code": Reward(
        about="The Python program passes the reference's tests (HumanEval, MBPP, or inputs and outputs) in a sandbox.",
        settings=CodeSettings,
        grade=lambda cases, settings, budget: [code(case, settings, budget) for case in cases],
        check=lambda reference, settings, budget: check_code(reference),
        nothing="pass",
    ),
    "sql": Reward(
        about="The query gives the result of the reference's query on its database; nothing can be written.",
        settings=SqlSettings,
        grade=lambda cases, settings, budget: [sql(case, settings, budget) for case in cases],
        check=check_sql,
        check_settings=check_sql_settings,
    ),
    "format": Reward(
        about="The response thinks and answers in tags, or ends in a box. Looks at no reference.",
        settings=FormatSettings,
        grade=lambda cases, settings, budget: [format_reward(case, settings) for case in cases],
    ),
    "length": Reward(
        about="The response is not overlong. Looks at no reference.",
        settings=KindSettings,
        grade=lambda cases, settings, budget: [length_reward(case) for case in cases],
        graded=True,
    ),
    "model": Reward(
        about="A sequence-classification model in `path` likes the response.",
        settings=ModelSettings,
        grade=lambda cases, settings, budget: model(cases, settings),
        check_settings=check_model,
        place=Place.MODELS,
        graded=True,
    ),
    "process": Reward(
        about="A model in `path` scores every step; `aggregate` makes one reward of the scores.",
        settings=ProcessSettings,
        grade=lambda cases, settings, budget: process(cases, settings),
        check_settings=check_process,
        place=Place.MODELS,
        graded=True,
        gives_spans=True,
    ),
    "judge": Reward(
        about="A language model says whether the response is right, and which spans of it are.",
        settings=JudgeSettings,
        grade=judge,
        check_settings=check_judge,
        place=Place.REMOTE,
        gives_spans=True,
    ),
    "own": Reward(
        about="The function `reward` or `reward_group` of the file in `file`.",
        settings=OwnSettings,
        grade=lambda cases, settings, budget: [own(case, settings) for case in cases],
        check_settings=check_own,
        gives_spans=True,
        blames=False,
        grade_group=own_group,
        wants_group=wants_group,
    ),
}
