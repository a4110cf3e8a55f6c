"""Brings calls of tools to the verifiers, which run them beside their grading."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from actors.errors import BrokenVerifier, VerifierDied
from actors.logs import LOGGER
from actors.tools.tool import Kind, Result
from actors.tools.worker import Ready, Work

TRIES = 3  # of a call, each by a verifier that was alive when it was asked
SECONDS_BETWEEN = 1.0  # before another try


class RunsTools(Protocol):
    """Whoever runs tools; `actors.grading.client.VerifierClient` is the real one."""

    async def tools(self, kind: Kind, memory_mib: int) -> Ready:
        """What a kind of tools offers; raises BrokenVerifier."""
        ...

    async def use(self, work: Work) -> Result:
        """What a call of a tool gives; raises BrokenVerifier."""
        ...


class ToolRunner:
    """Has each call run by the verifier that runs the fewest."""

    def __init__(self, verifiers: Sequence[RunsTools]) -> None:
        self._verifiers = verifiers
        self._busy = Counter[int]()  # calls under way at each of them
        self._ready: dict[tuple[Kind, int], Ready] = {}
        self._asking = asyncio.Lock()
        self._told = set[str]()  # tools whose failure has been logged

    async def ready(self, kind: Kind, memory_mib: int) -> Ready:
        """What a kind of tools offers, which is asked once, or why it cannot be used."""
        async with self._asking:
            found = self._ready.get((kind, memory_mib)) or await self._asked(kind, memory_mib)
            if not found.problem:
                self._ready[kind, memory_mib] = found
            return found

    async def use(self, work: Work) -> Result:
        """What a call gives. One whose verifier died is tried again by another."""
        why = ""
        for _ in range(TRIES):
            place = min(range(len(self._verifiers)), key=lambda place: self._busy[place])
            self._busy[place] += 1
            try:
                return await self._verifiers[place].use(work)
            except BrokenVerifier as failure:
                why = str(failure)
                if not isinstance(failure, VerifierDied):
                    break
                await asyncio.sleep(SECONDS_BETWEEN)
            finally:
                self._busy[place] -= 1
        return Result(text="", failed=True, why=why, broken=True)

    async def _asked(self, kind: Kind, memory_mib: int) -> Ready:
        problem = "there is no verifier"
        for verifier in self._verifiers:
            try:
                return await verifier.tools(kind, memory_mib)
            except BrokenVerifier as failure:
                problem = str(failure)
        return Ready(problem=problem)

    def tell(self, name: str, result: Result) -> None:
        """Logs the first failure of a tool in full, for the person who offers it."""
        if result.why and name not in self._told:
            self._told.add(name)
            LOGGER.warning("the tool %s failed, which the policy is told; this is said once: %s", name, result.why)
