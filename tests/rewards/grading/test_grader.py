"""The processes in which rewards are computed, with rewards that hang, die, eat memory and raise."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Case, Grader, Outcome, Question, RewardSettings

OWN = """
import os, time

def reward(response, reference, prompt):
    if response == "hang":
        while True:
            pass
    if response == "sleep":
        time.sleep(1000)
    if response == "power":
        return 5 ** 5 ** 5 ** 5 > 0  # one call into C, which no signal handler of Python interrupts
    if response == "die":
        os._exit(3)
    if response == "eat":
        return len(bytearray(1 << 40)) > 0
    if response == "hoard":
        held = []
        while True:
            held.append(bytearray(1 << 24))
    if response == "raise":
        raise ArithmeticError("no such thing")
    if response == "words":
        return "very good"
    return response == reference
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RewardSettings:
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(OWN)
    return RewardSettings(name="own", own={"file": str(file)}, seconds=4.0, memory_mib=1024)


@pytest.fixture
def grader() -> Iterator[Grader]:
    made = Grader()
    yield made
    made.close()


def questions(settings: RewardSettings, *responses: str, reference: str = "yes") -> list[Question]:
    cases = (Case(response=response, reference=reference) for response in responses)
    return [Question(reward=settings.name, case=case, settings=settings) for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "outcome", "why"),
    [
        ("hang", Outcome.TIMEOUT, "within 4 s"),
        ("sleep", Outcome.TIMEOUT, "within 4 s"),
        ("power", Outcome.TIMEOUT, "within 4 s"),
        ("die", Outcome.ERROR, "status 3"),
        ("eat", Outcome.ERROR, "1024 MiB"),
        ("hoard", Outcome.ERROR, "1024 MiB"),
        ("raise", Outcome.ERROR, "ArithmeticError: no such thing"),
        ("words", Outcome.ERROR, "'very good'"),
    ],
)
def test_a_broken_reward_is_no_verdict_and_its_neighbours_keep_theirs(
    grader: Grader, settings: RewardSettings, broken: str, outcome: Outcome, why: str
) -> None:
    seconds = 4.0 if outcome is Outcome.TIMEOUT else 60.0
    settings = settings.model_copy(update={"seconds": seconds})
    verdicts = grader.grade(questions(settings, "yes", "no", broken, "no", "yes"))
    ends = [verdict.outcome for verdict in verdicts]
    assert ends == [Outcome.CORRECT, Outcome.WRONG, outcome, Outcome.WRONG, Outcome.CORRECT]
    assert [verdict.score for verdict in verdicts] == [1.0, -1.0, None, -1.0, 1.0]
    assert why in verdicts[2].why


@pytest.mark.slow
def test_a_formula_that_no_computer_can_work_out_is_wrong_or_what_the_settings_say(grader: Grader) -> None:
    tower = r"\boxed{\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}}"
    settings = RewardSettings(name="math", seconds=6.0, memory_mib=1024)
    verdicts = grader.grade(questions(settings, r"\boxed{5}", tower, r"\boxed{6}", reference="5"))
    assert [verdicts[0].outcome, verdicts[2].outcome] == [Outcome.CORRECT, Outcome.WRONG]
    assert verdicts[1].outcome in (Outcome.LATE, Outcome.WRONG)
    assert verdicts[1].score == -1.0
    settings = settings.model_copy(update={"timeout": "none"})
    (verdict,) = grader.grade(questions(settings, tower, reference="5"))
    assert (verdict.outcome, verdict.score) in ((Outcome.TIMEOUT, None), (Outcome.WRONG, -1.0))


def test_the_traceback_of_a_raising_reward_names_its_line(grader: Grader, settings: RewardSettings) -> None:
    (verdict,) = grader.grade(questions(settings, "raise"))
    assert "mine.py" in verdict.why
    assert "in reward" in verdict.why


@pytest.mark.slow
def test_a_killed_worker_is_gone_and_another_takes_its_place(grader: Grader, settings: RewardSettings) -> None:
    grader.grade(questions(settings, "yes"))
    first = pids(grader)
    grader.grade(questions(settings, "hang", "yes"))
    assert grader.replaced == 1
    assert pids(grader).isdisjoint(first)
    assert not any(alive(pid) for pid in first)
    last = pids(grader)
    grader.close()
    assert not any(alive(pid) for pid in last)


@pytest.mark.slow
def test_threads_and_coroutines_get_their_own_verdicts_with_the_deadline_enforced(
    grader: Grader, settings: RewardSettings
) -> None:
    async def ask() -> list[list[Outcome]]:
        asked = (["yes", "hang"], ["no"], ["hang", "no"], ["yes"])
        calls = (asyncio.to_thread(grader.grade, questions(settings, *responses)) for responses in asked)
        return [[verdict.outcome for verdict in verdicts] for verdicts in await asyncio.gather(*calls)]

    found: list[list[list[Outcome]]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(ask())))
    thread.start()
    thread.join()
    right, wrong, late = Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT
    assert found == [[[right, late], [wrong], [late, wrong], [right]]]


@pytest.mark.slow
def test_large_responses_behind_a_hanging_one_do_not_block(grader: Grader, settings: RewardSettings) -> None:
    large = "x" * (1 << 20)
    verdicts = grader.grade(questions(settings, "hang", large, large))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.TIMEOUT, Outcome.WRONG, Outcome.WRONG]


def test_a_worker_whose_owner_is_gone_ends(settings: RewardSettings) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        grader = Grader()
        grader.grade(questions(settings, "yes"))
        os.write(write, f"{pids(grader).pop()}\n".encode())
        grader.grade(questions(settings.model_copy(update={"seconds": 1000.0}), "sleep"))
    worker = int(os.read(read, 100))
    os.kill(child, 9)
    os.waitpid(child, 0)
    deadline = threading.Event()
    for _ in range(600):
        if not alive(worker):
            break
        deadline.wait(0.1)
    assert not alive(worker)


def test_a_combination_is_made_of_the_verdicts_of_its_parts(grader: Grader) -> None:
    settings = RewardSettings(name="sum", sum={"weights": {"number": 3.0, "format": 1.0}})
    boxed, bare, wrong, empty = "<think>a</think><answer>7</answer>", "7", r"\boxed{8}", ""
    found = grader.grade(questions(settings, boxed, bare, wrong, empty, reference="7"))
    assert [verdict.score for verdict in found] == [1.0, 0.5, -0.5, -1.0]
    assert found[1].parts["number"] == 1.0
    assert found[1].parts["format"] == 0.0


def test_a_part_without_a_verdict_leaves_the_whole_without_one(grader: Grader, settings: RewardSettings) -> None:
    both = RewardSettings(name="product", product={"weights": {"own": 1.0, "number": 1.0}}, own=settings.of("own"))
    found = grader.grade(questions(both, "7", "raise", reference="7"))
    assert [verdict.outcome for verdict in found] == [Outcome.CORRECT, Outcome.ERROR]


def test_references_are_checked_in_the_same_processes(grader: Grader) -> None:
    problems = grader.problems("number", ["7", "seven", "8"], RewardSettings())
    assert [bool(problem) for problem in problems] == [False, True, False]
    assert "'seven' holds no number" in problems[1]


def pids(grader: Grader) -> set[int]:
    return {worker._process.pid for worker in grader._workers.values()}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
