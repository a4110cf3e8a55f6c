"""Layouts on a real Ray cluster of three nodes on this machine, which say that they have 8, 8 and 5 GPUs."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table, remove_placement_group

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.sections import ClusterSettings
from cluster.placement.elastic import Unit, found_room
from cluster.placement.holders import with_holders
from cluster.placement.layout import Bundle, Layout, NoRoom, Wanted, plan_layout
from cluster.placement.node import emptied, in_words
from cluster.placement.nodes import nodes_there
from cluster.placement.placing import Placed, reserve
from cluster.placement.sight import NodeFiles
from learner.types import free_port

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("three_nodes"),
    # Ray's Cluster leaves a socket open until it is collected as garbage.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file


@pytest.fixture(scope="module")
def three_nodes(_runs: Any) -> Iterator[None]:
    _runs.end()
    head = {"num_cpus": 40, "num_gpus": 8, "include_dashboard": True, "dashboard_port": free_port()}
    there = Cluster(initialize_head=True, head_node_args=head)
    there.add_node(num_cpus=40, num_gpus=8)
    there.add_node(num_cpus=40, num_gpus=5, resources={"fast": 2}, labels={"ray.io/market-type": "spot"})
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
    there = Placed(layout, "test")
    wait_until(lambda: free_gpus() == [5.0, 8.0, 8.0])
    try:
        there.place(60.0)
        actors = {}
        for name in names:
            strategy, cpus, gpus = there.spot_of(name)
            options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": strategy}
            actors[name] = ray.remote(Looking).options(**options).remote()
        found = dict(zip(names, ray.get([actor.gpus.remote() for actor in actors.values()]), strict=True))
        assert all(there.node_of(name) == node for name, (node, _) in found.items())
        return found
    finally:
        there.remove()


def nodes_of(layout: Layout) -> dict[str, str]:
    """The node on which Ray places each actor of a layout; none is started."""
    there = Placed(layout, "test")
    wait_until(lambda: free_gpus() == [5.0, 8.0, 8.0])
    try:
        there.place(60.0)
        return {name: there.node_of(name) for bundle in layout.bundles for name in bundle.actors}
    finally:
        there.remove()


def wanted(**cluster: Any) -> Layout:
    """A layout on all of the nodes."""
    return plan_layout(Wanted(cluster=ClusterSettings(verifiers=4, **cluster), on_gpu=True), emptied(nodes_there()))


def free_gpus() -> list[float]:
    """Of each node, the fewest first."""
    return sorted(node.free.get("GPU", 0.0) for node in nodes_there().values())


def wait_until(what: Callable[[], bool]) -> None:
    """Ray gives resources back, and says what is free, a while after it was asked to."""
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


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
    layout = wanted(learner_ranks=10, generators=10, colocate=True)
    found = placed(layout, ["learner-rank-0", "generator-0", "learner-rank-9", "generator-9"])
    assert found["learner-rank-0"] == found["generator-0"]
    assert found["learner-rank-9"] == found["generator-9"]
    nodes = nodes_of(layout)
    assert all(nodes[f"learner-rank-{n}"] == nodes[f"generator-{n}"] for n in range(10))
    ranks = [nodes[f"learner-rank-{n}"] for n in range(10)]
    assert sum(one != next_one for one, next_one in pairwise(ranks)) == 1


def test_each_actor_gets_a_bundle_of_its_own_where_ray_misses_the_places_of_larger_ones() -> None:
    layout = wanted(learner_ranks=5, generators=16)
    assert [bundle.gpus for bundle in layout.bundles[:3]] == [5.0, 8.0, 8.0]
    engines = layout.bundles[1].apart
    halves = [
        Bundle(actors=tuple(one.actors[0] for one in half), cpus=4.0, gpus=4.0, units=4)
        for half in (engines[:4], engines[4:])
    ]
    cut = replace(layout, bundles=(layout.bundles[0], *halves, *layout.bundles[2:]))  # Ray gives an 8 to the 5
    nodes = nodes_of(cut)
    assert len({nodes[f"learner-rank-{n}"] for n in range(5)}) == 1
    assert sorted(Counter(node for name, node in nodes.items() if name[0] in "lg").values()) == [5, 8, 8]


def test_spot_nodes_and_custom_resources_are_for_whom_the_settings_send_there() -> None:
    there = {"generator": {"ray.io/market-type": "spot", "fast": 1.0}}
    nodes = nodes_of(wanted(learner_ranks=8, generators=2, nodes=there))
    spot = {node["NodeID"] for node in ray.nodes() if node["Labels"].get("ray.io/market-type") == "spot"}
    assert {name for name, node in nodes.items() if node in spot} == {"generator-0", "generator-1"}
    with pytest.raises(
        NoRoom, match=r"generator-2 .*only where there is ray\.io/market-type = spot and 1 of fast: 1 of 3"
    ):
        wanted(generators=3, nodes=there)


def test_an_elastic_generator_goes_where_generators_are_sent() -> None:
    layout = wanted(nodes={"generator": {"ray.io/market-type": "spot"}})
    group = asyncio.run(found_room(Unit.like(layout, 1), "test"))
    (node,) = placement_group_table(group)["bundles_to_node_id"].values()
    remove_placement_group(group)
    assert [each["Labels"]["ray.io/market-type"] for each in ray.nodes() if each["NodeID"] == node] == ["spot"]


def test_nodes_on_one_host_are_told_apart_and_what_is_free_of_each_is_said_with_who_holds_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = reserve([Bundle(actors=(), cpus=3.0, gpus=8.0)] * 2, "theirs")
    ray.get(others.ready())
    try:
        wait_until(lambda: free_gpus() == [0.0, 0.0, 5.0])
        nodes = with_holders(nodes_there())
        assert len(nodes) == 3
        said = in_words(nodes)
        assert said.count("0 of 8 GPUs and 37 of 40 CPUs free (job 01000000 ") == 1  # two nodes of which this holds
        assert "the run 'theirs': 8 GPUs and 3 CPUs) each" in said
        assert "5 of 5 GPUs" in said
        monkeypatch.setattr("cluster.placement.holders.get_dashboard_url", lambda: "")
        assert "free (the run 'theirs': 8 GPUs and 3 CPUs) each" in in_words(with_holders(nodes_there()))
        with pytest.raises(NoRoom, match=r"no room for learner-rank-5 .*the run 'theirs'"):
            plan_layout(Wanted(cluster=ClusterSettings(learner_ranks=8), on_gpu=True), nodes)
        taken = Placed(wanted(learner_ranks=8), "mine", say=(heard := list[str]()).append)
        with pytest.raises(
            ConfigError, match=r"wants 14 CPUs and 9 GPUs.*within 1 s\. There is now: .*'theirs': 8 GPUs"
        ):
            taken.place(1.0)
        assert heard == []
        taken.remove()
    finally:
        remove_placement_group(others)


def test_actors_outside_of_groups_are_named_by_their_job() -> None:
    actor = ray.remote(Looking).options(num_cpus=2, num_gpus=3).remote()
    ray.get(actor.gpus.remote())
    wait_until(lambda: 2.0 in free_gpus() or free_gpus().count(5.0) == 2)
    held = [each.held for each in with_holders(nodes_there()).values() if each.held]
    ray.kill(actor)
    assert next(part for each in held for part in each if part.endswith(": 3 GPUs and 2 CPUs")).startswith(
        "job 01000000"
    )


def test_a_node_that_does_not_have_the_model_ends_the_start(tmp_path: Path) -> None:
    tree = {"model": {"path": str(tmp_path)}, "data": {"path": "rows.jsonl"}}
    hosts = {node["NodeID"]: ["generator-0"] for node in ray.nodes()}
    check_files(tree, hosts)
    tree["model"]["path"] = str(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"on .*, .*: there is no .*missing \(model\.path\)"):
        check_files(tree, hosts)
    check_files(tree, {node: ["verifier-0"] for node in hosts})  # where nobody reads it it may be missing


def check_files(tree: dict[str, Any], places: dict[str, list[str]]) -> None:
    """Has nodes look whether they have what a run of these settings reads there."""
    prepared: Any = SimpleNamespace(config=config_of(tree), copies=(), folder=None)
    NodeFiles(prepared).check(places)
