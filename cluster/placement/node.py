"""A node of a cluster, as far as a layout is concerned: what it has, what of it is free, and who holds the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Self

CPU, GPU = "CPU", "GPU"
MOST_SAID = 8  # groups of nodes that a sentence describes


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Resources in Ray's words: "CPU", "GPU", "memory" in bytes, and custom ones."""

    total: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()  # who holds the rest, and how much

    @classmethod
    def unused(cls, total: Mapping[str, float], labels: Mapping[str, str] | None = None) -> Self:
        """One of which everything is free."""
        return cls(total=total, free=total, labels=labels or {})

    def has(self, resource: str) -> bool:
        """Whether it has any of it, free or not."""
        return self.total.get(resource, 0.0) > 0

    @property
    def about(self) -> str:
        """In words: how much of its CPUs and GPUs is free, and who holds the rest."""
        parts = [
            f"{self.free.get(kind, 0.0):g} of {self.total.get(kind, 0.0):g} {kind}s"
            for kind in (GPU, CPU)
            if self.has(kind) or kind == CPU
        ]
        return f"{' and '.join(parts)} free" + (f" ({', '.join(self.held)})" if self.held else "")


Nodes = Mapping[str, Node]  # by a name that tells them apart


def emptied(nodes: Nodes) -> Nodes:
    """The nodes when everybody else has left."""
    return {name: replace(node, free=node.total, held=()) for name, node in nodes.items()}


def in_words(nodes: Nodes) -> str:
    """What nodes have, those that are alike together."""
    if not nodes:
        return "no node"
    alike = [(about, names) for about, names in _alike({name: node.about for name, node in nodes.items()})]
    said = [f"{_named(names)}: {about}" + " each" * (len(names) > 1) for about, names in alike[:MOST_SAID]]
    rest = sum(len(names) for _, names in alike[MOST_SAID:])
    return "; ".join(said + [f"{rest} other nodes"] * (rest > 0))


def _alike(abouts: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """What is said of nodes, with the names of those of which the same is said; the most nodes first."""
    pairs = sorted(((about, name) for name, about in abouts.items()), key=itemgetter(0))
    groups = [(about, [name for _, name in same]) for about, same in groupby(pairs, key=itemgetter(0))]
    return sorted(groups, key=lambda group: -len(group[1]))


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{names[0]} and {len(names) - 1} other" + "s" * (len(names) > 2)
