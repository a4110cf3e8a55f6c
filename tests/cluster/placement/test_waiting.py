import logging
from collections.abc import Sequence
from functools import partial

import pytest

from cluster.config.reading import config_of
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import NoRoom, Wanted
from cluster.placement.node import Node, Nodes, in_words
from cluster.placement.session import layout_for, wanted_of
from cluster.placement.waiting import Demand, demand_of, others_of, wait_for_room

FREE = Node.unused({"CPU": 16.0, "GPU": 8.0})
TAKEN = Node(total=FREE.total, free={"CPU": 15.0})
SPOT = {"ray.io/market-type": "spot"}


class Changing:
    """A cluster that is another one at each look, and the last one from then on."""

    def __init__(self, *looks: Nodes) -> None:
        self._looks = list(looks)
        self.asked: list[list[Demand]] = []

    def look(self) -> Nodes:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def ask(self, demands: Sequence[Demand]) -> None:
        self.asked.append(list(demands))

    def held(self, nodes: Nodes) -> Nodes:
        held = {True: (), False: ('job 02 "train.py": 8 GPUs and 1 CPUs',)}
        return {
            name: Node(total=node.total, free=node.free, held=held[node.free == node.total])
            for name, node in nodes.items()
        }


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECONDS_BETWEEN", "SAID_EVERY", "LEAVE_SECONDS"):
        monkeypatch.setattr(f"cluster.placement.waiting.{name}", 0.0)


def gpus(there: Changing, **cluster: object) -> int:
    config = config_of({"world": {"name": "addition"}, "cluster": {"device": "gpu", **cluster}})
    demands, seconds = demand_of(wanted_of(config, on_gpu=True)), config.cluster.seconds_to_wait
    layout = wait_for_room(partial(layout_for, config), demands, seconds, there.look, there.ask, there.held)
    return int(layout.gpus)


def test_a_cluster_that_is_large_enough_is_asked_for_nothing() -> None:
    there = Changing({"node": FREE})
    assert gpus(there) == 2
    assert there.asked == []


def test_a_cluster_that_grows_is_asked_once_and_waited_for_and_the_demand_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = {"head": Node.unused({"CPU": 4.0})}
    there = Changing(head, head, {**head, "a": FREE}, {**head, "a": FREE, "b": FREE})
    with caplog.at_level(logging.WARNING, "winnow"):
        assert gpus(there, wait_minutes=60.0, generators=8, learner_ranks=8) == 16
    each = Demand(resources={"GPU": 1.0, "CPU": 1.0}, labels={})
    assert there.asked == [[*[each] * 16, Demand(resources={"CPU": 1.0}, labels={})], []]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2  # anew with each node that comes, and not at each look
    assert "in the cluster, at most 60 minutes (cluster.wait_minutes): the layout wants 18 CPUs and 16 GPUs" in said[0]
    assert "There is: head: 4 of 4 CPUs free" in said[0]
    assert "There is: head: 4 of 4 CPUs free; a: 8 of 8 GPUs and 16 of 16 CPUs free" in said[1]


def test_a_run_that_waits_asks_again_as_another_may_have_taken_its_demand_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.placement.waiting.ASK_EVERY", 0.0)
    head = {"head": Node.unused({"CPU": 4.0})}
    there = Changing(head, head, head, {**head, "a": FREE})
    assert gpus(there, wait_minutes=60.0) == 2
    assert len(there.asked) == 4
    assert there.asked[0] == there.asked[1] == there.asked[2] != []
    assert there.asked[3] == []


