from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import Layout, Nodes, Wanted, plan_layout

LAPTOP = {"here": {"CPU": 2.0, "GPU": 0.0}}


def nodes(count: int, gpus: float = 8.0, cpus: float = 96.0) -> dict[str, dict[str, float]]:
    return {f"node-{index}": {"CPU": cpus, "GPU": gpus} for index in range(count)}


def on_gpus(count: int, settings: ClusterSettings, **more: tuple[str, ...]) -> Layout:
    """A layout on nodes of 8 GPUs."""
    return plan_layout(Wanted(cluster=settings, on_gpu=True, **more), nodes(count))


def numbers(layout: Layout, kind: str) -> list[list[int]]:
    """The numbers of the actors of a kind, by bundle."""
    found = [[int(name.rpartition("-")[2]) for name in b.actors if name.startswith(kind)] for b in layout.bundles]
    return [bundle for bundle in found if bundle]


def fits(layout: Layout, there: Nodes) -> bool:
    """Whether the bundles fit, the largest first, each on the fullest node that takes it: much as Ray places them."""
    left = {name: [has.get("GPU", 0.0), has.get("CPU", 0.0)] for name, has in there.items()}
    for bundle in sorted(layout.bundles, key=lambda each: (-each.gpus, -each.cpus)):
        takes = [has for has in left.values() if has[0] + 1e-6 >= bundle.gpus and has[1] + 1e-6 >= bundle.cpus]
        if not takes:
            return False
        node = min(takes)
        node[0], node[1] = node[0] - bundle.gpus, node[1] - bundle.cpus
    return True


