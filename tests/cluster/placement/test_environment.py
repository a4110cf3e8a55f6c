import pytest

from cluster.config.reading import ConfigError, config_of
from cluster.config.run_config import RunConfig
from cluster.config.sections import OWN_VARIABLES
from cluster.placement.environment import SHORT_SPINNING, environment, learner_environment


def run(**sections: dict) -> RunConfig:
    return config_of({"world": {"name": "addition"}, **sections})


def test_winnow_sets_only_variables_that_a_person_cannot() -> None:
    for on_gpu, dtype in ((True, "float32"), (True, "bfloat16"), (False, "float32")):
        config = run(model={"dtype": dtype})
        found = environment(config, "nccl" if on_gpu else "gloo", on_gpu=on_gpu)
        found |= learner_environment(config, on_gpu=on_gpu)
        assert set(found) <= OWN_VARIABLES | set(SHORT_SPINNING)


def test_threads_that_wait_on_busy_cores_soon_sleep_unless_a_person_says_otherwise() -> None:
    assert environment(run(), "gloo", on_gpu=False)["GOMP_SPINCOUNT"] == "1000"
    assert "GOMP_SPINCOUNT" not in environment(run(), "nccl", on_gpu=True)
    config = run(cluster={"env": {"GOMP_SPINCOUNT": "INFINITY"}})
    assert environment(config, "gloo", on_gpu=False)["GOMP_SPINCOUNT"] == "INFINITY"


def test_a_persons_variables_reach_all_actors() -> None:
    config = run(cluster={"env": {"NCCL_SOCKET_IFNAME": "eth0"}})
    assert environment(config, "nccl", on_gpu=True)["NCCL_SOCKET_IFNAME"] == "eth0"


def test_a_variable_that_winnow_sets_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.env must not hold CUDA_VISIBLE_DEVICES: winnow sets that itself"):
        run(cluster={"env": {"CUDA_VISIBLE_DEVICES": "0"}})
    with pytest.raises(ConfigError, match=r"cluster\.env must hold names of environment variables, got 'A=B'"):
        run(cluster={"env": {"A=B": "1"}})


def test_float32_on_a_gpu_is_computed_in_float32_and_bfloat16_needs_no_word() -> None:
    exact = environment(run(model={"dtype": "float32"}), "nccl", on_gpu=True)
    assert exact["TRITON_F32_DEFAULT"] == "ieee"
    assert exact["NVIDIA_TF32_OVERRIDE"] == exact["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "0"
    assert "TRITON_F32_DEFAULT" not in environment(run(model={"dtype": "bfloat16"}), "nccl", on_gpu=True)


def test_only_a_back_end_that_pickles_is_allowed_to() -> None:
    allowed = {
        name: environment(run(), name, on_gpu=True)["VLLM_ALLOW_INSECURE_SERIALIZATION"] for name in ("nccl", "ipc")
    }
    assert allowed == {"nccl": "0", "ipc": "1"}


def test_memory_of_a_shared_gpu_can_be_handed_to_the_engine() -> None:
    assert learner_environment(run(), on_gpu=True) == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert learner_environment(run(cluster={"colocate": True}), on_gpu=True) == {}
    assert learner_environment(run(), on_gpu=False) == {}
