"""A reward model in an actor of its own, as on GPUs, that real verifiers ask."""

import sys
from pathlib import Path
from typing import Any

import pytest

from rewards import Case, Outcome, Question, RewardSettings
from tests.rewards.models.test_models import set_by_hand, write


@pytest.fixture
def settings(tmp_path: Path) -> RewardSettings:
    """A model that likes what ends in "a"."""
    vocabulary, network = write(tmp_path, "whole", labels=1)
    set_by_hand(tmp_path, vocabulary, network, {"a": [2.0], "b": [-2.0]})
    return RewardSettings(name="model", model={"path": str(tmp_path), "device": "gpu"})


def task_of(settings: RewardSettings, *responses: str) -> Any:
    from dataclasses import replace

    from cluster.config.reading import config_of
    from cluster.running.specs import scorer_tasks

    tree = {"world": {"name": "addition"}, "reward": {"name": "model", "model": settings.of("model").model_dump()}}
    (task,) = scorer_tasks(config_of(tree), ["model"])
    return replace(task, batches=[[Case(response=each, reference="") for each in responses]])


def test_a_scorer_reads_its_model_at_the_start_and_says_why_it_cannot(settings: RewardSettings, tmp_path: Path) -> None:
    from actors.grading.scorer import ScorerModel

    scorer = ScorerModel()
    scorer.start(task_of(settings))
    assert [one.outcome for one in scorer.results(task_of(settings, "bba", "ab"))] == [Outcome.CORRECT, Outcome.WRONG]
    missing = RewardSettings(name="model", model={"path": str(tmp_path / "none")})
    with pytest.raises(RuntimeError, match="model failed: ValueError: path must be a model folder"):
        scorer.start(task_of(missing))


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_verifiers_ask_the_scorer_and_a_scorer_that_was_killed_costs_no_verdict(settings: RewardSettings) -> None:
    import ray

    from actors.grading.scorer import ScorerModel
    from actors.grading.verifier import VERIFIER_THREADS, Verifier

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        env = {"runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}, "num_cpus": 0}
        again = {"max_restarts": -1, "max_task_retries": 1}
        scorer = ray.remote(ScorerModel).options(name="scorer-model", **env, **again).remote()
        ray.get(scorer.start.remote(task_of(settings)))
        grades = ray.remote(concurrency_groups=VERIFIER_THREADS)(Verifier)
        verifiers = [grades.options(**env).remote({}, {"model": "scorer-model"}) for _ in range(2)]

        def graded() -> list[list[Outcome]]:
            asked = [Question(reward="model", case=Case(response=end, reference=""), settings=settings) for end in "ab"]
            verdicts = ray.get([verifier.grade.remote(asked) for verifier in verifiers])
            return [[verdict.outcome for verdict in each] for each in verdicts]

        assert graded() == [[Outcome.CORRECT, Outcome.WRONG]] * 2
        assert ray.get([verifier.__ray_call__.remote(_workers) for verifier in verifiers]) == [[], []]
        ray.kill(scorer, no_restart=False)
        assert graded() == [[Outcome.CORRECT, Outcome.WRONG]] * 2
        ray.get([verifier.stop.remote() for verifier in verifiers])
    finally:
        ray.shutdown()


def _workers(verifier: Any) -> list[str]:
    """The places in which a verifier has processes of its own: none for what a scorer answers."""
    return list(verifier._grader._workers)
