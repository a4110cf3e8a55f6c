"""Where weights must travel between places that a back end cannot reach, the run file is refused."""

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.placement.node import Node
from cluster.placement.session import layout_for

GPUS = {"node": Node.unused({"CPU": 32.0, "GPU": 8.0})}
CORES = {"node": Node.unused({"CPU": 8.0})}


def run(backend: str = "auto", **cluster: object) -> RunConfig:
    return config_of({"world": {"name": "addition"}, "sync": {"backend": backend}, "cluster": cluster})


def test_nccl_is_refused_on_shared_gpus() -> None:
    with pytest.raises(ConfigError, match=r'"nccl" cannot join two processes on one GPU.*set sync\.backend to "ipc"'):
        run("nccl", colocate=True)


def test_ipc_is_refused_where_no_gpu_is_shared() -> None:
    with pytest.raises(ConfigError, match=r'"ipc" moves weights through memory of a GPU.*set cluster\.colocate = true'):
        run("ipc")


def test_back_ends_of_gpus_are_refused_on_cpus_as_soon_as_the_device_is_known() -> None:
    with pytest.raises(
        ConfigError, match=r"sync\.backend = 'nccl' moves weights between GPUs, and this run is on CPUs"
    ):
        run("nccl", device="cpu")
    with pytest.raises(ConfigError, match="this run is on CPUs"):
        layout_for(run("nccl"), CORES)
    assert layout_for(run("nccl"), GPUS).on_gpu


@pytest.mark.parametrize("colocate", [False, True])
def test_gloo_and_the_automatic_choice_go_everywhere(colocate: bool) -> None:
    for backend in ("auto", "gloo"):
        for nodes in (GPUS, CORES):
            layout_for(run(backend, colocate=colocate), nodes)


def test_an_engine_that_leaves_the_learner_no_memory_is_refused_with_the_reason() -> None:
    tree = {"world": {"name": "addition"}, "generator": {"memory_share": 0.8}}
    assert config_of(tree).on_device(True).generator.memory_share == 0.8
    with pytest.raises(ConfigError, match=r"memory_share must be at most 0\.6 with cluster\.colocate, got 0\.8"):
        config_of({**tree, "cluster": {"colocate": True}})


def test_keys_that_a_rest_forgets_cannot_be_kept() -> None:
    tree = {"world": {"name": "addition"}, "cluster": {"colocate": True}, "learner": {"algorithm": "grpo"}}
    for in_flight in ("continue", "finish"):
        config_of({**tree, "sync": {"in_flight": in_flight}})
    tree["objective"] = {"mismatch": "truncate"}
    with pytest.raises(ConfigError, match=r'"keep" goes on with the keys and values of old weights, which engines'):
        config_of({**tree, "sync": {"in_flight": "keep"}})


def test_what_is_unset_of_the_generators_depends_on_the_device_and_on_who_shares_it() -> None:
    settled = [run(colocate=colocate).on_device(on_gpu).generator for on_gpu, colocate in GRID]
    assert [each.max_sequences for each in settled] == [256, 512, 512]
    assert [each.memory_share for each in settled[1:]] == [0.85, 0.35]
    mine = config_of({"world": {"name": "addition"}, "generator": {"max_sequences": 7}})
    assert mine.on_device(True).generator.max_sequences == 7


GRID = [(False, False), (True, False), (True, True)]


def test_a_reward_model_has_a_gpu_of_its_own_where_there_are_any_and_the_run_does_not_say_otherwise() -> None:
    def scorers(device: str, on_gpu: bool) -> list[str]:
        reward = {"name": "model", "model": {"path": "/models/liking", "device": device}}
        return list(config_of({"world": {"name": "addition"}, "reward": reward}).hosted_scorers(on_gpu))

    assert scorers("auto", True) == ["model"]
    assert scorers("auto", False) == scorers("cpu", True) == []
    reward = {"name": "model", "model": {"path": "/models/liking", "device": "gpu"}}
    config = config_of({"world": {"name": "addition"}, "reward": reward})
    assert layout_for(config, GPUS).gpus == 3
    with pytest.raises(ConfigError, match=r'reward\.model\.device = "gpu" wants a GPU'):
        layout_for(config, CORES)
