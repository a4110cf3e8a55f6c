import pytest

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import check_fits, plan_layout

LAPTOP = {"here": {"CPU": 2.0, "GPU": 0.0}}


def nodes(count: int) -> dict[str, dict[str, float]]:
    return {f"node-{index}": {"CPU": 96.0, "GPU": 8.0} for index in range(count)}


def test_a_laptop_with_two_cores_hosts_the_demo_and_two_learner_ranks() -> None:
    check_fits(plan_layout(ClusterSettings(), on_gpu=False), LAPTOP)
    check_fits(plan_layout(ClusterSettings(learner_ranks=2), on_gpu=False), LAPTOP)


@pytest.mark.parametrize(
    ("gpus", "settings"),
    [
        (1, ClusterSettings(colocate=True)),
        (8, ClusterSettings(generators=2, tensor_parallel=2, learner_ranks=4, verifiers=8)),
        (64, ClusterSettings(generators=12, tensor_parallel=4, learner_ranks=16, verifiers=64)),
        (1024, ClusterSettings(generators=96, tensor_parallel=8, learner_ranks=256, verifiers=512)),
    ],
)
def test_layouts_of_one_to_a_thousand_gpus_use_every_gpu_and_fit(gpus: int, settings: ClusterSettings) -> None:
    layout = plan_layout(settings, on_gpu=True)
    assert layout.gpus == gpus
    check_fits(layout, nodes(-(-gpus // 8)))


def test_a_colocated_generator_shares_its_gpu_with_its_learner_rank() -> None:
    layout = plan_layout(ClusterSettings(colocate=True, generators=2, learner_ranks=2), on_gpu=True)
    assert layout.bundle_of("generator-1") == layout.bundle_of("learner-rank-1")
    assert layout.share_of("generator-1") == (1.0, 0.5)


def test_a_tensor_parallel_engine_never_spans_nodes() -> None:
    layout = plan_layout(ClusterSettings(tensor_parallel=16), on_gpu=True)
    with pytest.raises(ConfigError, match=r"no room for generator-0 \(1 CPUs and 16 GPUs on one node\)"):
        check_fits(layout, nodes(4))


def test_too_few_resources_are_named_as_wanted_and_available() -> None:
    layout = plan_layout(ClusterSettings(generators=4, learner_ranks=4), on_gpu=False)
    with pytest.raises(ConfigError, match=r"wants 3\.4 CPUs and 0 GPUs.*Available: here: 2 CPUs, 0 GPUs"):
        check_fits(layout, LAPTOP)
