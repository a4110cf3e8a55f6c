"""Which nodes an actor may be on, as `cluster.nodes` has it: labels that a node must have, and custom resources that
the actor takes of it. Ray applies both itself; the planner has to know beforehand what Ray will do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config.sections import ClusterSettings, Kind

MARKET, SPOT = "ray.io/market-type", "spot"  # Ray's own label, and what it says of a node that may be taken away


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an actor may be. Nothing of both is any node."""

    labels: tuple[tuple[str, str], ...] = ()  # (label, "spot", "!spot", "in(a, b)" or "!in(a, b)")
    resources: tuple[tuple[str, float], ...] = ()  # custom ones, with how much of each an actor takes

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels will do; one that lacks a label has none of its values."""
        return all(_matches(selector, labels.get(label)) for label, selector in self.labels)

    def __str__(self) -> str:
        labels = [f"{label} = {selector}" for label, selector in self.labels]
        return " and ".join([*labels, *(f"{amount:g} of {name}" for name, amount in self.resources)])


ANYWHERE = Site()


def _matches(selector: str, value: str | None) -> bool:
    plain = selector.removeprefix("!")
    values = plain[3:-1].replace(" ", "").split(",") if plain.startswith("in(") else [plain]
    return (value in values) != selector.startswith("!")


def site_of(cluster: ClusterSettings, kind: Kind) -> Site:
    """The site of a kind of actor. Whoever is not sent anywhere keeps off spot nodes where generators are sent there:
    with the node of a generator goes what it samples, with that of a learner rank the whole learner.

    Args:
        cluster: the settings.
        kind: a key of `cluster.nodes`.
    """
    wanted = cluster.nodes.get(kind, {})
    labels = {name: said for name, said in wanted.items() if isinstance(said, str)}
    generators = cluster.nodes.get("generator", {}).get(MARKET)
    if isinstance(generators, str) and _matches(generators, SPOT) and not cluster.colocate:
        labels.setdefault(MARKET, f"!{SPOT}" if kind != "generator" else generators)
    resources = {name: float(said) for name, said in wanted.items() if not isinstance(said, str)}
    return Site(labels=tuple(sorted(labels.items())), resources=tuple(sorted(resources.items())))
