"""The clock of one side of a comparison: totals after each step, and when an accuracy was reached. Imports nothing."""

from collections import deque
from collections.abc import Mapping, Sequence

WINDOW = 3  # steps whose mean accuracy must reach the wanted one: a single step is luck


class Watch:
    """Counts samples and tokens; a step ends after its samples were counted."""

    def __init__(self, *, seconds: float, accuracy: float) -> None:
        self._seconds, self._wanted = seconds, accuracy
        self._recent: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._samples = self._tokens = 0
        self._correct = self._counted = 0
        self._began = 0.0
        self._left_out = 0  # samples of the first step
        self._ends = 0.0  # so many seconds behind the end of the first step, in which much is done once
        self.over = False

    def begin(self, now: float) -> None:
        """Training begins."""
        self._began = now

    def sampled(self, correct: int, lengths: Sequence[int]) -> None:
        """Responses of the step that is going on."""
        self._correct, self._counted = self._correct + correct, self._counted + len(lengths)
        self._samples, self._tokens = self._samples + len(lengths), self._tokens + sum(lengths)

    def step(self, now: float) -> dict[str, float]:
        """A step is over: totals, its own correct samples, and the accuracy of the last steps' samples."""
        self._left_out, self._ends = self._left_out or self._samples, self._ends or now + self._seconds
        self._recent.append((self._correct, self._counted))
        right, self._correct, self._counted = self._correct, 0, 0
        correct, counted = (sum(column) for column in zip(*self._recent, strict=True))
        accuracy = correct / max(1, counted)
        enough = len(self._recent) == WINDOW and accuracy >= self._wanted
        self.over = enough or now >= self._ends
        return {
            "seconds": now - self._began,
            "samples": self._samples,
            "tokens": self._tokens,
            "correct": right,
            "accuracy": accuracy,
            "reached": float(enough),
        }

    def cost(self, cpu: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """The last line: CPU milliseconds of each process for a sample, from its seconds since the first step ended."""
        samples = max(1, self._samples - self._left_out)
        return {"cpu": {name: 1000 * seconds / samples for name, seconds in cpu.items()}}