def test_a_laptop_with_two_cores_hosts_the_demo_and_two_learner_ranks() -> None:
    for cluster in (ClusterSettings(), ClusterSettings(learner_ranks=2)):
        layout = plan_layout(Wanted(cluster=cluster, on_gpu=False), LAPTOP)
        assert layout.verifiers == 1
        assert layout.cpus <= 2.0


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
    layout = on_gpus(-(-gpus // 8), settings)
    assert layout.gpus == gpus
    assert fits(layout, nodes(-(-gpus // 8)))


def test_ranks_of_a_node_share_a_bundle_and_only_the_rest_has_a_smaller_one() -> None:
    layout = on_gpus(2, ClusterSettings(learner_ranks=10, generators=6))
    assert numbers(layout, "learner-rank-") == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    assert numbers(layout, "generator-") == [[0, 1, 2, 3, 4, 5]]
    assert layout.share_of("learner-rank-9") == (1.0, 1.0)
    assert layout.bundles[0].resources == {"CPU": 8.0, "GPU": 8.0}


def test_two_nodes_of_eight_are_one_for_learning_and_one_for_sampling() -> None:
    layout = on_gpus(2, ClusterSettings(learner_ranks=8, generators=4, tensor_parallel=2))
    assert numbers(layout, "learner-rank-") == [list(range(8))]
    assert numbers(layout, "generator-") == [list(range(4))]
    assert layout.share_of("generator-3") == (1.0, 2.0)


def test_a_colocated_generator_shares_its_gpu_with_its_learner_rank() -> None:
    layout = on_gpus(1, ClusterSettings(colocate=True, generators=2, learner_ranks=2))
    assert layout.bundle_of("generator-1") == layout.bundle_of("learner-rank-1")
    assert layout.share_of("generator-1") == (1.0, 0.5)


def test_colocated_ranks_are_numbered_node_by_node_wherever_ray_puts_their_bundles() -> None:
    layout = on_gpus(1, ClusterSettings(colocate=True, generators=4, learner_ranks=4, verifiers=1))
    put = ["b", "a", "b", "a", "a", "b"]  # four pairs, a verifier, the filter
    places = layout.places(put)
    assert [put[places[layout.bundle_of(f"learner-rank-{rank}")]] for rank in range(4)] == ["a", "a", "b", "b"]
    assert places[4:] == (4, 5)
    assert on_gpus(1, ClusterSettings(verifiers=1)).places(["b", "a", "a", "b"]) == (0, 1, 2, 3)


def test_a_run_that_samples_nothing_has_learner_ranks_alone_also_where_gpus_would_be_shared() -> None:
    settings = ClusterSettings(colocate=True, generators=2, learner_ranks=2).model_copy(update={"generators": 0})
    assert numbers(on_gpus(1, settings), "learner-rank-") == [[0, 1]]


def test_a_tensor_parallel_engine_never_spans_nodes() -> None:
    with pytest.raises(ConfigError, match=r"no room for generator-0 \(1 CPUs and 16 GPUs on one node\)"):
        on_gpus(4, ClusterSettings(tensor_parallel=16))


def test_judges_and_scorers_have_gpus_of_their_own() -> None:
    layout = on_gpus(1, ClusterSettings(tensor_parallel=2), judges=("safe",), scorers=("model", "process"))
    assert layout.gpus == 1 + 2 + 2 + 1 + 1
    assert layout.share_of("judge-safe") == (1.0, 2.0)
    assert layout.share_of("scorer-process") == (1.0, 1.0)


def test_too_few_resources_are_named_as_wanted_and_available() -> None:
    wanted = Wanted(cluster=ClusterSettings(generators=4, learner_ranks=4), on_gpu=False)
    with pytest.raises(ConfigError, match=r"wants 3\.4 CPUs and 0 GPUs.*Available: here: 2 CPUs, 0 GPUs"):
        plan_layout(wanted, LAPTOP)


@pytest.mark.parametrize(
    ("cpus", "gpus", "count"),
    [(96.0, 8.0, 64), (16.0, 2.0, 6), (4.0, 2.0, 1), (2.0, 2.0, 1), (64.0, 0.0, 8), (2.0, 0.0, 1)],
)
def test_there_are_as_many_verifiers_as_the_cpus_suggest(cpus: float, gpus: float, count: int) -> None:
    there = nodes(2 if cpus == 96.0 else 1, gpus, cpus)
    assert plan_layout(Wanted(cluster=ClusterSettings(), on_gpu=gpus > 0), there).verifiers == count


def test_a_small_machine_with_a_gpu_shares_its_cores_among_actors() -> None:
    wanted = Wanted(cluster=ClusterSettings(colocate=True), on_gpu=True)
    layout = plan_layout(wanted, nodes(1, gpus=1.0, cpus=2.0))
    assert layout.cpus <= 2.0
    assert layout.gpus == 1.0


@settings(deadline=None)
@given(
    ranks=some.integers(1, 300),
    engines=some.integers(1, 200),
    width=some.sampled_from([1, 2, 4, 8]),
    judges=some.integers(0, 3),
    scorers=some.integers(0, 3),
)
def test_whatever_has_room_on_nodes_of_eight_is_planned_and_fits(
    ranks: int, engines: int, width: int, judges: int, scorers: int
) -> None:
    wide = -(-(engines + judges) // (8 // width))  # nodes that engines and judges fill, the last of them in part
    singles = ranks + scorers
    count = max(wide, -(-((engines + judges) * width + singles) // 8))
    more = {"judges": tuple("abc"[:judges]), "scorers": tuple("abc"[:scorers])}
    settings = ClusterSettings(learner_ranks=ranks, generators=engines, tensor_parallel=width, verifiers=1)
    layout = on_gpus(count, settings, **more)
    assert layout.gpus == (engines + judges) * width + singles
    assert fits(layout, nodes(count))
    for kind, size in (("learner-rank-", ranks), ("generator-", engines)):
        bundles = numbers(layout, kind)
        assert [number for bundle in bundles for number in bundle] == list(range(size))
        assert all(bundle == list(range(bundle[0], bundle[-1] + 1)) for bundle in bundles)
    assert max(bundle.gpus for bundle in layout.bundles) <= 8
    assert max(Counter(name for bundle in layout.bundles for name in bundle.actors).values()) == 1
