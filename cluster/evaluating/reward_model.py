"""`winnow eval --reward-model`: how often a reward model prefers right responses. On rows with chosen and rejected
responses as RewardMATH does (arXiv 2410.01729), on the responses of an evaluation by best of k.

A response without a score, such as an empty one, ranks below all others; of equal scores the wrong one comes first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.data.labelled import RankedRow, read_labelled
from actors.errors import DataError
from actors.types import Group
from cluster.config.errors import ConfigError
from cluster.config.models import check_folder
from cluster.config.reading import grading_config
from cluster.config.run_config import GradingConfig
from cluster.config.run_files import TRAJECTORIES
from cluster.evaluating.against import RESULT
from cluster.evaluating.answers import recorded_groups
from cluster.evaluating.statistics import Estimate, best_at, estimates
from cluster.reporting.words import aligned, counted
from rewards import Case, Outcome, RewardResult

AT_ONCE = 64  # responses between two words on how far it is
WHOLE = "ForSequenceClassification"
RANKED = ("accuracy", "mean reciprocal rank", "pairs")
Score = Callable[[Sequence[Case]], list[float]]
Advance = Callable[[int, int], None]  # (responses scored, in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What a reward model was found to be worth."""

    model: str  # its folder
    data: str
    items: int  # rows, or prompts
    responses: int
    figures: dict[str, Estimate]  # by name

    @property
    def lines(self) -> list[str]:
        """For a person."""
        rows = [(name, _shown(estimate)) for name, estimate in self.figures.items()]
        what = f"{self.model} on {self.data}: {counted(self.items, 'prompt')}, {counted(self.responses, 'response')}"
        return [what, *aligned([("", "mean"), *rows]), "in brackets: 95 % of bootstrap resamples over prompts"]

    @property
    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {"kind": "reward-model", **asdict(self)}


def evaluate_reward_model(folder: Path, what: Path, items: Sequence[str], advance: Advance) -> Evaluated:
    """Evaluates the reward model in a folder, in this process, on a GPU where there is one.

    Args:
        folder: of a model that the reward `model` or `process` reads.
        what: a file of rows with chosen and rejected responses, or the folder of an evaluation whose responses are
            ranked anew.
        items: settings, such as reward.process.aggregate=last or data.prompt_column=question.
        advance: is told how far it is.

    Raises:
        ConfigError: the folder, the rows or the settings cannot be used.
    """
    config = grading_config(items)
    score = scorer_of(folder, config)
    if (what / RESULT).is_file():
        return _reranked(folder, what, score, advance)
    if what.is_dir() and (what / TRAJECTORIES).is_dir():
        raise ConfigError(f"{what} is a run: name one of its evaluations, which winnow eval {what} makes")
    start, end = config.data.slice
    try:
        system_column, system = config.data.system_column, config.data.system
        rows = read_labelled(str(what), _column(config), slice(start, end), system_column=system_column, system=system)
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    ranked = [row for row in rows if isinstance(row, RankedRow)]
    if not ranked:
        raise ConfigError(f"{what} has labelled steps: a reward model is evaluated on rows with chosen and rejected")
    cases = [
        [
            Case(response=text, reference="", question=row.question, messages=row.messages)
            for text in (*row.chosen, *row.rejected)
        ]
        for row in ranked
    ]
    scores = _scored(score, cases, advance)
    values = [
        rank_values(each[: len(row.chosen)], each[len(row.chosen) :]) for row, each in zip(ranked, scores, strict=True)
    ]
    return _evaluated(folder, what, cases, dict(zip(RANKED, np.array(values).T, strict=True)))


def rank_values(chosen: Sequence[float], rejected: Sequence[float]) -> tuple[float, float, float]:
    """(accuracy, reciprocal rank, share of pairs) of a row with these scores.

    The accuracy is 1 where the lowest chosen one is above the highest rejected one, else 0. The rank is that of the
    first chosen one. A pair is right where the chosen one is above the rejected one.
    """
    accuracy = float(min(chosen) > max(rejected))
    rank = 1 + sum(score >= max(chosen) for score in rejected)
    pairs = np.mean([one > other for one in chosen for other in rejected])
    return accuracy, 1.0 / rank, float(pairs)


