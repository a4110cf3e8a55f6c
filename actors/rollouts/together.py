"""Where the responses of a group meet, when one request to the engine samples all of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from actors.engines import Completion, Sampler, Sampling


class OneRequest:
    """The engine, as the siblings of a group see it that begin with the same prompt: the call of the first one asks for
    the completions of all, whose seeds are those that follow the first one's.

    A request costs the engine's front end more than a short answer does. It brings all completions when the last one
    has ended.
    """

    def __init__(self, engine: Sampler, first: int, count: int) -> None:
        """
        Args:
            engine: that samples.
            first: seed of the first sibling.
            count: how many siblings there are; each asks once.
        """
        self.max_model_len, self.tokenizer = engine.max_model_len, engine.tokenizer
        self._engine, self._first, self._count = engine, first, count
        self._request: asyncio.Task[list[Completion]] | None = None

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        """The completion of one sibling, whose group is given up where this call is."""
        if self._request is None:
            asked = self._engine.generate(tokens, replace(sampling, completions=self._count), self._first)
            self._request = asyncio.create_task(asked)
        return [(await self._request)[seed - self._first]]

    def shutdown(self) -> None:
        """The engine outlives its requests."""
