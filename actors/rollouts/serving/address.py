"""The address of one seat of one episode: for agents in the environment itself, and for those with a process of their
own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from actors.rollouts.serving.agent import run_agent
from actors.rollouts.serving.conversations import Conversations
from actors.rollouts.serving.endpoint import Endpoint


class Address:
    """Its keys, and what is behind them; used in the thread of the environments, but for `give_up`."""

    def __init__(self, endpoint: Endpoint, conversations: Conversations) -> None:
        """
        Args:
            endpoint: the server.
            conversations: what is behind the address.
        """
        self._endpoint, self._conversations = endpoint, conversations
        self._key = endpoint.open(conversations)
        self.url = endpoint.url(self._key)

    def start(
        self, command: Sequence[str], variables: Mapping[str, str], folder: Path, seconds: float | None
    ) -> "Future[str]":
        """Starts an agent; see `run_agent`. Its key is its own: nothing is behind it when the agent has ended."""
        key = self._endpoint.open(self._conversations)
        known = {"OPENAI_BASE_URL": self._endpoint.url(key), "OPENAI_API_KEY": key, **variables}
        running = self._endpoint.run(run_agent(command, known, folder, seconds))
        running.add_done_callback(lambda _: self._endpoint.shut(key))
        return running

    def give_up(self) -> None:
        """Ends what is being sampled; in the loop of the rollout."""
        self._conversations.give_up()

    def shut(self) -> None:
        """Nothing is behind the address any more."""
        self._endpoint.shut(self._key)
