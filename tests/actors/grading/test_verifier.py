import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

import actors.grading.queue
import actors.grading.verifier
from actors.errors import BrokenPart, BrokenVerifier, Hangs, VerifierDied
from actors.grading.client import VerifierClient
from actors.grading.queue import TRIES, VerifierQueue
from actors.grading.verifier import Verifier
from rewards import Case, Grader, Outcome, Question, RewardSettings, Verdict
from tests.doubles import InProcess


def question(response: str) -> Question:
    return Question(reward="exact", case=Case(response=response, reference="7"), settings=RewardSettings())


def graded(questions: list[Question]) -> list[Verdict]:
    return [
        Verdict(outcome=Outcome.CORRECT, score=1.0, why="")
        if q.case.response == q.case.reference
        else Verdict(outcome=Outcome.WRONG, score=-1.0, why="")
        for q in questions
    ]


class Asked:
    """A verifier that answers with a function."""

    def __init__(self, ask: Callable[[list[Question]], Awaitable[list[Verdict]]]) -> None:
        self.grade = self.grade_group = ask
        self.looks = 0  # at whether it is there again

    async def alive(self) -> None:
        self.looks += 1


async def test_questions_that_gather_while_the_verifier_is_busy_go_in_one_call() -> None:
    calls: list[int] = []

    async def ask(questions: list[Question]) -> list[Verdict]:
        calls.append(len(questions))
        await asyncio.sleep(0.01)
        return graded(questions)

    queue = VerifierQueue([Asked(ask)], batch=64)
    verdicts = await asyncio.gather(*(queue.grade(question(str(number))) for number in range(40)))
    assert [verdict.outcome is Outcome.CORRECT for verdict in verdicts] == [number == 7 for number in range(40)]
    assert sum(calls) == 40
    assert len(calls) <= 3


async def test_several_verifiers_work_at_the_same_time() -> None:
    running = peak = 0

    async def ask(questions: list[Question]) -> list[Verdict]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        return graded(questions)

    queue = VerifierQueue([Asked(ask)] * 3, batch=1)
    await asyncio.gather(*(queue.grade(question("7")) for _ in range(6)))
    assert peak == 3


async def test_a_verifier_that_fails_gives_no_verdict_and_its_neighbours_keep_theirs() -> None:
    async def ask(questions: list[Question]) -> list[Verdict]:
        if any(q.case.response == "poison" for q in questions):
            raise BrokenVerifier("killed")
        return graded(questions)

    queue = VerifierQueue([Asked(ask)], batch=1)
    verdicts = await asyncio.gather(*(queue.grade(question(text)) for text in ("7", "poison", "8")))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.CORRECT, Outcome.ERROR, Outcome.WRONG]
    assert verdicts[1].score is None
    assert queue.failed_calls == 1


async def test_what_a_verifier_was_asked_when_it_died_is_asked_again_and_answered_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actors.grading.queue, "SECONDS_BETWEEN", 0.001)
    calls: list[list[str]] = []

    async def ask(questions: list[Question]) -> list[Verdict]:
        calls.append([q.case.response for q in questions])
        if len(calls) == 1:
            raise VerifierDied("killed")
        return graded(questions)

    verifier = Asked(ask)
    queue = VerifierQueue([verifier])
    single, siblings = await asyncio.gather(
        asyncio.gather(*(queue.grade(question(text)) for text in ("7", "1"))),
        queue.grade_group([question(text) for text in ("2", "7")]),
    )
    assert [v.outcome is Outcome.CORRECT for v in [*single, *siblings]] == [True, False, False, True]
    assert sorted(calls[1:]) == [["1"], ["2", "7"], ["7"]]  # alone, as any of them may be what killed it
    assert verifier.looks == 1
    queue.close()


async def test_a_question_that_kills_verifiers_has_no_verdict_and_its_neighbours_have_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actors.grading.queue, "SECONDS_BETWEEN", 0.001)
    poisonous = 0

    async def ask(questions: list[Question]) -> list[Verdict]:
        nonlocal poisonous
        if any(q.case.response == "poison" for q in questions):
            poisonous += 1
            raise VerifierDied("killed")
        return graded(questions)

    queue = VerifierQueue([Asked(ask), Asked(ask)])
    verdicts = await asyncio.gather(*(queue.grade(question(text)) for text in ("7", "poison", "8")))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.CORRECT, Outcome.ERROR, Outcome.WRONG]
    assert poisonous == TRIES
    queue.close()


async def test_a_verifier_that_does_not_come_back_takes_no_question_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actors.grading.queue, "SECONDS_BETWEEN", 0.001)
    dead_calls = 0

    async def die(questions: list[Question]) -> list[Verdict]:
        nonlocal dead_calls
        dead_calls += 1
        raise VerifierDied("its node is gone")

    async def answer(questions: list[Question]) -> list[Verdict]:
        await asyncio.sleep(0.001)
        return graded(questions)

    class Gone(Asked):
        """Never there again."""

        async def alive(self) -> None:
            raise BrokenPart("gone")

    queue = VerifierQueue([Gone(die), Asked(answer)], batch=2)
    verdicts = await asyncio.gather(*(queue.grade(question("7")) for _ in range(40)))
    assert all(verdict.outcome is Outcome.CORRECT for verdict in verdicts)
    assert dead_calls == 1
    queue.close()


async def test_siblings_that_are_graded_together_have_a_call_of_their_own() -> None:
    calls: list[list[str]] = []

    async def ask(questions: list[Question]) -> list[Verdict]:
        calls.append([q.case.response for q in questions])
        return graded(questions)

    queue = VerifierQueue([Asked(ask)])
    single, siblings = await asyncio.gather(
        asyncio.gather(*(queue.grade(question(text)) for text in ("7", "1"))),
        queue.grade_group([question(text) for text in ("2", "7")]),
    )
    assert calls == [["7", "1"], ["2", "7"]]
    assert [v.outcome is Outcome.CORRECT for v in [*single, *siblings]] == [True, False, False, True]
    queue.close()


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_verifier_says_itself_when_its_grading_is_over_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.grading.verifier, "BESIDE_GRADING", 0.05)
    verifier, goes_on = Verifier({}), threading.Event()
    monkeypatch.setattr(verifier._grader, "grade", lambda questions: goes_on.wait(60) and graded(questions))
    assert verifier.overdue_seconds() == 0  # it is asked nothing
    asked = threading.Thread(target=verifier.grade, args=([question("7")],))
    asked.start()
    until(lambda: verifier.overdue_seconds() > 0)
    verifier._grader.due = time.monotonic() + 60  # somebody is waited for who has time until then
    assert verifier.overdue_seconds() == 0
    verifier._grader.due = 0.0
    assert verifier.overdue_seconds() > 0
    goes_on.set()
    asked.join()
    assert verifier.overdue_seconds() == 0


async def test_a_verifier_that_hangs_is_an_error_with_its_name() -> None:
    class Late:
        def overdue_seconds(self) -> float:
            return 3.0

    with pytest.raises(Hangs, match="verifier-0 hangs: its grading is over its time by 3 s"):
        await VerifierClient(InProcess(Late()), "verifier-0").alive()


def test_a_grader_knows_when_whoever_it_asks_has_answered_or_is_given_up() -> None:
    grader = Grader()
    began = time.monotonic()
    (verdict,) = grader.grade([question("7")])
    grader.close()
    assert verdict.outcome is Outcome.CORRECT
    assert began + RewardSettings().seconds <= grader.due <= time.monotonic() + RewardSettings().seconds
