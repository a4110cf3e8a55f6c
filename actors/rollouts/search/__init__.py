"""Tree search over what the policy says, for environments: `from actors.rollouts.search import Tree`."""

from actors.rollouts.search.tree import Node, Tree
from actors.rollouts.search.values import hard_label, soft_label, uct, weighted_values

__all__ = ["Node", "Tree", "hard_label", "soft_label", "uct", "weighted_values"]
