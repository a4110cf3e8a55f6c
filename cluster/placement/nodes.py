"""The nodes of a Ray cluster: what they have, waiting for more of them, and whether those with GPUs can run winnow."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import Layout, Nodes
from cluster.preparing.machine import MachineFacts, look_at_machine, obstacles, shared_memory_problem
from cluster.reporting.logs import LOGGER

LOOK_SECONDS = 60.0  # for all nodes to say what they have: the first task on a node starts a process there
SECONDS_BETWEEN = 5.0  # looks at a cluster that grows


def nodes_there() -> Nodes:
    """The living nodes of the cluster, by address."""
    known: list[dict[str, Any]] = ray.nodes()
    return {node["NodeManagerAddress"]: node["Resources"] for node in known if node["Alive"]}


def wait_for_nodes(
    plan: Callable[[Nodes], Layout],
    cluster: ClusterSettings,
    look: Callable[[], Nodes] = nodes_there,
    ask: Callable[[list[dict[str, float]]], None] = lambda bundles: request_resources(bundles=bundles),
) -> Layout:
    """The layout on the nodes of the cluster. One that is too small is asked to grow, and waited for as long as
    `cluster.wait_seconds` says.

    Args:
        plan: gives the layout on some nodes, or raises ConfigError.
        cluster: sizes.
        look: gives the nodes that are there.
        ask: has the autoscaler make room for bundles; none takes the demand back.

    Raises:
        ConfigError: the layout does not fit in time; it says what is wanted and what is there.
    """
    until, asked = time.monotonic() + cluster.wait_seconds, False
    try:
        while True:
            try:
                return plan(look())
            except ConfigError as lack:
                if time.monotonic() >= until:
                    raise
                if not asked:
                    ask(demand(cluster))
                    asked = True
                LOGGER.warning("waiting for the cluster to grow: %s", lack)
            time.sleep(min(SECONDS_BETWEEN, max(0.0, until - time.monotonic())))
    finally:
        if asked:
            ask([])


def demand(cluster: ClusterSettings) -> list[dict[str, float]]:
    """What an autoscaler is asked to make room for: an engine, a rank or a verifier each, as nobody knows its nodes."""
    if cluster.device == "cpu":
        return [{"CPU": 1.0}] * (cluster.generators + cluster.learner_ranks)
    engines = 0 if cluster.colocate else cluster.generators
    return [
        *[{"GPU": 1.0, "CPU": 1.0}] * cluster.learner_ranks,
        *[{"GPU": float(cluster.tensor_parallel), "CPU": 1.0}] * engines,
        *[{"CPU": 1.0}] * (cluster.verifiers or 1),
    ]


def check_nodes() -> None:
    """Has every node with GPUs look at itself; says where shared memory is small.

    Raises:
        ConfigError: one of them cannot run vLLM's kernels, or has too old a driver.
    """
    task = ray.remote(look_at_machine)
    looks = {
        node["NodeManagerAddress"]: task.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    }
    try:
        found = dict(zip(looks, ray.get(list(looks.values()), timeout=LOOK_SECONDS), strict=True))
    except GetTimeoutError:
        LOGGER.warning("not all nodes said within %g s whether they have a compiler and a driver", LOOK_SECONDS)
        return
    except RayError as failure:
        raise ConfigError(f"a node with GPUs cannot run winnow; is it installed there? {failure}") from failure
    for problem in by_problem(found, lambda facts: [shared_memory_problem(facts.shared)]):
        LOGGER.warning("%s", problem)
    if problems := by_problem(found, obstacles):
        raise ConfigError("; ".join(problems))


def by_problem(found: Mapping[str, MachineFacts], problems_of: Callable[[MachineFacts], Sequence[str]]) -> list[str]:
    """A sentence for each problem, with the nodes that have it.

    Args:
        found: node name -> what was found there.
        problems_of: gives the problems of a node; "" is none.
    """
    nodes: dict[str, list[str]] = {}
    for node, facts in found.items():
        for problem in filter(None, problems_of(facts)):
            nodes.setdefault(problem, []).append(node)
    return [f"on {', '.join(names)}: {problem}" for problem, names in nodes.items()]
