import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.budget import GIB
from cluster.preparing.memory import GPU, Memory, memory_plan
from cluster.preparing.ratio import Choice, Division, Work, divisions, estimated_work, work_of_run

CLUSTER = {"learner_ranks": 4, "tensor_parallel": 2, "colocate": False}
STEP = {"generators": 2, "busy_generators": 0.5, "seconds_wait_verify": 10.0}
STEP |= {"seconds_wait": 30.0, "seconds_train": 60.0, "seconds_sync": 5.0, "seconds_other": 5.0}
QWEN = str(Path(__file__).parents[2] / "data/qwen2.5-7b")


def config(staleness: int = 1, **cluster: Any) -> RunConfig:
    rollout = {"max_staleness": staleness, "groups_per_step": 128, "group_size": 8, "max_new_tokens": 4096}
    tree = {"model": {"path": QWEN}, "data": {"path": "train.jsonl"}, "cluster": cluster, "rollout": rollout}
    return config_of(tree).on_device(True)


def folder(tmp_path: Path, steps: list[dict[str, Any]], **cluster: Any) -> Path:
    settings = CLUSTER | cluster
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (tmp_path / "config.toml").write_text("\n".join(["[cluster]", *lines]))
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(step) for step in steps))
    return tmp_path


def test_the_work_of_a_step_is_that_of_the_middle_step_of_a_run(tmp_path: Path) -> None:
    slow = STEP | {"seconds_train": 600.0}
    work = work_of_run(folder(tmp_path, [slow, STEP, STEP]))
    assert work.training == 60 * 4
    assert work.sampling == (0.5 * 100 - 10) * 2 * 2  # busy for half of 100 s, of which 10 s for verdicts
    assert work.verdicts == 0.1
    assert str(tmp_path) in work.source


def test_generators_that_rest_on_shared_gpus_sample_while_the_learner_waits(tmp_path: Path) -> None:
    shared = folder(tmp_path, [STEP | {"busy_generators": 1.0}], colocate=True, tensor_parallel=1)
    assert work_of_run(shared).sampling == (30 - 10) * 2


@pytest.mark.parametrize("text", ["", "{}", "no json"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"--from takes the folder of a run"):
        work_of_run(tmp_path)


def test_stages_that_overlap_get_gpus_by_their_work_and_stages_that_take_turns_by_its_root() -> None:
    work = Work(sampling=100.0, training=400.0, source="it took")
    told = Choice(config=config(generators=30, learner_ranks=30), work=work, gpus=60, fits=lambda _: True).line()
    assert told.endswith("; cluster.generators = 12 and cluster.learner_ranks = 48 on 60 GPUs would take 8.33 s")
    assert "at the same time: 30 generators and 30 ranks take 13.3 s a step" in told
    told = Choice(config=config(0, generators=30, learner_ranks=30), work=work, gpus=60, fits=lambda _: True).line()
    assert told.endswith("cluster.generators = 20 and cluster.learner_ranks = 40 on 60 GPUs would take 15 s")


def test_what_does_not_fit_is_not_proposed_and_what_saves_little_neither() -> None:
    work = Work(sampling=100.0, training=400.0, source="it took", verdicts=0.4)
    told = Choice(
        config=config(generators=30, learner_ranks=30), work=work, gpus=60, fits=lambda way: way.ranks <= 40
    ).line()
    assert "cluster.generators = 20 and cluster.learner_ranks = 40 on" in told
    assert told.endswith("For 40% of a step verdicts alone were waited for: cluster.verifiers first")
    told = Choice(config=config(generators=12, learner_ranks=47), work=work, gpus=60, fits=lambda _: True).line()
    assert "no other division of 60 GPUs would save a twentieth" in told


@given(gpus=some.integers(2, 64), width=some.sampled_from([1, 2, 4, 8]), most=some.integers(1, 64))
def test_a_division_never_takes_more_gpus_than_there_are(gpus: int, width: int, most: int) -> None:
    for way in divisions(gpus, width, most):
        assert way.generators * width + way.ranks <= gpus
        assert 1 <= way.ranks <= most


def test_an_estimate_grows_with_what_is_sampled_and_trained() -> None:
    run = config(generators=4, learner_ranks=4)
    plan = memory_plan(run, Memory(where=GPU, size=80 * GIB), 1024 + 4096)
    work = estimated_work(run, plan)
    assert work is not None
    # 4 passes forward and backward, one forward and one again: 8 operations a parameter for each of 3 M tokens
    assert work.training == pytest.approx(8 * 7.6e9 * 1024 * (1024 + 2048) / 4e14, rel=0.01)
    assert 10 < work.sampling < work.training
    fewer = run.model_copy(update={"cluster": run.cluster.model_copy(update={"generators": 64})})
    apart = estimated_work(fewer, plan)
    assert apart is not None
    assert apart.sampling > 2 * work.sampling  # engines with few responses read their weights for few tokens
    assert estimated_work(run, None) is None


def test_a_division_is_as_slow_as_the_slower_stage() -> None:
    work = Work(sampling=100.0, training=30.0, source="")
    assert Division(generators=5, ranks=10).seconds(work, 2, turns=False) == 10.0
    assert Division(generators=5, ranks=10).seconds(work, 2, turns=True) == 13.0
