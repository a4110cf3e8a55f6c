"""The table of rewards by name. A reward takes cases and gives results; what these are worth is `score_of`.

A new reward is a row here: a function that judges, and one that says whether a reference can be judged against.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from rewards.answers.mathematics import check_math, math
from rewards.answers.names import check_names, names
from rewards.answers.text import check_choice, check_exact, check_number, choice, exact, number
from rewards.combine import check_combination, combine
from rewards.forms import check_form, check_length, form, length
from rewards.models.judges import check_judge, judge
from rewards.models.scoring import check_model, check_process, model, process
from rewards.own import check_own, own
from rewards.programs.code import check_code, code
from rewards.queries.sql import check_sql, sql
from rewards.settings import RewardSettings
from rewards.verdict import Case, Outcome, RewardResult

Judge = Callable[[Sequence[Case], RewardSettings], list[RewardResult]]
Check = Callable[[str, RewardSettings], None]


class Place(StrEnum):
    """Where a reward is computed."""

    CONFINED = "confined"  # one case at a time in a process with a memory limit that is killed at its deadline
    MODELS = "models"  # many cases at a time in a process of its own, which keeps a model loaded
    REMOTE = "remote"  # many at a time by somebody else, who is only asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """A row of the table."""

    about: str  # what it grades against which reference
    judge: Judge
    check: Check  # raises ValueError for a reference, or settings, that nothing could be judged by
    place: Place = Place.CONFINED
    echoes: bool = False  # whether the reference is itself a right response


def one_by_one(judge_one: Callable[[Case, RewardSettings], RewardResult]) -> Judge:
    """A judge of many cases from a judge of one."""
    return lambda cases, settings: [judge_one(case, settings) for case in cases]


def answers(judge_one: Callable[[Case, RewardSettings], RewardResult]) -> Judge:
    """The same for rewards of a final answer: one that is there and wrong is worth reward.partial, so that it is worth
    more than none. arXiv 2401.08967 (ReFT), which has 0.1."""

    def judge_all(cases: Sequence[Case], settings: RewardSettings) -> list[RewardResult]:
        found = (judge_one(case, settings) for case in cases)
        return [replace(j, value=settings.partial) if j.outcome is Outcome.WRONG else j for j in found]

    return judge_all


REWARDS: dict[str, Reward] = {
    "exact": Reward(
        about="The final answer equals the reference as text; case, articles and punctuation around it aside.",
        judge=answers(exact),
        check=check_exact,
        echoes=True,
    ),
    "choice": Reward(
        about="The letter chosen is the reference's.",
        judge=answers(choice),
        check=check_choice,
        echoes=True,
    ),
    "number": Reward(
        about="The final number has the value of the reference's.",
        judge=answers(number),
        check=check_number,
        echoes=True,
    ),
    "math": Reward(
        about="The final answer equals the reference as mathematics.",
        judge=answers(math),
        check=check_math,
        echoes=True,
    ),
    "names": Reward(
        about="F-beta of the names listed, such as files to change, against the reference's list.",
        judge=one_by_one(names),
        check=check_names,
    ),
    "code": Reward(
        about="The Python program passes the reference's tests (HumanEval, MBPP, or inputs and outputs) in a sandbox.",
        judge=one_by_one(code),
        check=check_code,
    ),
    "sql": Reward(
        about="The query gives the result of the reference's query on its database; nothing can be written.",
        judge=one_by_one(sql),
        check=check_sql,
    ),
    "format": Reward(
        about="The response thinks and answers in tags, or ends in a box. Looks at no reference.",
        judge=one_by_one(form),
        check=check_form,
    ),
    "length": Reward(
        about="The response is not overlong. Looks at no reference.",
        judge=one_by_one(length),
        check=check_length,
    ),
    "model": Reward(
        about="A sequence-classification model in reward.model likes the response.",
        judge=model,
        check=check_model,
        place=Place.MODELS,
    ),
    "process": Reward(
        about="A model in reward.model scores every step; reward.aggregate makes one score of them.",
        judge=process,
        check=check_process,
        place=Place.MODELS,
    ),
    "judge": Reward(
        about="A language model says whether the response is right, and which spans of it are.",
        judge=judge,
        check=check_judge,
        place=Place.REMOTE,
    ),
    "own": Reward(
        about="The function `reward` of the file in reward.file.",
        judge=one_by_one(own),
        check=check_own,
    ),
}

COMBINATIONS = ("sum", "product", "shaped", "consistent")  # of the rewards in reward.parts


def reward_names() -> tuple[str, ...]:
    """Everything that reward.name may be."""
    return (*REWARDS, *COMBINATIONS)


def leaves(name: str, settings: RewardSettings) -> tuple[str, ...]:
    """The rewards that one is made of: itself, or the parts of a combination in their order."""
    return tuple(settings.parts) if name in COMBINATIONS else (name,)


def check_settings(settings: RewardSettings) -> None:
    """Whether the settings make sense together.

    Raises:
        ValueError: they do not; the message names the setting.
    """
    name = settings.name
    if name not in reward_names():
        raise ValueError(f"reward.name must be one of {', '.join(reward_names())}, got {name!r}")
    if name in COMBINATIONS:
        check_combination(name, settings, REWARDS)
    graded = settings.partial > 0 or name in (*COMBINATIONS, "length", "model", "process", "names")
    if graded and settings.wrong != -settings.correct:
        raise ValueError(
            f"reward.wrong must be minus reward.correct for a reward between wrong and correct, got {settings.wrong:g} "
            f"and {settings.correct:g}: a score above 0 is what filters and algorithms take for correct"
        )
    if settings.span_weight and not {"process", "judge", "own"}.intersection(leaves(name, settings)):
        raise ValueError(
            f"reward.span_weight = {settings.span_weight:g} weighs span rewards; reward.name = {name!r} gives none"
        )


def joined(name: str, results: dict[str, RewardResult], settings: RewardSettings) -> RewardResult:
    """The result of a reward from those of its leaves."""
    return combine(name, settings.parts, results, settings) if name in COMBINATIONS else results[name]
