"""Several graders at work at the same time on this machine, for `winnow grade`, `winnow check` and the preflight."""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.progress import track

from cluster.reporting.terminal import console
from rewards import Grader, Question, RewardSettings, Verdict

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
CHUNK = 16  # cases that a grader takes at a time


def progress(items: Iterable[Answer], name: str, count: int) -> Iterable[Answer]:
    """The items as they come, with a bar on a terminal's stderr that is gone at the end."""
    terminal = console(sys.stderr)
    return track(items, name, total=count, console=terminal, transient=True, disable=not terminal.is_terminal)


class Graders:
    """A grader for each core, each started when first needed. Use as a context: its end ends their processes."""

    def __init__(self, workers: int = 0) -> None:
        """`workers` is how many; 0 takes one for each core."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._threads = ThreadPoolExecutor(self.workers)
        self._own = threading.local()
        self._all: list[Grader] = []

    def __enter__(self) -> "Graders":
        return self

    def __exit__(self, *failure: object) -> None:
        self._threads.shutdown(cancel_futures=True, wait=False)
        for grader in self._all:
            grader.close()

    def grade(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """One verdict per question, in order."""
        return self._shared_out(questions, lambda grader, asked: grader.grade(asked))

    def grade_groups(self, groups: Sequence[Sequence[Question]]) -> Iterator[list[Verdict]]:
        """One verdict per sibling of each group, in order; siblings are graded together."""
        return self._shared_out(groups, lambda grader, asked: [grader.grade_group(group) for group in asked])

    def answers(
        self, name: str, groups: Sequence[Sequence[str]], settings: RewardSettings
    ) -> Iterator[list[int | None] | None]:
        """Which responses of each group give the same answer, as `Grader.answers` says it; in order."""
        return self._shared_out(
            groups, lambda grader, asked: [grader.answers(name, responses, settings) for responses in asked]
        )

    def problems(self, name: str, references: Sequence[str], settings: RewardSettings) -> Iterator[str]:
        """What is wrong with each reference, "" where responses can be graded against it; in order."""
        return self._shared_out(references, lambda grader, asked: grader.problems(name, asked, settings))

    def _shared_out(
        self, items: Sequence[Asked], ask: Callable[[Grader, Sequence[Asked]], Sequence[Answer]]
    ) -> Iterator[Answer]:
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        for answers in self._threads.map(lambda chunk: ask(self._grader(), chunk), chunks):
            yield from answers

    def _grader(self) -> Grader:
        if not hasattr(self._own, "grader"):
            self._own.grader = Grader()
            self._all.append(self._own.grader)
        return self._own.grader
