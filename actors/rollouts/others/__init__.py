"""Environments of other projects, by their shape: winnow depends on none of them."""

from actors.rollouts.others.steps import from_steps

__all__ = ["from_steps"]
