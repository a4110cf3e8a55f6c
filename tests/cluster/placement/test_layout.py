from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from cluster.config.errors import ConfigError
from cluster.config.sections import ClusterSettings
from cluster.placement.layout import Bundle, Layout, NoRoom, Wanted, places, plan_layout
from cluster.placement.node import Node, Nodes
from cluster.placement.sites import site_of

LAPTOP = {"here": Node.unused({"CPU": 2.0, "GPU": 0.0})}


def nodes(count: int, gpus: float = 8.0, cpus: float = 96.0) -> Nodes:
    return {f"node-{index}": Node.unused({"CPU": cpus, "GPU": gpus}) for index in range(count)}


def on_gpus(count: int, settings: ClusterSettings, **more: tuple[str, ...]) -> Layout:
    """A layout on nodes of 8 GPUs."""
    return plan_layout(Wanted(cluster=settings, on_gpu=True, **more), nodes(count))


def numbers(layout: Layout, kind: str) -> list[list[int]]:
    """The numbers of the actors of a kind, by bundle."""
    found = [[int(name.rpartition("-")[2]) for name in b.actors if name.startswith(kind)] for b in layout.bundles]
    return [bundle for bundle in found if bundle]


def put_by_ray(bundles: Sequence[Bundle], left: dict[str, dict[str, float]], there: Nodes) -> list[str] | None:
    """The nodes on which Ray puts bundles, which are taken from what is left there; None where it finds no places.

    As its strategy PACK does: the largest bundle goes to the emptiest node, which is then filled with others.
    """
    order = sorted(range(len(bundles)), key=lambda i: (-bundles[i].gpus, -bundles[i].cpus))
    found, candidates = dict[int, str](), set(there)

    def takes(name: str, bundle: Bundle) -> bool:
        enough = all(left[name].get(kind, 0.0) + 1e-6 >= amount for kind, amount in bundle.resources.items())
        return enough and bundle.site.allows(there[name].labels)

    def idle(name: str, bundle: Bundle) -> float:
        return sum((left[name][kind] - amount) / left[name][kind] for kind, amount in bundle.resources.items())

    while order:
        first = bundles[order[0]]
        nodes = [name for name in sorted(candidates) if takes(name, first)]
        if not nodes:
            return None
        node = max(nodes, key=lambda name: idle(name, first))
        for index in list(order):
            if takes(node, bundles[index]):
                found[index] = node
                order.remove(index)
                for kind, amount in bundles[index].resources.items():
                    left[node][kind] -= amount
        candidates.remove(node)
    return [found[index] for index in range(len(bundles))]


def placed_by_ray(layout: Layout, there: Nodes) -> dict[str, str] | None:
    """The node of each actor, placed part by part as `Placed` has it; None where Ray finds no places."""
    left, nodes = {name: dict(node.free) for name, node in there.items()}, dict[str, str]()
    for part in layout.parts:
        before = {name: dict(has) for name, has in left.items()}
        bundles: Sequence[Bundle] = part
        found = put_by_ray(bundles, left, there)
        if found is None:
            left.update(before)
            bundles = [unit for bundle in part for unit in bundle.apart]
            found = put_by_ray(bundles, left, there)
        if found is None:
            return None
        for bundle, place in zip(bundles, places(bundles, found), strict=True):
            nodes |= dict.fromkeys(bundle.actors, found[place])
    return nodes


def fits(layout: Layout, there: Nodes) -> bool:
    """Whether Ray finds a place for each actor, and the plan has none too many on any node."""
    planned = {name: Counter[str]() for name in there}
    for bundle in layout.bundles:
        planned[bundle.node].update(bundle.resources)  # type: ignore[arg-type]
        assert bundle.site.allows(there[bundle.node].labels)
    for name, taken in planned.items():
        assert all(amount <= there[name].free.get(kind, 0.0) + 1e-6 for kind, amount in taken.items())
    return placed_by_ray(layout, there) is not None


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
    assert layout.bundle_of("generator-1") is layout.bundle_of("learner-rank-1")
    assert layout.share_of("generator-1") == (1.0, 0.5)


def test_colocated_ranks_are_numbered_node_by_node_wherever_ray_puts_their_bundles() -> None:
    bundles = on_gpus(1, ClusterSettings(colocate=True, generators=4, learner_ranks=4, verifiers=1)).bundles
    put = ["b", "a", "b", "a", "a", "b"]  # four pairs, a verifier, the filter
    there = [put[place] for place in places(bundles, put)]
    assert there[:4] == ["a", "a", "b", "b"]
    assert sorted(there[4:]) == ["a", "b"]


