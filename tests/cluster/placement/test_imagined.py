import pytest

from cluster.config.errors import ConfigError
from cluster.placement.imagined import ImaginedCluster
from cluster.preparing.budget import GIB
from cluster.preparing.memory import GPU, Memory


def test_a_cluster_is_described_by_nodes_gpus_and_gib() -> None:
    place = ImaginedCluster.of("8x4x79.6")
    assert (place.nodes, place.gpus, place.cpus) == (8, 4, 64)
    assert place.memory == Memory(where=GPU, size=int(79.6 * GIB))
    assert [node.free for node in place.resources.values()] == [{"CPU": 64.0, "GPU": 4.0, "memory": 0.0}] * 8


def test_one_node_and_its_cpus_can_be_described_too() -> None:
    place = ImaginedCluster.of("2x141, cpus=10")
    assert (place.nodes, place.gpus, place.gib, place.cpus) == (1, 2, 141.0, 10)
    assert str(place) == "a node with 2 GPUs of 141 GiB and 10 CPUs"


def test_the_memory_of_a_node_is_known_where_it_is_said_and_ray_keeps_its_part() -> None:
    place = ImaginedCluster.of("8x80,cpus=10,ram=100")
    assert str(place) == "a node with 8 GPUs of 80 GiB and 10 CPUs and 100 GiB of memory"
    assert place.resources["node 0"].total["memory"] == pytest.approx(70 * GIB)


@pytest.mark.parametrize("text", ["", "8", "8x", "0x8x80", "8x0x80", "8x8x80x2", "8x80,gpus=2", "8x80,ram=0", "two"])
def test_what_describes_no_cluster_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="--on takes NODESxGPUSxGIB, such as 8x8x80"):
        ImaginedCluster.of(text)
