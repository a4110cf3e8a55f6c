"""A training that goes on from its checkpoint ends in the same bits as one that was never interrupted."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from actors.data.world import write_addition
from learner.methods.algorithms import algorithm_of
from learner.settings import AdapterSettings, LearnerSettings, WarmupSettings
from learner.types import STATE, LearnerState, Schedule
from tests.learner.test_engine import LIVING, spec_of, started, train

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
SCHEDULE = Schedule(lr=1e-3, updates=8, warmup=3, end=0.25)
FINE = 64  # tokens of a chunk of logits at which these ranks have shards gathered at every use


@pytest.fixture(scope="module")
def model(model: Path) -> Path:
    """With worked answers beside it."""
    write_addition(model / "world", digits=1, prompts=1, worked=24, seed=0)
    return model


def saved(actors: list, folder: Path) -> LearnerState:
    ray.get([one.save_checkpoint.remote(folder) for one in actors])
    problems = [share.problem for share in ray.get([one.finish_checkpoint.remote() for one in actors])]
    assert problems == [""] * len(actors)
    return ray.get(actors[0].save.remote())


def same(one: Any, other: Any, where: str = "") -> None:
    """Two trees of tensors and values are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}/{number}")
    elif not hasattr(one, "__dict__"):
        assert one == other, where


def same_folders(one: Path, other: Path) -> None:
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert any(name.suffix == ".pt" for name in names)
    for name in names:
        if name.suffix == ".pt":
            a, b = (torch.load(folder / name, weights_only=False) for folder in (one, other))
            same(a, b, str(name))
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


CASES: dict[str, dict[str, Any]] = {
    "without ZeRO": {"stage": 0, "ranks": 1},
    "without ZeRO on two ranks": {"stage": 0, "ranks": 2},
    "ZeRO 1 in bfloat16": {"stage": 1, "ranks": 2, "dtype": "bfloat16"},
    "ZeRO 2, optimizer offloaded": {"stage": 2, "ranks": 1, "offload": "optimizer"},
    "ZeRO 2, in bfloat16": {"stage": 2, "ranks": 2, "dtype": "bfloat16"},
    "ZeRO 3": {"stage": 3, "ranks": 2, "logit_chunk": FINE},
    "ZeRO 3 in bfloat16, all offloaded": {"stage": 3, "ranks": 1, "dtype": "bfloat16", "offload": "weights"},
    "adapter": {"stage": 0, "ranks": 1, "adapter": AdapterSettings(rank=8)},
    "adapter at ZeRO 2": {"stage": 2, "ranks": 2, "adapter": AdapterSettings(rank=8)},
    "adapter at ZeRO 3": {"stage": 3, "ranks": 2, "adapter": AdapterSettings(rank=8), "logit_chunk": FINE},
    "critic": {"stage": 3, "ranks": 2, "name": "ppo"},
    "process rewards": {"stage": 2, "ranks": 1, "name": "prime"},
    "a reference that moves": {"stage": 3, "ranks": 2, "name": "grpo", "kl_loss": 0.1, "reference_every": 2},
    "a reference that moves, of an adapter": {
        **{"stage": 0, "ranks": 1, "name": "grpo", "kl_loss": 0.1, "reference_every": 2},
        "adapter": AdapterSettings(rank=8),
    },
    "a baseline that moves": {"stage": 0, "ranks": 1, "name": "reinforce-baseline"},
    "worked answers": {"stage": 0, "ranks": 2, "imitation": 0.3},
}


@pytest.mark.parametrize("case", CASES)
def test_steps_after_a_checkpoint_are_the_same_bits_in_a_session_that_goes_on_from_it(
    case: str, model: Path, tmp_path: Path
) -> None:
    more = dict(CASES[case])
    stage, ranks, dtype = more.pop("stage"), more.pop("ranks"), more.pop("dtype", "float32")
    pieces = {name: more.pop(name) for name in ("kl_loss", "imitation") if name in more}
    algorithm = replace(algorithm_of(more.pop("name", "reinforce-rej")), **pieces)
    settings = LearnerSettings(zero_stage=stage, micro_batch_tokens=64, grad_clip=0.5, side_lr=1e-3, **more)
    warmup = WarmupSettings(path=str(model / "world/worked.jsonl"), batch=8)
    spec = spec_of(settings, algorithm, dtype, warmup)
    if ranks not in LIVING:
        LIVING[ranks] = started(ranks)
    actors = LIVING[ranks]

    def opened() -> None:
        ray.get([one.open_training.remote(spec, model, SCHEDULE) for one in actors])

    opened()
    for _ in range(3):
        train(actors, 2, algorithm)
    state = saved(actors, tmp_path / "middle")
    wanted = train(actors, 2, algorithm)
    wanted_state = saved(actors, tmp_path / "wanted")
    opened()
    ray.get([one.restore.remote(state, tmp_path / "middle") for one in actors])
    found = train(actors, 2, algorithm)
    assert found == wanted
    assert saved(actors, tmp_path / "found") == wanted_state
    same_folders(tmp_path / "found", tmp_path / "wanted")
    assert [one.lr for one in found] == pytest.approx([SCHEDULE.lr * SCHEDULE.factor(number) for number in (6, 7)])
    assert (tmp_path / "middle" / STATE / "random-0.json").is_file()