def best_of_values(right: Sequence[bool], scores: Sequence[float]) -> list[float]:
    """best@k of a prompt for k = 1 to its number of responses: the probability that of k of them, drawn without
    replacement, the one with the highest score is right."""
    falling = sorted(range(len(scores)), key=lambda place: (-scores[place], right[place]))
    return [best_at([right[place] for place in falling], k) for k in range(1, len(scores) + 1)]


def scorer_of(folder: Path, config: GradingConfig) -> Score:
    """What scores cases with the model in a folder: a model of whole responses gives the number before the sigmoid, one
    of steps the aggregate of their scores.

    Raises:
        ConfigError: the folder holds no such model; so does what is returned where it refuses a row.
    """
    from rewards.models.scoring import ModelSettings, ProcessSettings, check_model, check_process, model, process

    names = check_folder(folder, "--reward-model").get("architectures") or [""]
    whole = str(names[0]).endswith(WHOLE)
    try:
        if whole:
            outcome_settings = ModelSettings(path=str(folder))
            check_model(outcome_settings)
        else:
            own = config.reward.of("process")
            aggregate = own.aggregate if isinstance(own, ProcessSettings) else "min"
            process_settings = ProcessSettings(path=str(folder), aggregate=aggregate)
            check_process(process_settings)
    except ValueError as problem:
        raise ConfigError(f"--reward-model: {problem}") from problem

    def score(cases: Sequence[Case]) -> list[float]:
        try:
            results = model(cases, outcome_settings) if whole else process(cases, process_settings)
        except ValueError as problem:
            raise ConfigError(f"--reward-model: a row {problem}") from problem
        return [_number(result) for result in results]

    return score


def _reranked(folder: Path, what: Path, score: Score, advance: Advance) -> Evaluated:
    """Best of k on the responses of an evaluation, against sampling one."""
    groups = [_scored_responses(group) for group in recorded_groups(what / TRAJECTORIES)]
    groups = [group for group in groups if group]
    if not groups:
        raise ConfigError(f"{what} holds no response with a verdict: let it finish first, winnow eval {what}")
    most = min(map(len, groups))
    scores = _scored(score, [[case for case, _ in group] for group in groups], advance)
    curves = np.array(
        [best_of_values([right for _, right in group], each)[:most] for group, each in zip(groups, scores, strict=True)]
    )
    single, best = curves[:, 0], curves[:, -1]
    there = np.array([float(any(right for _, right in group)) for group in groups])
    figures = {"avg@1": single, f"best@{most}": best, f"best@{most} - avg@1": best - single, "any is right": there}
    return _evaluated(folder, what, [[case for case, _ in group] for group in groups], figures)


def _scored_responses(group: Group) -> list[tuple[Case, bool]]:
    """The responses of a group with a verdict, and whether each is correct."""
    prompt, found = group.prompt, []
    for places in group.responses:
        outcome = group.verdicts[places.start].outcome
        if outcome.scored:
            text = "".join(group.trajectories[place].text for place in places)
            case = Case(
                response=text, reference="", prompt=prompt.text, question=prompt.question, messages=prompt.messages
            )
            found.append((case, outcome is Outcome.CORRECT))
    return found


def _scored(score: Score, cases: Sequence[Sequence[Case]], advance: Advance) -> list[list[float]]:
    """The scores of all cases, in the same form."""
    flat = [case for each in cases for case in each]
    found: list[float] = []
    for start in range(0, len(flat), AT_ONCE):
        found += score(flat[start : start + AT_ONCE])
        advance(len(found), len(flat))
    ends = np.cumsum([len(each) for each in cases]).tolist()
    return [found[end - len(each) : end] for each, end in zip(cases, ends, strict=True)]


def _evaluated(folder: Path, what: Path, cases: Sequence[Sequence[Case]], columns: dict[str, np.ndarray]) -> Evaluated:
    found = estimates(np.stack(list(columns.values()), axis=1))
    return Evaluated(
        model=str(folder),
        data=str(what),
        items=len(cases),
        responses=sum(map(len, cases)),
        figures={name: each for name, each in zip(columns, found, strict=True) if each is not None},
    )


def _number(result: RewardResult) -> float:
    return result.parts.get("raw", -math.inf)


def _column(config: GradingConfig) -> str:
    column = config.data.prompt_column
    if not isinstance(column, str):
        raise ConfigError(f"data.prompt_column must be one column here, got {list(column)}")
    return column


def _shown(found: Estimate) -> str:
    return f"{found.value:.3f}" + (f" [{found.low:.3f}, {found.high:.3f}]" if found.low is not None else "")
