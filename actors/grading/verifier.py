"""The verifier: the Ray actor around a grader."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import ray

from actors.grading.judge import ask_judge
from actors.grading.scorer import ask_scorer
from actors.logs import LOGGER, log_in_actor
from actors.remote import PULSE
from rewards import Grader, Question, Remote, Verdict


class Verifier:
    """Grades responses in worker processes of its own. It can be killed and started again any time."""

    def __init__(self, judges: Mapping[str, str], scorers: Mapping[str, str] | None = None) -> None:
        """`judges` has the name of the judge actor of each reward that the run hosts a language model for, `scorers`
        that of the scorer actor of each reward whose model has a GPU of its own."""
        log_in_actor()
        self._busy_seconds = 0.0
        hosted: dict[str, Remote] = {name: partial(ask_judge, judges) for name in judges}
        if scorers:
            hosted |= {name: partial(ask_scorer, scorers) for name in scorers}
        self._grader = Grader(hosted)

    def grade(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per question, in order."""
        return self._timed(self._grader.grade, questions)

    def grade_group(self, questions: list[Question]) -> list[Verdict]:
        """One verdict per sibling of one group, in order; rewards that compare siblings see them all at once."""
        return self._timed(self._grader.grade_group, questions)

    @ray.method(concurrency_group=PULSE)
    def busy_seconds(self) -> float:
        """Seconds spent on questions so far."""
        return self._busy_seconds

    def _timed(self, grade: Callable[[list[Question]], list[Verdict]], questions: list[Question]) -> list[Verdict]:
        started = time.monotonic()
        try:
            verdicts = grade(questions)
        finally:
            self._busy_seconds += time.monotonic() - started
        if lost := [verdict for verdict in verdicts if not verdict.outcome.scored]:
            reasons = Counter(verdict.outcome.value for verdict in lost)
            LOGGER.warning("%d of %d responses have no verdict: %s", len(lost), len(verdicts), dict(reasons))
        return verdicts

    def stop(self) -> None:
        """Ends the worker processes."""
        self._grader.close()
