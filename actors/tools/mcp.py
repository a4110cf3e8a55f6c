"""Tools of a server of the Model Context Protocol that is started here and spoken to over its input and output: the one
home of the package `mcp`."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.tools.formats import Schema
from actors.tools.tool import Limits, Result, Spoiled, failure, shortened

if TYPE_CHECKING:
    from mcp import Client

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, init=False)
class Mcp:
    """The tools of an MCP server. It is started several times, and any of these may get a call: a server that remembers
    calls is none for this."""

    command: tuple[str, ...]  # "python" is the interpreter that runs winnow
    only: tuple[str, ...]  # names of the tools that are offered; none: all
    folder: str  # in which it is started: that of the environment's file

    def __init__(self, command: Sequence[str], only: Sequence[str] = (), folder: str = ".") -> None:
        for name, value in {"command": tuple(command), "only": tuple(only), "folder": folder}.items():
            object.__setattr__(self, name, value)

    @property
    def bounded(self) -> bool:
        """It has no limit of memory: what servers are written in may reserve far more than they use."""
        return False

    def placed(self, folder: Path) -> "Mcp":
        """The same, started there."""
        return Mcp(self.command, self.only, str(folder / self.folder))

    def start(self) -> "RunningMcp":
        """Starts the server and asks what it offers."""
        return RunningMcp(self)


class RunningMcp:
    """A session with a server."""

    def __init__(self, kind: Mcp) -> None:
        """
        Raises:
            ValueError: the server does not start, or has no such tools.
        """
        self._loop = asyncio.new_event_loop()
        try:
            self._client, found = self._loop.run_until_complete(asyncio.wait_for(_begun(kind), START_SECONDS))
        except Exception as problem:  # the package raises many kinds, and groups of them
            told = f"it did not answer within {START_SECONDS:g} s" if isinstance(problem, TimeoutError) else problem
            raise ValueError(f"the MCP server {' '.join(kind.command)} does not start: {told}") from problem
        if lacking := set(kind.only) - set(found):
            raise ValueError(f"the MCP server offers no {sorted(lacking)[0]!r}, only {', '.join(found)}")
        self.schemas: Sequence[Schema] = [found[name] for name in kind.only or found]

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> Result:
        """The texts that the server gives.

        Raises:
            Spoiled: the session is over, or the server gave nothing within the time.
        """
        asked = self._client.call_tool(name, dict(arguments))
        try:
            given = self._loop.run_until_complete(asyncio.wait_for(asked, limits.seconds))
        except TimeoutError:
            raise Spoiled(f"{name} took longer than {limits.seconds:g} s") from None
        except Exception as problem:  # the package raises many kinds, and groups of them
            raise Spoiled(f"{name} failed: {problem}") from problem
        texts = [part.text if part.type == "text" else f"[{part.type}]" for part in given.content]
        text = shortened("\n".join(texts), limits.max_characters)
        if given.is_error:
            return failure(text or f"{name} failed")
        return Result(text=text) if text else failure(f"{name} returned nothing")


async def _begun(kind: Mcp) -> "tuple[Client, dict[str, Schema]]":
    """A session, and what the server offers."""
    from mcp import Client, StdioServerParameters

    program, *arguments = kind.command
    program = sys.executable if program == "python" else program
    client = Client(StdioServerParameters(command=program, args=arguments, cwd=kind.folder))
    await client.__aenter__()  # it is left by the end of this process
    found: dict[str, Schema] = {}
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            told = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
            found[tool.name] = {"type": "function", "function": told}
        if not (cursor := page.next_cursor):
            return client, found
