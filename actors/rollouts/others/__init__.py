"""Environments of other projects, by their shape: winnow depends on none of them."""

from actors.rollouts.others.game import from_game
from actors.rollouts.others.made_data import MadeData
from actors.rollouts.others.steps import from_steps

__all__ = ["MadeData", "from_game", "from_steps"]
