"""Absolute Zero: the policy proposes programs and solves what they ask. No answer is in the data; the sandbox judges.

    deduction  d   the program and its input are shown, the output is to be said
    abduction  a   the program and its output are shown, an input is to be said that gives it
    induction  i   two inputs with outputs are shown, a program is to be said that also holds on two hidden inputs

A program is an expression of x. A row of the training data names a kind and an input, such as "d 3", and nothing else.
Evaluations have tasks that no proposer has made, such as "d x*2 3", and rows whose answer is "measure", for which only
the proposal is scored.
"""

import re

from actors.data.messages import Call
from actors.tools import Python
from actors.tools.tool import Limits

NUMBERS = 4  # inputs and operands are below it
ATTEMPTS = 4  # at each proposal
BAD_FORM, FRUITLESS = -1.0, -0.5  # the composite reward: not to be read; read, and worth nothing
PROGRAM, NUMBER = re.compile(r"[x\d][-+*/%x\d]{0,4}"), re.compile(r"-?\d{1,3}")
FOUND: dict[tuple[str, int], str] = {}  # program and input -> output, as the sandbox said
JUDGE = """for program, x in {pairs!r}:
    try:
        print(repr(eval(program, {{"__builtins__": {{}}}}, {{"x": x}})))
    except Exception:
        print("!")
"""


def learnability(right: list[bool]) -> float:
    """1 less the share of attempts that are right; 0 where all or none are."""
    share = sum(right) / len(right)
    return 1 - share if share else 0.0


def composite(readable: bool, reward: float) -> float:
    """The reward of a role with what its form is worth."""
    return (reward or FRUITLESS) if readable else BAD_FORM


def sandbox(code: str) -> str:
    """Runs a Python program in the sandbox.

    Args:
        code: the program
    """
    return Python().start().call("python", {"code": code}, Limits(seconds=20, memory_mib=512, max_characters=4000))


async def outputs(talk, pairs):
    """What programs give for their inputs, in the sandbox: texts, and "!" where one fails, gives no whole number, or
    gives another the second time. What was found once is remembered."""
    new = [pair for pair in dict.fromkeys(pairs) if pair not in FOUND]
    if new:
        call = Call(id="judge0000", name="sandbox", arguments={"code": JUDGE.format(pairs=new * 2)})
        lines = (await talk.run([call]))[0].splitlines()
        twice = zip(new, lines[: len(new)], lines[len(new) :], strict=True)
        FOUND.update((pair, one if one == again and NUMBER.fullmatch(one) else "!") for pair, one, again in twice)
    return [FOUND[pair] for pair in pairs]


def shown_and_hidden(x: int) -> tuple[list[int], list[int]]:
    """The inputs of an induction that begins with x."""
    inputs = [(x + step) % NUMBERS for step in (0, 1, 2, 3)]
    return inputs[:2], inputs[2:]


async def asked(talk, kind, program, x):
    """The question that a program makes, and what is hidden of it; None where the program fails."""
    inputs = [each for some in shown_and_hidden(x) for each in some] if kind == "i" else [x]
    found = await outputs(talk, [(program, each) for each in inputs])
    if "!" in found:
        return None
    pairs = [f"{each}:{result}" for each, result in zip(inputs, found, strict=True)]
    if kind == "i":
        return f"i {pairs[0]} {pairs[1]}", " ".join(pairs[2:])
    return (f"d {program} {x}", found[0]) if kind == "d" else (f"a {program} {found[0]}", found[0])


async def judged(talk, question, hidden, answers):
    """For each answer whether it can be read, and whether it is right."""
    kind, *given = question.split(" ")
    form = PROGRAM if kind == "i" else NUMBER
    readable = [bool(form.fullmatch(answer)) for answer in answers]
    if kind == "d":
        return [(ok, answer == hidden) for ok, answer in zip(readable, answers, strict=True)]
    if kind == "a":
        tries = [[(given[0], int(answer), hidden)] if ok else [] for ok, answer in zip(readable, answers, strict=True)]
    else:
        pairs = [pair.split(":") for pair in [*given, *hidden.split(" ")]]
        tries = [
            [(answer, int(x), result) for x, result in pairs] if ok else []
            for ok, answer in zip(readable, answers, strict=True)
        ]
    wanted = [each for one in tries for each in one]
    found = iter(await outputs(talk, [(program, x) for program, x, _ in wanted]))
    right = [[next(found) for _ in one] == [result for *_, result in one] for one in tries]
    return list(zip(readable, [ok and good for ok, good in zip(readable, right, strict=True)], strict=True))


async def attempt(talk, question, hidden, count, trained):
    """The scores of solvers by their seats, and whether each was right."""
    seats = [talk.seat(f"solver{number}", trained=trained) for number in range(count)]
    answers = [(await seat(question)).text for seat in seats]
    verdicts = await judged(talk, question, hidden, answers)
    scores = {seat.name: composite(*verdict) for seat, verdict in zip(seats, verdicts, strict=True)}
    return (scores if trained else {}), [right for _, right in verdicts]


async def play(task, talk):
    talk.tools([sandbox])  # for the judge; the policy speaks in other seats, and is not told of it
    if task.reference not in ("propose", "measure"):  # a held-out task
        return (await attempt(talk, task.question, task.reference, 1, trained=True))[0]
    kind, x = task.question.split(" ")
    program = (await talk.seat("proposer")(task.question)).text
    readable = bool(PROGRAM.fullmatch(program)) and "x" in program
    made = await asked(talk, kind, program, int(x)) if readable else None
    if made is None:  # its solvers would all be right, as nothing is asked
        return {"proposer": composite(readable, 0.0)}
    question, hidden = made
    scores, right = await attempt(talk, question, hidden, ATTEMPTS, trained=task.reference == "propose")
    return {"proposer": composite(True, learnability(right)), **scores}
