"""Runs tools in processes that can be killed: a call that takes too long, dies or breaks costs its process, and nothing
else. For several threads, each of which waits for its own call."""

import threading
from dataclasses import dataclass

from actors.tools.tool import Kind, Result, failure
from actors.tools.worker import Ready, Work
from rewards.grading.process import START_SECONDS, Lost, Process

WORKER = "actors.tools.worker"
CALLS = 4  # that run at the same time, and most processes
BESIDE = 1.0  # seconds over the limit of a call, in which what keeps that limit itself comes to its end


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Started:
    """A process that serves a kind of tools, or was to."""

    kind: Kind
    process: Process
    ready: Ready


class Bench:
    """Owner of the processes of tools. Each serves one kind, and is kept for its next call."""

    def __init__(self, calls: int = CALLS) -> None:
        """`calls` is how many may run at the same time; others wait for their turn."""
        self._turns = threading.BoundedSemaphore(calls)
        self._most = calls
        self._lock = threading.Lock()
        self._free: list[Started] = []  # what was used last at the end
        self._busy = set[Process]()
        self._closed = False

    def ready(self, kind: Kind, memory_mib: int) -> Ready:
        """What a kind of tools has to offer, or why it cannot be used."""
        with self._turns:
            started = self._taken(kind, memory_mib)
            self._give_back(started, good=not started.ready.problem)
            return started.ready

    def use(self, work: Work) -> Result:
        """What a call gives; one that fails gives a text."""
        with self._turns:
            started = self._taken(work.kind, work.limits.memory_mib)
            if problem := started.ready.problem:
                self._give_back(started, good=False)
                return Result(text="", failed=True, why=problem, broken=True)
            started.process.send(work)
            answer: Result | Lost = started.process.receive(work.limits.seconds + BESIDE)
            good = not isinstance(answer, Lost) and not answer.spoiled
            self._give_back(started, good=good)
        if not isinstance(answer, Lost):
            return answer
        if answer.late:
            return failure(f"{work.name} took longer than {work.limits.seconds:g} s")
        return failure(
            f"{work.name} ended its own process", f"the process of {work.name} ended: status {answer.status}"
        )

    def close(self) -> None:
        """Ends the processes, and with them what they started. Calls that run fail."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
            for process in self._busy:
                process.end()  # whoever waits for it sees its end
        for started in free:
            started.process.kill()

    def _taken(self, kind: Kind, memory_mib: int) -> Started:
        """A process that serves this kind: one that is free, or else a new one, in place of that which has been free
        for longest where there are enough."""
        memory_mib = memory_mib if kind.bounded else 0
        with self._lock:
            fits = [each for each in self._free if each.kind == kind and each.process.memory_mib == memory_mib]
            if fits:
                self._free.remove(fits[-1])
                self._busy.add(fits[-1].process)
                return fits[-1]
            spare = [self._free.pop(0)] if len(self._free) + len(self._busy) >= self._most else []
        for started in spare:
            started.process.kill()
        process = Process(WORKER, memory_mib)
        with self._lock:
            self._busy.add(process)
        process.send(kind)
        ready: Ready | Lost = process.receive(START_SECONDS)
        if isinstance(ready, Lost):
            why = f"took longer than {START_SECONDS:g} s" if ready.late else f"ended with status {ready.status}"
            ready = Ready(problem=f"its start {why}")
        return Started(kind=kind, process=process, ready=ready)

    def _give_back(self, started: Started, *, good: bool) -> None:
        with self._lock:
            self._busy.discard(started.process)
            if good and not self._closed:
                self._free.append(started)
                return
        started.process.kill()
