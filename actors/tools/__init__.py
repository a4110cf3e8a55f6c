"""Tools that a policy may call in an episode: ready ones, and how its calls are read and run."""

from actors.tools.mcp import Mcp
from actors.tools.python import Python
from actors.tools.search import Search
from actors.tools.sql import Sql

__all__ = ["Mcp", "Python", "Search", "Sql"]
