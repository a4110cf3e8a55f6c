"""Layouts on a real Ray cluster of two nodes that say of themselves that they have eight GPUs each."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.sections import ClusterSettings
from cluster.placement.actors import _nodes_of, _wait_for
from cluster.placement.layout import Layout, Wanted, plan_layout
from cluster.placement.nodes import check_nodes, nodes_there

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("two_nodes"),
    # Ray's Cluster leaves a socket open until it is collected as garbage.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file


@pytest.fixture(scope="module")
def two_nodes(_runs: Any) -> Iterator[None]:
    _runs.end()
    there = Cluster(initialize_head=True, head_node_args={"num_cpus": 40, "num_gpus": 8, "include_dashboard": False})
    there.add_node(num_cpus=40, num_gpus=8)
    ray.init(address=there.address, log_to_driver=False)
    yield
    ray.shutdown()
    there.shutdown()


class Looking:
    """Says where it is."""

    def gpus(self) -> tuple[str, tuple[int, ...]]:
        """The node, and the numbers of its GPUs that this actor has."""
        return ray.get_runtime_context().get_node_id(), tuple(sorted(map(int, ray.get_gpu_ids())))


def placed(layout: Layout, names: list[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Where Ray puts actors of a layout: (node, numbers of its GPUs)."""
    group = placement_group([bundle.resources for bundle in layout.bundles], strategy="PACK")
    try:
        _wait_for(group, layout, 60.0)
        places = layout.places(_nodes_of(group, len(layout.bundles)))
        actors = {}
        for name in names:
            cpus, gpus = layout.share_of(name)
            strategy = PlacementGroupSchedulingStrategy(group, places[layout.bundle_of(name)])
            options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": strategy}
            actors[name] = ray.remote(Looking).options(**options).remote()
        return dict(zip(names, ray.get([actor.gpus.remote() for actor in actors.values()]), strict=True))
    finally:
        remove_placement_group(group)


def wanted(**cluster: Any) -> Layout:
    return plan_layout(Wanted(cluster=ClusterSettings(verifiers=4, **cluster), on_gpu=True), nodes_there())


def test_ranks_get_one_node_and_wide_engines_the_other_each_with_gpus_of_its_own() -> None:
    ranks, engines = [f"learner-rank-{n}" for n in range(8)], [f"generator-{n}" for n in range(4)]
    found = placed(wanted(learner_ranks=8, generators=4, tensor_parallel=2), [*ranks, *engines])
    assert len({found[name][0] for name in ranks}) == len({found[name][0] for name in engines}) == 1
    assert found["learner-rank-0"][0] != found["generator-0"][0]
    assert sorted(found[name][1] for name in ranks) == [(n,) for n in range(8)]
    engines_gpus = [found[name][1] for name in engines]
    assert all(len(each) == 2 for each in engines_gpus)
    assert sorted(number for each in engines_gpus for number in each) == list(range(8))


def test_colocated_pairs_share_one_gpu_and_ranks_are_numbered_node_by_node() -> None:
    names = [f"{kind}-{n}" for n in range(10) for kind in ("learner-rank", "generator")]
    found = placed(wanted(learner_ranks=10, generators=10, colocate=True), names)
    assert all(found[f"learner-rank-{n}"] == found[f"generator-{n}"] for n in range(10))
    assert len({found[f"learner-rank-{n}"] for n in range(10)}) == 10
    nodes = [found[f"learner-rank-{n}"][0] for n in range(10)]
    assert sum(one != next_one for one, next_one in pairwise(nodes)) == 1


def test_what_is_taken_by_others_is_said_with_what_is_wanted_and_free() -> None:
    others = placement_group([{"GPU": 8.0}] * 2, strategy="PACK")
    ray.get(others.ready())
    layout = wanted(learner_ranks=8)
    group = placement_group([bundle.resources for bundle in layout.bundles], strategy="PACK")
    try:
        with pytest.raises(ConfigError, match=r"wants 14 CPUs and 9 GPUs.*within 1 s\. Free now: .* and 0 GPUs"):
            _wait_for(group, layout, 1.0)
    finally:
        remove_placement_group(group)
        remove_placement_group(others)


def test_a_node_that_does_not_have_the_model_ends_the_start(tmp_path: Path) -> None:
    tree = {"model": {"path": str(tmp_path)}, "data": {"path": "rows.jsonl"}}
    hosts = [node["NodeID"] for node in ray.nodes()]
    check_nodes(config_of(tree), hosts, on_gpu=False)
    tree["model"]["path"] = str(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"on .*, .*: there is no model folder .*missing \(model\.path\)"):
        check_nodes(config_of(tree), hosts, on_gpu=False)
    check_nodes(config_of(tree), [], on_gpu=False)  # on a node that hosts nothing of the run it may be missing
