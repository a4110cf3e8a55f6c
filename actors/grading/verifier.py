"""The verifier: the Ray actor around a grader, and around a bench of tools."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import ray

from actors.grading.judge import ask_judge
from actors.grading.scorer import ask_scorer
from actors.logs import LOGGER, log_in_actor
from actors.remote import PULSE, PULSE_THREAD
from actors.tools.bench import CALLS, Bench
from actors.tools.tool import Kind, Result
from actors.tools.worker import Ready, Work
from rewards import Grader, Question, Remote, Verdict

TOOLS = "tools"  # concurrency group of what runs beside the grading
VERIFIER_THREADS = {TOOLS: CALLS, **PULSE_THREAD}  # threads of each, for Ray
BESIDE_GRADING = 10.0  # seconds that a call of the grader takes besides waiting for its workers, at most


class Verifier:
    """Grades responses and runs tools in worker processes of its own. It can be killed and started again any time."""

    def __init__(self, judges: Mapping[str, str], scorers: Mapping[str, str] | None = None) -> None:
        """`judges` has the name of the judge actor of each reward that the run hosts a language model for, `scorers`
        that of the scorer actor of each reward whose model has a GPU of its own."""
        log_in_actor()
        self._busy_seconds = 0.0
        self._asked_at: float | None = None  # when the call in hand began, on the clock of time.monotonic
        hosted: dict[str, Remote] = {name: partial(ask_judge, judges) for name in judges}
        if scorers:
            hosted |= {name: partial(ask_scorer, scorers) for name in scorers}
        self._grader = Grader(hosted)
        self._bench = Bench()

    def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order."""
        with self._busy():
            return _with_losses_logged(self._grader.grade(questions))

    def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; rewards that compare siblings see them all at once."""
        with self._busy():
            return _with_losses_logged(self._grader.grade_group(questions))

    @ray.method(concurrency_group=TOOLS)
    def tools(self, kind: Kind, memory_mib: int) -> Ready:
        """What a kind of tools offers, or why it cannot be used."""
        return self._bench.ready(kind, memory_mib)

    @ray.method(concurrency_group=TOOLS)
    def use(self, work: Work) -> Result:
        """What a call of a tool gives; one that fails gives a text."""
        return self._bench.use(work)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._asked_at = began = time.monotonic()
        try:
            yield
        finally:
            self._asked_at = None
            self._busy_seconds += time.monotonic() - began

    @ray.method(concurrency_group=PULSE)
    def overdue_seconds(self) -> float:
        """A sign of life: for how long the call in hand should have been done with; 0 where nothing hangs."""
        if (asked_at := self._asked_at) is None:
            return 0.0
        return max(0.0, time.monotonic() - max(asked_at, self._grader.due) - BESIDE_GRADING)

    @ray.method(concurrency_group=PULSE)
    def busy_seconds(self) -> float:
        """Seconds spent on questions so far."""
        return self._busy_seconds

    def stop(self) -> None:
        """Ends the worker processes."""
        self._bench.close()
        self._grader.close()


def _with_losses_logged(verdicts: list[Verdict]) -> list[Verdict]:
    """The same verdicts; those that are none are counted in the actor's log."""
    if lost := [verdict for verdict in verdicts if not verdict.outcome.scored]:
        reasons = Counter(verdict.outcome.value for verdict in lost)
        LOGGER.warning("%d of %d responses have no verdict: %s", len(lost), len(verdicts), dict(reasons))
    return verdicts
