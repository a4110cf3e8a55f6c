"""Environments of other projects, by their shape: winnow depends on none of them."""

from actors.rollouts.others.game import from_game
from actors.rollouts.others.made_data import MadeData
from actors.rollouts.others.steps import from_steps
from actors.rollouts.others.tool_class import from_class
from actors.rollouts.others.verifiers_env import VerifiersEnvironment

__all__ = ["MadeData", "VerifiersEnvironment", "from_class", "from_game", "from_steps"]
