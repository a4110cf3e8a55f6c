"""Placement groups: has Ray reserve the bundles of a layout, and says where each actor of it lies in them."""

import time
import uuid
from collections.abc import Callable, Sequence
from itertools import chain

from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config.errors import ConfigError
from cluster.placement.holders import with_holders
from cluster.placement.layout import Bundle, Layout, places
from cluster.placement.node import in_words
from cluster.placement.nodes import nodes_there
from cluster.reporting.logs import LOGGER
from cluster.reporting.words import counted

SAID_EVERY = 10.0  # seconds between two sentences that a run waits for its resources
SECONDS_BETWEEN = 0.2  # looks at whether Ray has placed a group
TRIES = 3  # of Ray to place a group, after which it is taken to have no room for it
NO_ROOM = ("NO_RESOURCES", "INFEASIBLE")  # in Ray's words


def reserve(bundles: Sequence[Bundle], run: str, strategy: str = "PACK") -> PlacementGroup:
    """A placement group that Ray has yet to place, with a name that tells others whose it is.

    Args:
        bundles: of one site.
        run: name of the run.
        strategy: Ray's word for how bundles lie on nodes.
    """
    labels = [dict(bundle.site.labels) for bundle in bundles]
    return placement_group(
        [bundle.resources for bundle in bundles],
        strategy=strategy,
        name=f"winnow {run} {uuid.uuid4().hex[:8]}",
        bundle_label_selector=labels if any(labels) else None,
    )


def is_placed(group: PlacementGroup) -> bool:
    """Whether all bundles of a group are on living nodes."""
    return str(placement_group_table(group)["state"]) == "CREATED"


class Placed:
    """The layout of a run as Ray has placed it. `remove` gives everything back."""

    def __init__(self, layout: Layout, run: str, say: Callable[[str], None] = LOGGER.warning) -> None:
        """
        Args:
            layout: that fits on the nodes of the cluster.
            run: name of the run.
            say: tells the person that the run waits.
        """
        self._layout, self._run, self._say = layout, run, say
        self._groups: list[PlacementGroup] = []
        self._found: dict[str, tuple[PlacementGroup, int, str]] = {}  # actor -> its group, bundle and node

    @property
    def layout(self) -> Layout:
        """What is placed."""
        return self._layout

    def place(self, seconds: float) -> None:
        """Waits until Ray has placed all of it.

        Args:
            seconds: at most.

        Raises:
            ConfigError: it takes longer; it says what is free, and who holds the rest.
        """
        until = time.monotonic() + seconds
        for part in self._layout.parts:
            self._place(part, until, seconds)

    def _place(self, part: Sequence[Bundle], until: float, seconds: float) -> None:
        """Ray gives the largest bundle the emptiest node, and may so miss the places that the plan has on nodes that
        differ. Then each actor has a bundle of its own, which fits wherever there is room."""
        apart = tuple(chain.from_iterable(bundle.apart for bundle in part))
        for bundles in dict.fromkeys((tuple(part), apart)):
            group = reserve(bundles, self._run)
            self._groups.append(group)
            if self._wait(group, until, seconds, gives_up=bundles != apart):
                self._note(group, bundles)
                return
            remove_placement_group(self._groups.pop())

    def _note(self, group: PlacementGroup, bundles: Sequence[Bundle]) -> None:
        there = nodes_of(group)
        nodes = [there[index] for index in range(len(bundles))]
        for bundle, place in zip(bundles, places(bundles, nodes), strict=True):
            for actor in bundle.actors:
                self._found[actor] = group, place, nodes[place]

    def _wait(self, group: PlacementGroup, until: float, seconds: float, *, gives_up: bool) -> bool:
        """Whether Ray has placed a group; one that `gives_up` is not waited for where there is no room for it."""
        wanted = f"the layout wants {counted(self._layout.cpus, 'CPU')} and {counted(self._layout.gpus, 'GPU')}"
        said = time.monotonic()
        while not group.wait(min(SECONDS_BETWEEN, max(0.0, until - time.monotonic()))):
            stats = placement_group_table(group)["stats"]
            if gives_up and stats["scheduling_state"] in NO_ROOM and stats["scheduling_attempt"] >= TRIES:
                return False
            now = time.monotonic()
            if now < until and now < said + SAID_EVERY:
                continue
            said, there = now, in_words(with_holders(nodes_there()))
            if now >= until:
                raise ConfigError(
                    f"{wanted}, and the cluster did not give them within {seconds:.0f} s. There is now: {there}. "
                    "cluster.wait_minutes is how long a run waits for others to leave, or for a cluster that grows"
                )
            self._say(f"{wanted}, waiting for them since the cluster has not given them yet. There is now: {there}")
        return True

    def node_of(self, actor: str) -> str:
        """Id of the node on which Ray has placed an actor."""
        return self._found[actor][2]

    @property
    def by_node(self) -> dict[str, list[str]]:
        """id of a node -> the actors of the layout there now: when a node is lost, Ray puts its bundles elsewhere."""
        there = {group.id: nodes_of(group) for group in self._groups}
        actors: dict[str, list[str]] = {}
        for actor, (group, index, _) in self._found.items():
            if node := there[group.id].get(index):
                actors.setdefault(node, []).append(actor)
        return actors

    def spot_of(self, actor: str) -> tuple[PlacementGroupSchedulingStrategy, float, float]:
        """Where an actor goes, and its CPUs and GPUs."""
        group, index, _ = self._found[actor]
        return PlacementGroupSchedulingStrategy(group, index), *self._layout.share_of(actor)

    @property
    def is_whole(self) -> bool:
        """Whether all of it lies on living nodes: after the loss of a node Ray looks for another one."""
        return all(is_placed(group) for group in self._groups)

    def remove(self) -> None:
        """Gives all of it back."""
        while self._groups:
            remove_placement_group(self._groups.pop())


def nodes_of(group: PlacementGroup) -> dict[int, str]:
    """Index of each bundle of a group that is placed -> id of its node."""
    nodes: dict[int, str] = placement_group_table(group)["bundles_to_node_id"]
    return nodes
