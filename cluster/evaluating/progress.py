"""How an evaluation gets on, for the person who waits for it."""

import time
from typing import Protocol

LINES = 20  # in an evaluation, at most but for what is slow
SHORTEST, LONGEST = 2.0, 30.0  # seconds between two lines


class Shown(Protocol):
    """Whoever shows a line; `cluster.reporting.outputs.Display` is the real one."""

    def status(self, text: str) -> None:
        """What goes on."""


class Told:
    """Is told of every prompt, and says now and then how many are done, how accurate they are, and how long the rest
    will take."""

    def __init__(self, shown: Shown, prompts: int) -> None:
        """
        Args:
            shown: shows what is said.
            prompts: in all.
        """
        self._shown, self._prompts = shown, prompts
        self._done = self._correct = self._scored = 0
        self._began = self._said_at = 0.0
        self._said = 0  # prompts that were done then

    def status(self, text: str) -> None:
        """What goes on before there are prompts."""
        self._shown.status(text)

    def begin(self, now: float) -> None:
        """The engines run; `now` is on the clock of time.monotonic."""
        self._began = self._said_at = now
        self._shown.status(f"evaluating {_count(self._prompts, 'prompt')}")

    def done(self, *, correct: int, scored: int) -> None:
        """A prompt is done; how many of its responses have a verdict, and are correct."""
        self._done, self._correct, self._scored = self._done + 1, self._correct + correct, self._scored + scored
        now = time.monotonic()
        many, since = self._done - self._said >= self._prompts / LINES, now - self._said_at
        if since >= LONGEST or (many and since >= SHORTEST) or self._done == self._prompts:
            self._said, self._said_at = self._done, now
            self._shown.status(self._line(now))

    def _line(self, now: float) -> str:
        accuracy = f", accuracy so far {self._correct / self._scored:.3f}" if self._scored else ""
        left = (self._prompts - self._done) * (now - self._began) / self._done
        time_left = f", about {_duration(left)} left" if self._done < self._prompts else ""
        return f"{self._done} of {_count(self._prompts, 'prompt')}{accuracy}{time_left}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
