from dataclasses import replace

import pytest

from cluster.config.sections import ClusterSettings
from cluster.placement.layout import Wanted, plan_layout
from cluster.placement.node import Node
from cluster.placement.nodes import by_problem, host_for
from cluster.preparing.machine import GIB, MachineFacts, obstacles

SOUND = MachineFacts(
    drivers=("580.65.06",), cuda="13.0", compiler="/usr/bin/gcc", headers="/usr", has_headers=True, shared=GIB
)


def test_a_problem_of_several_nodes_is_said_once_with_their_names() -> None:
    bare = replace(SOUND, compiler="")
    (said,) = by_problem({"a": SOUND, "b": bare, "c": bare}, obstacles)
    assert said.startswith("on b, c: there is no C compiler")
    assert by_problem({"a": SOUND}, obstacles) == []


@pytest.mark.parametrize(
    ("ranks", "colocate", "count", "most"),
    [
        (8, False, 2, 8),  # ranks of a node are one bundle
        (12, False, 3, 8),
        (8, True, 2, 4),  # pairs have a bundle each, which Ray may spread
        (9, True, 2, 5),
    ],
)
def test_the_cpus_memory_is_that_of_a_node_with_gpus_and_its_ranks_are_as_many_as_have_to_share_one(
    ranks: int, colocate: bool, count: int, most: int
) -> None:
    sizes = {str(number): (number + 1) * 1e9 for number in range(count)}
    nodes = {name: Node.unused({"CPU": 64.0, "GPU": 8.0, "memory": size}) for name, size in sizes.items()}
    nodes["head"] = Node.unused({"CPU": 64.0, "memory": 9e12})
    cluster = ClusterSettings(learner_ranks=ranks, generators=ranks if colocate else 1, colocate=colocate)
    found = host_for(plan_layout(Wanted(cluster=cluster, on_gpu=True), nodes), nodes)
    assert (found.size, found.ranks) == (count * 10**9, most)
    nodes["0"] = Node.unused({"CPU": 64.0, "GPU": 8.0})
    assert host_for(plan_layout(Wanted(cluster=cluster, on_gpu=True), nodes), nodes).size == 0  # one does not say it
