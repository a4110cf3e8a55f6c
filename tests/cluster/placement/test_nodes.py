import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import Nodes, Wanted, plan_layout
from cluster.placement.nodes import (
    by_problem,
    demand,
    host_for,
    look_at_node,
    model_folders,
    problems_of,
    wait_for_nodes,
)
from cluster.placement.session import layout_for, wanted_of
from cluster.preparing.machine import GIB, MachineFacts, obstacles

SOUND = MachineFacts(
    drivers=("580.65.06",), cuda="13.0", compiler="/usr/bin/gcc", headers="/usr", has_headers=True, shared=GIB
)
HEAD = {"head": {"CPU": 4.0}}


class Growing:
    """A cluster that gets another node of 8 GPUs with each look after the first, once it is asked."""

    def __init__(self) -> None:
        self.demands: list[list[dict[str, float]]] = []
        self.nodes: Nodes = HEAD

    def ask(self, bundles: list[dict[str, float]]) -> None:
        self.demands.append(bundles)

    def look(self) -> Nodes:
        there = self.nodes
        if self.demands:
            self.nodes = {**there, f"node-{len(there)}": {"CPU": 16.0, "GPU": 8.0}}
        return there


def waiting(cluster: dict, growing: Growing) -> int:
    config = config_of({"world": {"name": "addition"}, "cluster": {"device": "gpu", **cluster}})
    bundles, seconds = demand(wanted_of(config, on_gpu=True)), config.cluster.wait_seconds
    layout = wait_for_nodes(partial(layout_for, config), bundles, seconds, growing.look, growing.ask)
    return int(layout.gpus)


def test_a_cluster_that_is_large_enough_is_asked_for_nothing() -> None:
    growing = Growing()
    growing.nodes = {"node": {"CPU": 16.0, "GPU": 8.0}}
    assert waiting({}, growing) == 2
    assert growing.demands == []


def test_a_cluster_that_grows_is_asked_once_and_waited_for_and_the_demand_taken_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cluster.placement.nodes.SECONDS_BETWEEN", 0.0)
    growing = Growing()
    with caplog.at_level(logging.WARNING, "winnow"):
        assert waiting({"wait_seconds": 3600.0, "generators": 8, "learner_ranks": 8}, growing) == 16
    assert growing.demands == [[{"GPU": 1.0, "CPU": 1.0}] * 16 + [{"CPU": 1.0}], []]
    assert "to grow, at most 3600 s: the layout wants 18 CPUs and 16 GPUs" in caplog.text
    assert "Available: head: 4 CPUs, 0 GPUs" in caplog.text


def test_a_cluster_that_is_too_small_is_refused_at_once_unless_the_run_may_wait() -> None:
    growing = Growing()
    with pytest.raises(ConfigError, match="no room for learner-rank-0"):
        waiting({}, growing)
    assert growing.demands == []


def test_a_demand_names_whole_engines_and_no_second_gpu_for_colocated_ones() -> None:
    cluster = ClusterSettings(tensor_parallel=4, generators=2, verifiers=3)
    wide = demand(Wanted(cluster=cluster, on_gpu=True, judges=("safe",), scorers=("model",)))
    assert wide == [*[{"GPU": 1.0, "CPU": 1.0}] * 2, *[{"GPU": 4.0, "CPU": 1.0}] * 3, *[{"CPU": 1.0}] * 3]
    shared = demand(Wanted(cluster=ClusterSettings(colocate=True, generators=2, learner_ranks=2), on_gpu=True))
    assert sum(bundle.get("GPU", 0.0) for bundle in shared) == 2.0
    assert demand(Wanted(cluster=ClusterSettings(), on_gpu=False)) == [{"CPU": 1.0}] * 2


def test_a_problem_of_several_nodes_is_said_once_with_their_names() -> None:
    bare = replace(SOUND, compiler="")
    (said,) = by_problem({"a": SOUND, "b": bare, "c": bare}, obstacles)
    assert said.startswith("on b, c: there is no C compiler")
    assert by_problem({"a": SOUND}, obstacles) == []


def test_a_node_without_a_model_is_named_with_the_setting_that_names_the_folder(tmp_path: Path) -> None:
    reward = {"name": "both", "both": {"kind": "sum", "weights": {"model": 0.5, "judge": 0.5}}}
    reward |= {"model": {"path": "/models/liking"}, "judge": {"path": "/models/judge"}}
    tree = {"model": {"path": str(tmp_path)}, "data": {"path": "rows.jsonl"}, "reward": reward}
    folders = model_folders(config_of(tree))
    assert folders == {
        "model.path": str(tmp_path),
        "reward.judge.path": "/models/judge",
        "reward.model.path": "/models/liking",
    }
    facts = look_at_node(folders)
    assert facts.missing == ("/models/judge (reward.judge.path)", "/models/liking (reward.model.path)")
    said = by_problem({"b": facts}, lambda each: problems_of(each, on_gpu=False))
    assert said[0].startswith("on b: there is no model folder /models/judge (reward.judge.path)")


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
    nodes = {str(number): {"CPU": 64.0, "GPU": 8.0, "memory": (number + 1) * 1e9} for number in range(count)}
    nodes["head"] = {"CPU": 64.0, "memory": 9e12}
    cluster = ClusterSettings(learner_ranks=ranks, generators=ranks if colocate else 1, colocate=colocate)
    found = host_for(plan_layout(Wanted(cluster=cluster, on_gpu=True), nodes), nodes)
    assert (found.size, found.ranks) == (count * 10**9, most)
    nodes["0"] = {"CPU": 64.0, "GPU": 8.0}
    assert host_for(plan_layout(Wanted(cluster=cluster, on_gpu=True), nodes), nodes).size == 0  # one does not say it
