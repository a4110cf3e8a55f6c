"""How an evaluation gets on, for the person who waits for it."""

from typing import Protocol

WHAT = "evaluating, prompts"


class Shown(Protocol):
    """Whoever shows it; `cluster.reporting.display.Display` is the real one."""

    def status(self, text: str) -> None:
        """What goes on."""

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        """How far it has got."""


class Told:
    """Is told of every prompt, and says how many are done and how accurate they are."""

    def __init__(self, shown: Shown, prompts: int) -> None:
        """
        Args:
            shown: shows what is said.
            prompts: in all.
        """
        self._shown, self._prompts = shown, prompts
        self._done = self._correct = self._scored = 0

    def status(self, text: str) -> None:
        """What goes on before there are prompts."""
        self._shown.status(text)

    def begin(self) -> None:
        """The engines run."""
        self._shown.advance(WHAT, 0, self._prompts)

    def done(self, *, correct: int, scored: int) -> None:
        """A prompt is done; how many of its responses have a verdict, and are correct."""
        self._done, self._correct, self._scored = self._done + 1, self._correct + correct, self._scored + scored
        accuracy = f"accuracy so far {self._correct / self._scored:.3f}" if self._scored else ""
        self._shown.advance(WHAT, self._done, self._prompts, accuracy)
