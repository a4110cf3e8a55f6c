"""The nodes of a Ray cluster: what they have, and whether those with GPUs can run winnow."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray._private.state import available_resources_per_node  # Ray says nowhere else what is free of each node
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.placement.layout import Layout
from cluster.placement.node import Node, Nodes
from cluster.preparing.machine import look_at_machine, obstacles, warnings_of
from cluster.preparing.memory import GPU, Host, Memory, this_machine_memory
from cluster.reporting.logs import LOGGER

Fact = TypeVar("Fact")
LOOK_SECONDS = 60.0  # for all nodes to say what they have: the first task on a node starts a process there


def nodes_there() -> Nodes:
    """The living nodes of the cluster, with what is free of them now."""
    free = available_resources_per_node()
    return {
        name: Node(total=node["Resources"], free=free.get(node["NodeID"], {}), labels=node["Labels"])
        for name, node in living().items()
    }


def living() -> dict[str, dict[str, Any]]:
    """What Ray knows of each living node, by its address, and by its id too where several have one address."""
    known = [node for node in ray.nodes() if node["Alive"]]
    count = Counter(node["NodeManagerAddress"] for node in known)
    return {
        node["NodeManagerAddress"] + (f" ({node['NodeID'][:8]})" if count[node["NodeManagerAddress"]] > 1 else ""): node
        for node in known
    }


def gpu_memory() -> Memory:
    """Memory of the smallest GPU of the cluster, as its nodes say; of unknown size where one of them does not."""
    task = ray.remote(this_machine_memory)
    asked = [
        task.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            "gpu"
        )
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    try:
        found: list[Memory] = ray.get(asked, timeout=LOOK_SECONDS)
    except RayError as failure:
        LOGGER.warning("the memory of GPUs is not known: a node did not say it (%s)", failure)
        found = []
    sizes = [memory.size if memory.where == GPU else 0 for memory in found]
    return Memory(where=GPU, size=min(sizes, default=0))


def host_for(layout: Layout, nodes: Nodes) -> Host:
    """What is known of the CPU's memory for the learner's ranks before Ray has put them on nodes: the largest that a
    node with GPUs has, and how many ranks at least have to share one.

    Args:
        layout: that fits on the nodes.
        nodes: with Ray's resource "memory": what a node has for processes, beside the object store.
    """
    sizes = [int(node.total.get("memory", 0)) for node in nodes.values() if node.has("GPU")]
    even = -(-sum(layout.ranks) // max(1, len(sizes)))
    return Host(size=max(sizes) if sizes and all(sizes) else 0, ranks=max(even, *layout.ranks))


def check_gpu_nodes(hosts: Collection[str]) -> None:
    """Has the nodes with GPUs of a run look at themselves, and says what only some runs trip over.

    Args:
        hosts: ids of the nodes on which learner and engines will be.

    Raises:
        ConfigError: one of them cannot run vLLM's kernels, or has too old a driver.
    """
    task = ray.remote(look_at_machine)
    looks = {
        name: task.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for name, node in living().items()
        if node["NodeID"] in hosts
    }
    try:
        found = dict(zip(looks, ray.get(list(looks.values()), timeout=LOOK_SECONDS), strict=True))
    except GetTimeoutError:
        LOGGER.warning("not all nodes said within %g s what they have", LOOK_SECONDS)
        return
    except RayError as failure:
        raise ConfigError(f"a node cannot run winnow; is it installed there? {failure}") from failure
    for problem in by_problem(found, warnings_of):
        LOGGER.warning("%s", problem)
    if problems := by_problem(found, obstacles):
        raise ConfigError("; ".join(problems))


def by_problem(found: Mapping[str, Fact], say: Callable[[Fact], Sequence[str]]) -> list[str]:
    """A sentence for each problem, with the nodes that have it.

    Args:
        found: node name -> what was found there.
        say: gives the problems of a node.
    """
    nodes: dict[str, list[str]] = {}
    for node, facts in found.items():
        for problem in say(facts):
            nodes.setdefault(problem, []).append(node)
    return [f"on {', '.join(names)}: {problem}" for problem, names in nodes.items()]
