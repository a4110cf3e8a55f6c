"""What the trained responses of a group were worth. A run does not store it; where it follows from the scores of the
group alone it is computed as the run's driver does (`learner.batches.planning`), else the page says why it is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.filtering.rules import drop_none
from actors.types import Group, Summary, Times
from cluster.browsing.folder import RunFolder
from learner.batches.planning import plan_step
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Baseline
from learner.settings import LearnerSettings, ObjectiveSettings, chosen_algorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Crediting:
    """How a run turns scores into advantages."""

    algorithm: Algorithm | None  # None where it is not known
    max_new_tokens: int
    why: str  # what a person is told of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """Of the responses of one group."""

    values: tuple[float | None, ...]  # of each response; None where it was not trained on, or where it is not known
    why: str  # what they are, or why they are not known


def crediting_of(run: RunFolder) -> Crediting:
    """The algorithm that the settings of a run name. A person's own file is not run for it."""
    name = str(run.setting("learner", "algorithm") or "")

    def unknown(why: str) -> Crediting:
        return Crediting(algorithm=None, max_new_tokens=0, why=f"Advantages are not known: {why}.")

    if not name:
        return unknown("there is no config.toml with learner.algorithm beside the trajectories")
    if file := run.setting("learner", "file"):
        return unknown(f"the algorithm {name} may come from {file} (learner.file), which this page does not run")
    try:
        learner = LearnerSettings(algorithm=name)
        objective = ObjectiveSettings.model_validate(run.settings.get("objective", {}))
        algorithm = chosen_algorithm(learner, objective)
        low, high = float(run.setting("reward", "wrong")), float(run.setting("reward", "correct"))
        most = int(run.setting("rollout", "max_new_tokens"))
    except (ValueError, TypeError) as failure:
        return unknown(f"this version of winnow does not know the run's settings ({str(failure).splitlines()[0]})")
    if algorithm.credits_on_rank:
        return unknown(f"{name} makes them on the learner's ranks, from more than the scores, and they are not stored")
    if algorithm.baseline is Baseline.ROLE:
        return unknown(f"{name} takes a moving mean of each seat's scores off them, which is not stored")
    passes = f", in the first of its {algorithm.passes} passes" if algorithm.thresholds else ""
    why = (
        f"Advantages are made from the scores here as {name} does{passes}: A = {algorithm.credit.formula}, with r the "
        "score of a response. A run does not store them."
    )
    algorithm = replace(algorithm, drop=drop_none).in_units(low, high)
    return Crediting(algorithm=algorithm, max_new_tokens=most, why=why)


def advantages_of(group: Group, rejected: Sequence[str], crediting: Crediting) -> Advantages:
    """The advantages of a group's responses.

    Args:
        group: as it was stored.
        rejected: of each response, why it was not trained on; "" where it was.
        crediting: of the run.
    """
    none: tuple[float | None, ...] = (None,) * len(group.responses)
    if crediting.algorithm is None:
        return Advantages(values=none, why=crediting.why)
    if all(rejected):
        return Advantages(values=none, why="None of these responses was trained on, so they have no advantage.")
    if group.span_rewards:
        return Advantages(
            values=none,
            why="Advantages are not known: tokens have rewards of their own here, from which the learner's ranks make "
            "them, and they are not stored.",
        )
    plan = plan_step(
        [Summary.of(group, Times())],
        crediting.algorithm,
        updates=1,
        ranks=1,
        max_new_tokens=crediting.max_new_tokens,
    )
    credits = iter(np.nan_to_num(plan.ranks[0].shares[0].groups[0].credits or ()).tolist())
    scores = [group.verdicts[places.start].score for places in group.responses]
    of_scored = [None if score is None else next(credits) for score in scores]
    values = tuple(None if why else value for value, why in zip(of_scored, rejected, strict=True))
    return Advantages(values=values, why=crediting.why)