def test_a_cluster_that_others_hold_is_waited_for_with_what_they_hold_asked_for_besides(
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = Changing({"node": TAKEN}, {"node": FREE})
    with caplog.at_level(logging.WARNING, "winnow"):
        assert gpus(there, wait_minutes=1.0) == 2
    assert there.asked[0][-1] == Demand(resources={"GPU": 8.0, "CPU": 1.0}, labels={})
    assert there.asked[-1] == []
    assert '0 of 8 GPUs and 15 of 16 CPUs free (job 02 "train.py": 8 GPUs and 1 CPUs)' in caplog.text


def test_a_cluster_that_others_hold_is_refused_with_who_they_are_unless_the_run_may_wait() -> None:
    there = Changing({"node": TAKEN})
    with pytest.raises(NoRoom, match=r'free \(job 02 "train.py": 8 GPUs .* It would fit if the others left: end them'):
        gpus(there)
    assert there.asked == []


def test_who_has_just_ended_is_waited_for_a_while_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.placement.waiting.LEAVE_SECONDS", 60.0)
    assert gpus(Changing({"node": TAKEN}, {"node": FREE})) == 2


def test_a_cluster_that_is_too_small_is_refused_at_once_unless_the_run_may_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cluster.placement.waiting.LEAVE_SECONDS", 3600.0)
    with pytest.raises(
        NoRoom, match=r"no room for learner-rank-0 .*Where the cluster grows, cluster\.wait_minutes waits"
    ):
        gpus(Changing({"head": Node.unused({"CPU": 4.0})}))


def test_gpus_that_others_hold_do_not_send_a_run_to_the_cpus() -> None:
    config = config_of({"world": {"name": "addition"}})
    with pytest.raises(NoRoom, match="wants 4 CPUs and 2 GPUs"):
        layout_for(config, {"node": TAKEN})


def test_a_demand_names_whole_engines_and_no_second_gpu_for_colocated_ones() -> None:
    cluster = ClusterSettings(tensor_parallel=4, generators=2, verifiers=3)
    wide = demand_of(Wanted(cluster=cluster, on_gpu=True, judges=("safe",), scorers=("model",)))
    assert [each.resources for each in wide] == [
        *[{"GPU": 1.0, "CPU": 1.0}] * 2,
        *[{"GPU": 4.0, "CPU": 1.0}] * 3,
        *[{"CPU": 1.0}] * 3,
    ]
    shared = demand_of(Wanted(cluster=ClusterSettings(colocate=True, generators=2, learner_ranks=2), on_gpu=True))
    assert sum(each.resources.get("GPU", 0.0) for each in shared) == 2.0
    cores = demand_of(Wanted(cluster=ClusterSettings(), on_gpu=False))
    assert [each.resources for each in cores] == [{"CPU": 1.0}] * 2
    for on_gpu in (True, False):
        two, four = (demand_of(Wanted(cluster=cluster, on_gpu=on_gpu, evaluators=count)) for count in (0, 2))
        engine = {"GPU": 4.0, "CPU": 1.0} if on_gpu else {"CPU": 1.0}
        assert [each.resources for each in four].count(engine) == [each.resources for each in two].count(engine) + 2


def test_a_demand_asks_for_nodes_with_the_labels_and_resources_of_each_kind() -> None:
    cluster = ClusterSettings(nodes={"generator": {**SPOT, "fast": 1.0}}, verifiers=1)
    found = demand_of(Wanted(cluster=cluster, on_gpu=True))
    elsewhere = {"ray.io/market-type": "!spot"}
    assert [each.labels for each in found] == [elsewhere, SPOT, elsewhere]
    assert found[1].resources == {"GPU": 1.0, "CPU": 1.0, "fast": 1.0}


def test_what_others_hold_is_asked_for_as_it_lies_on_nodes() -> None:
    assert [each.resources for each in others_of({"a": TAKEN, "b": FREE})] == [{"GPU": 8.0, "CPU": 1.0}]


def test_many_nodes_are_said_in_few_words() -> None:
    nodes = {f"10.0.0.{number}": FREE for number in range(120)} | {"10.0.1.1": TAKEN}
    assert in_words(nodes) == (
        "10.0.0.0 and 119 others: 8 of 8 GPUs and 16 of 16 CPUs free each; 10.0.1.1: 0 of 8 GPUs and 15 of 16 CPUs free"
    )
    uneven = {str(number): Node.unused({"CPU": float(number)}) for number in range(1, 21)}
    assert in_words(uneven).endswith("; 12 other nodes")