def test_ranks_with_a_bundle_each_are_numbered_from_the_node_that_has_most_of_them() -> None:
    layout = on_gpus(1, ClusterSettings(learner_ranks=4, generators=3, verifiers=1))
    apart = [unit for bundle in layout.bundles[:2] for unit in bundle.apart]
    put = ["b", "a", "a", "b", "a", "a", "b"]
    there = [put[place] for place in places(apart, put)]
    assert there == ["a", "a", "a", "a", "b", "b", "b"]
    assert [unit.actors[0] for unit in apart[:4]] == [f"learner-rank-{rank}" for rank in range(4)]


def test_a_run_that_samples_nothing_has_learner_ranks_alone_also_where_gpus_would_be_shared() -> None:
    settings = ClusterSettings(colocate=True, generators=2, learner_ranks=2).model_copy(update={"generators": 0})
    assert numbers(on_gpus(1, settings), "learner-rank-") == [[0, 1]]


def test_a_tensor_parallel_engine_never_spans_nodes() -> None:
    with pytest.raises(ConfigError, match=r"no room for generator-0 \(1 CPU and 16 GPUs on one node\)"):
        on_gpus(4, ClusterSettings(tensor_parallel=16))


def test_generators_that_evaluate_are_placed_as_the_others_are() -> None:
    layout = on_gpus(2, ClusterSettings(generators=2, tensor_parallel=2, learner_ranks=4), evaluators=3)
    assert layout.gpus == 2 * 2 + 4 + 3 * 2
    assert numbers(layout, "evaluator-") == [[0, 1, 2]]
    assert layout.share_of("evaluator-2") == (1.0, 2.0)
    assert {bundle.kind for bundle in layout.bundles if "evaluator-0" in bundle.actors} == {"generator"}
    with pytest.raises(ConfigError, match=r"no room for .*evaluator-0.*Lower cluster\.generators, eval\.generators, "):
        on_gpus(1, ClusterSettings(generators=7), evaluators=1)
    cores = plan_layout(Wanted(cluster=ClusterSettings(verifiers=1), on_gpu=False, evaluators=1), LAPTOP)
    assert cores.share_of("evaluator-0") == cores.share_of("generator-0") == (0.4, 0.0)


def test_judges_and_scorers_have_gpus_of_their_own() -> None:
    layout = on_gpus(1, ClusterSettings(tensor_parallel=2), judges=("safe",), scorers=("model", "process"))
    assert layout.gpus == 1 + 2 + 2 + 1 + 1
    assert layout.share_of("judge-safe") == (1.0, 2.0)
    assert layout.share_of("scorer-process") == (1.0, 1.0)


def test_too_few_resources_are_named_as_wanted_and_available() -> None:
    wanted = Wanted(cluster=ClusterSettings(generators=4, learner_ranks=4), on_gpu=False)
    with pytest.raises(ConfigError, match=r"wants 3\.4 CPUs and 0 GPUs.*There is: here: 2 of 2 CPUs free"):
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


@settings(deadline=None, max_examples=50)
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


def test_uneven_nodes_on_which_ray_misses_the_plan_get_a_bundle_for_each_actor() -> None:
    there = {"a": Node.unused({"CPU": 32.0, "GPU": 8.0}), "b": Node.unused({"CPU": 32.0, "GPU": 5.0})}
    cluster = ClusterSettings(learner_ranks=5, generators=8, verifiers=1)
    layout = plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
    assert [bundle.node for bundle in layout.bundles[:2]] == ["b", "a"]
    blocks = [replace(layout.bundles[0], gpus=5.0), *[replace(layout.bundles[1], gpus=4.0)] * 2]
    assert put_by_ray(blocks, {name: dict(node.free) for name, node in there.items()}, there) is None
    assert fits(layout, there)


def test_a_layout_is_made_on_what_is_free() -> None:
    half = Node(total={"CPU": 96.0, "GPU": 8.0}, free={"CPU": 40.0, "GPU": 4.0}, held=("job 2: 4 GPUs",))
    there = {"a": half, "b": Node.unused({"CPU": 96.0, "GPU": 8.0})}
    layout = plan_layout(Wanted(cluster=ClusterSettings(learner_ranks=4, generators=8), on_gpu=True), there)
    assert [(bundle.node, bundle.gpus) for bundle in layout.bundles[:2]] == [("a", 4.0), ("b", 8.0)]
    with pytest.raises(NoRoom, match=r"There is: a: 4 of 8 GPUs and 40 of 96 CPUs free \(job 2: 4 GPUs\); b: 8 of 8"):
        plan_layout(Wanted(cluster=ClusterSettings(learner_ranks=8, generators=8), on_gpu=True), there)


SPOT = {"ray.io/market-type": "spot"}


