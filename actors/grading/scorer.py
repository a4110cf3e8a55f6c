"""The scorer: a reward model of the run with a GPU of its own, in a Ray actor that verifiers ask."""

from collections.abc import Mapping, Sequence

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.deaths import told
from actors.grading.client import ScorerClient
from rewards import (
    START_OF_MODEL_SECONDS,
    Budget,
    Case,
    KindSettings,
    Outcome,
    RewardResult,
    Task,
    answered,
)

NOTHING = Case(response="", reference="")  # a model is read for it, and has nothing to score in it


class ScorerModel:
    """The model of one reward, read when it is first needed. It can be killed and started again any time."""

    def start(self, task: Task) -> None:
        """Reads the model of a reward.

        Args:
            task: of the reward, without cases.

        Raises:
            RuntimeError: it cannot be read.
        """
        (result,) = answered(task, [NOTHING])
        if result.outcome is Outcome.ERROR:
            raise RuntimeError(result.why)

    def results(self, task: Task) -> list[RewardResult]:
        """The result of each case of a task."""
        return [result for cases in task.batches for result in answered(task, cases)]


def ask_scorer(
    scorers: Mapping[str, str], name: str, cases: Sequence[Case], settings: KindSettings, budget: Budget
) -> list[RewardResult]:
    """The results of the reward `name` from its scorer actor; without an answer in time there is no verdict.

    Args:
        scorers: name of a reward -> name of its scorer actor.
        name: of the reward.
        cases: responses to score.
        settings: of the reward.
        budget: what each case may take.
    """
    scorer = ScorerClient(ray.get_actor(scorers[name]), scorers[name])
    task = Task(name=name, settings=settings, budget=budget, batches=[list(cases)])
    try:
        return scorer.results(task, START_OF_MODEL_SECONDS + budget.seconds * len(cases))
    except GetTimeoutError:
        lost = RewardResult(outcome=Outcome.TIMEOUT, why=f"{name}: no answer in time")
    except RayError as failure:
        lost = RewardResult(outcome=Outcome.ERROR, why=told(failure, name, lines=False))
    return [lost] * len(cases)
