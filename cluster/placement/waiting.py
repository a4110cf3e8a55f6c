"""Waits until a cluster has room for a run: where it is too small for others to leave it, or to grow."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ray.autoscaler.sdk import request_resources

from cluster.config.sections import Kind
from cluster.placement.holders import with_holders
from cluster.placement.layout import Layout, NoRoom, Wanted
from cluster.placement.node import CPU, GPU, Nodes, emptied
from cluster.placement.nodes import nodes_there
from cluster.placement.sites import Site, site_of
from cluster.reporting.logs import LOGGER

LEAVE_SECONDS = 10.0  # that a run waits in any case for others to leave: one that has just ended is there a while
SECONDS_BETWEEN = 5.0  # looks at the cluster
# A cluster has one demand, the last that it was told, which lasts until the next: a run that ends its wait takes back
# that of another, which so tells it again. A driver that is killed (SIGKILL) while it waits leaves its own until then.
ASK_EVERY = 30.0  # seconds between two times that a run which waits asks for the same
SAID_EVERY = 30.0  # seconds between two sentences on what has changed, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What an autoscaler is asked to have room for on one node."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]  # that the node must have


def ask_to_grow(demands: Sequence[Demand]) -> None:
    """Has the autoscaler, where there is one, keep nodes for all of this, in place of what it was asked for before; no
    demand takes that back."""
    labels = [dict(demand.labels) for demand in demands]
    request_resources(bundles=[dict(demand.resources) for demand in demands], bundle_label_selectors=labels)


def wait_for_room(
    plan: Callable[[Nodes], Layout],
    demands: Sequence[Demand],
    seconds: float,
    look: Callable[[], Nodes] = nodes_there,
    ask: Callable[[Sequence[Demand]], None] = ask_to_grow,
    held: Callable[[Nodes], Nodes] = with_holders,
) -> Layout:
    """The layout on what is free of the cluster. One that is too small is asked to grow, and waited for, and so are
    others who hold it.

    Args:
        plan: gives the layout on some nodes, or raises NoRoom.
        demands: of the run, as `demand_of` has it.
        seconds: to wait, at most, beyond LEAVE_SECONDS for others to leave.
        look: gives the nodes that are there.
        ask: has the autoscaler make room, as `ask_to_grow`.
        held: adds to the nodes who holds them.

    Raises:
        NoRoom: the layout does not fit in time; it says what is wanted, what is there and who holds it.
    """
    began, said_at, said, asked_at, asked = time.monotonic(), 0.0, "", 0.0, list[Demand]()
    try:
        while True:
            nodes = look()
            try:
                return plan(nodes)
            except NoRoom as failure:
                lack = str(failure)
            taken = could_have(plan, nodes)
            passed = time.monotonic() - began
            if passed >= max(seconds, LEAVE_SECONDS * taken):
                raise NoRoom(f"{lack_of(plan, held(nodes)) or lack}. {remedy(taken=taken)}")
            wanted = [*demands, *others_of(nodes)]
            if seconds and (wanted != asked or time.monotonic() >= asked_at + ASK_EVERY):
                asked_at, asked = time.monotonic(), wanted
                ask(asked)
            if seconds and lack != said and (not said or time.monotonic() > said_at + SAID_EVERY):
                said_at, said = time.monotonic(), lack
                limit = f"at most {seconds / 60:g} minutes (cluster.wait_minutes)"
                LOGGER.warning("waiting for room in the cluster, %s: %s", limit, lack_of(plan, held(nodes)) or lack)
            time.sleep(min(SECONDS_BETWEEN, max(0.0, max(seconds, LEAVE_SECONDS * taken) - passed)))
    finally:
        if asked:
            ask([])


def could_have(plan: Callable[[Nodes], Layout], nodes: Nodes) -> bool:
    """Whether there would be room if all others left."""
    return not lack_of(plan, emptied(nodes))


def lack_of(plan: Callable[[Nodes], Layout], nodes: Nodes) -> str:
    """Why there is no room on these nodes; "" where there is."""
    try:
        plan(nodes)
    except NoRoom as lack:
        return str(lack)
    return ""


def remedy(*, taken: bool) -> str:
    """What to do besides; `taken` says that others hold what the run wants."""
    if taken:
        return "It would fit if the others left: end them, or wait for that with cluster.wait_minutes"
    return "Where the cluster grows, cluster.wait_minutes waits for that"


def demand_of(wanted: Wanted) -> list[Demand]:
    """What a run wants of an autoscaler: an engine, a rank or a verifier each, as nobody knows its nodes."""
    cluster = wanted.cluster
    if not wanted.on_gpu:
        ranks = [_demand(site_of(cluster, "learner"), 1.0, 0.0)] * cluster.learner_ranks
        engines = cluster.fewest_generators + wanted.evaluators
        return ranks + [_demand(site_of(cluster, "generator"), 1.0, 0.0)] * engines
    width = float(cluster.tensor_parallel)
    counts: tuple[tuple[Kind, int, float], ...] = (
        ("learner", cluster.learner_ranks, 1.0),
        ("scorer", len(wanted.scorers), 1.0),
        ("generator", 0 if cluster.colocate else cluster.fewest_generators + wanted.evaluators, width),
        ("judge", len(wanted.judges), width),
        ("verifier", cluster.verifiers or 1, 0.0),
    )
    return [_demand(site_of(cluster, kind), 1.0, gpus) for kind, count, gpus in counts for _ in range(count)]


def _demand(site: Site, cpus: float, gpus: float) -> Demand:
    resources = {name: amount for name, amount in ((GPU, gpus), (CPU, cpus), *site.resources) if amount}
    return Demand(resources=resources, labels=dict(site.labels))


def others_of(nodes: Nodes) -> list[Demand]:
    """What others hold of each node: an autoscaler is asked for the size of the whole cluster."""
    held = (
        {kind: node.total.get(kind, 0.0) - node.free.get(kind, 0.0) for kind in (GPU, CPU)} for node in nodes.values()
    )
    found = ({kind: round(amount, 3) for kind, amount in each.items() if amount > 0.001} for each in held)
    return [Demand(resources=each, labels={}) for each in found if each]