def test_a_learner_never_lies_on_spot_nodes_where_generators_are_sent_there() -> None:
    there = {
        "safe": Node.unused({"CPU": 32.0, "GPU": 4.0}),
        "spot": Node.unused({"CPU": 32.0, "GPU": 8.0}, SPOT),
    }
    cluster = ClusterSettings(nodes={"generator": SPOT}, learner_ranks=4, generators=8)
    layout = plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
    on_spot = [bundle.actors for bundle in layout.bundles if bundle.node == "spot"]
    assert on_spot == [tuple(f"generator-{index}" for index in range(8))]
    assert fits(layout, there)
    with pytest.raises(
        NoRoom, match=r"learner-rank-4 \(.*for learner only where there is ray\.io/market-type = !spot: 1 of 2"
    ):
        plan_layout(Wanted(cluster=cluster.model_copy(update={"learner_ranks": 9}), on_gpu=True), there)


def test_whoever_may_be_on_few_nodes_is_placed_before_others_take_them() -> None:
    there = {
        "anywhere": Node.unused({"CPU": 32.0, "GPU": 8.0}),
        "fast": Node.unused({"CPU": 32.0, "GPU": 8.0, "fast": 8.0}, {"ray.io/accelerator-type": "H100"}),
    }
    wanted = {"ray.io/accelerator-type": "in(H100, H200)", "fast": 1.0}
    cluster = ClusterSettings(nodes={"learner": wanted}, learner_ranks=8, generators=4, tensor_parallel=2)
    layout = plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
    assert [bundle.node for bundle in layout.bundles[:2]] == ["fast", "anywhere"]
    assert layout.bundles[0].resources == {"CPU": 8.0, "GPU": 8.0, "fast": 8.0}
    assert len(layout.parts) == 2
    assert fits(layout, there)


@pytest.mark.parametrize(
    ("selector", "value", "allowed"),
    [
        ("spot", "spot", True),
        ("spot", None, False),
        ("!spot", None, True),
        ("!spot", "spot", False),
        ("in(spot, on-demand)", "on-demand", True),
        ("!in(spot,on-demand)", "on-demand", False),
    ],
)
def test_labels_select_nodes_as_in_ray(selector: str, value: str | None, allowed: bool) -> None:
    site = site_of(ClusterSettings(nodes={"generator": {"kind": selector}}), "generator")
    assert site.allows({"kind": value} if value else {}) is allowed


def test_a_thousand_gpus_on_uneven_and_partly_taken_nodes_are_all_used() -> None:
    free = [8.0, 4.0, 8.0, 6.0, 8.0] * 31
    there = {
        f"node-{index}": Node(
            total={"CPU": 96.0, "GPU": 8.0}, free={"CPU": 96.0, "GPU": gpus}, labels=SPOT if index % 2 else {}
        )
        for index, gpus in enumerate(free)
    }
    spot = sum(gpus for index, gpus in enumerate(free) if index % 2)
    cluster = ClusterSettings(
        nodes={"generator": SPOT}, generators=int(spot) // 2, tensor_parallel=2, learner_ranks=int(sum(free) - spot)
    )
    layout = plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
    assert layout.gpus == sum(free) == 1054
    assert layout.verifiers == 512
    assert fits(layout, there)


@settings(deadline=None)
@given(data=some.data())
def test_what_fits_on_uneven_and_partly_taken_nodes_is_planned_and_found_by_ray(data: some.DataObject) -> None:
    width = data.draw(some.sampled_from([1, 2, 4]))
    free = data.draw(some.lists(some.integers(0, 8), min_size=1, max_size=12))
    spot = [data.draw(some.booleans()) for _ in free]
    there = {
        f"node-{index}": Node(
            total={"CPU": 64.0, "GPU": 8.0}, free={"CPU": 64.0, "GPU": float(gpus)}, labels=SPOT if lost else {}
        )
        for index, (gpus, lost) in enumerate(zip(free, spot, strict=True))
    }
    apart = data.draw(some.booleans())
    places_for_engines = sum(gpus // width for gpus, lost in zip(free, spot, strict=True) if lost or not apart)
    engines = data.draw(some.integers(1, max(1, places_for_engines)))
    singles = sum(gpus for gpus, lost in zip(free, spot, strict=True) if not (apart and lost))
    ranks = data.draw(some.integers(1, max(1, singles - (0 if apart else engines * width))))
    cluster = ClusterSettings(
        nodes={"generator": SPOT} if apart else {},
        generators=engines,
        learner_ranks=ranks,
        tensor_parallel=width,
        verifiers=1,
    )
    room = places_for_engines >= engines and singles - (0 if apart else engines * width) >= ranks
    if not room or (apart and all(spot)):
        with pytest.raises(NoRoom):
            plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
        return
    layout = plan_layout(Wanted(cluster=cluster, on_gpu=True), there)
    assert layout.gpus == engines * width + ranks
    assert fits(layout, there)
    whole = max((gpus for gpus, lost in zip(free, spot, strict=True) if not lost), default=0)
    if (width == 1 and not apart and ranks <= max(free)) or (apart and ranks <= whole):
        assert len([bundle for bundle in layout.bundles if bundle.actors[0].startswith("learner")]) == 1
