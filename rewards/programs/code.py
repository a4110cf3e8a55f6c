"""The reward `code`: model-written Python against tests, in a sandbox.

The response's code and the tests run in two processes, each in a sandbox of its own (sandbox.py), joined by
two pipes. The code gets arguments and gives back plain values; the tests compare them where the code cannot reach,
so ending early, printing or patching the comparison passes no test.

What follows from that: arguments are copies. What a call did to a list, dict or set is done to the test's own one when
the call is a whole statement, or when no comparison of the tests has something of the response on both sides; so a
change of an argument cannot change what is expected. Only the standard library can be imported; objects of the
response's own classes stay with it, where a test may call and read them, and equal nothing but themselves.
"""

import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from signal import SIGKILL, SIGXCPU
from typing import Any

from rewards.programs.blocks import response_code
from rewards.programs.references import LENT, Calls, Functions, Runs, check_wanted, cut, parsed
from rewards.programs.sandbox import Box, Program, follow, sandbox_problem
from rewards.settings import Budget, KindSettings, Partial
from rewards.verdict import Case, Outcome, RewardResult

_MOST_MEMORY = 1024  # MiB of one program
_TOLERANCE = 1e-9
_ROUNDED = 6  # decimal places from which on a number that is rounded to them equals the whole one
_DECIMAL = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?", re.ASCII)


class CodeSettings(KindSettings):
    """[reward.code]."""

    partial: Partial = 0.0  # the reward of wrong code is this times the share of tests that it passes
    unsandboxed: bool = False  # run model-written code without bubblewrap: only on a machine that may be lost


@dataclass(frozen=True, slots=True)
class _Tally:
    passed: int
    tests: int
    failure: str  # of the first test that fails; "" where none does
    late: str = ""  # what did not finish in time; "" where all did

    def result(self, partial: float) -> RewardResult:
        share = self.passed / self.tests
        if self.failure:  # tests that were not reached would not change that
            why = f"{self.passed} of {self.tests} tests pass; {self.failure}"
            return RewardResult(outcome=Outcome.WRONG, why=why, reward=partial * share, parts={"passed": share})
        if self.late:
            return RewardResult(outcome=Outcome.TIMEOUT, why=self.late)
        return RewardResult(outcome=Outcome.CORRECT, why=f"all {self.tests} tests pass", parts={"passed": 1.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """A line of what the tests' process says (inside_tests.py)."""

    test: int | None = None  # which test; None for what comes before and behind them
    failed: str = ""  # why it fails
    gone: str = ""  # how the code's process was lost
    held: int = 0  # assertions that held
    fault: str = ""  # why the tests cannot be run at all
    end: bool = False  # whether all tests are over
    asked: int = 0  # questions to the code in all tests

    @classmethod
    def of(cls, line: bytes) -> "_Report":
        return cls(**json.loads(line))


def code(case: Case, settings: CodeSettings, budget: Budget) -> RewardResult:
    """Correct when the response's code passes every test of the reference.

    Which block of the response is its code stands in blocks.py. The reference is JSON text in one of these forms:

    - HumanEval: {"prompt", "test", "entry_point"}. The code defines the entry point or goes on from the prompt.
    - MBPP: {"test_list"}, and where they exist "test_setup_code", "test_imports" and "challenge_test_list"; or the
      list alone; or {"test"}, one text. Test functions, check(candidate) and cases of unittest in it are run.
    - Programs: {"inputs", "outputs"}, lists of texts or of lists of lines. A program has to end with status 0 and
      print the output, white space at the ends of the lines and of the text aside. Words that are decimal numbers a
      and b (b expected, one of them with a point or an exponent) are equal when |a - b| <= 1e-9 * max(1, |b|), or when
      one is the other rounded to six decimal places or more.
    - Calls: the same with "fn_name", where an input holds the arguments and the output is what comes back.
    - Test cases: lists of {"input", "output"} as LiveCodeBench, PRIME and CodeContests have them.

    Code that uses more than 0.6 * budget.seconds of CPU time, prints more than a MiB, runs out of memory or is killed
    fails. Where 0.9 * budget.seconds have passed first it took too long. The reward of wrong code is settings.partial *
    the share of tests passed, and that share is the part "passed".

    Raises:
        RuntimeError: there is no working sandbox and settings.unsandboxed is off; or the tests themselves fail, or
            assert nothing.
        ValueError: the reference is in no form.
    """
    wanted = parsed(case.reference)
    if not settings.unsandboxed and (problem := sandbox_problem()):
        raise RuntimeError(
            f"model-written code is not run without a sandbox, and {problem}. On a machine that may be lost, "
            "unsandboxed = true in the reward's section runs it without one"
        )
    source = response_code(case.response, _needed(wanted), reads=isinstance(wanted, Runs))
    if not source.strip():
        return RewardResult(outcome=Outcome.UNPARSABLE, why="the response holds no code", parts={"passed": 0.0})
    return _tally(wanted, source, settings, budget).result(settings.partial)


def check_code(reference: str) -> None:
    """Refuses a reference that no response could be graded against, or that would be right without one.

    Raises:
        ValueError: it is not JSON, in none of the forms, holds no tests, or tests that do not compile, assert nothing
            or call nothing which a response could define.
    """
    check_wanted(parsed(reference))


def _needed(wanted: Functions | Calls | Runs) -> frozenset[str]:
    """The global names that the code has to define."""
    if isinstance(wanted, Runs):
        return frozenset()
    names = wanted.tested.names if isinstance(wanted, Functions) else {wanted.entry}
    return frozenset(name.partition("(")[0].partition(".")[0] for name in names)


def _tally(wanted: Functions | Calls | Runs, source: str, settings: CodeSettings, budget: Budget) -> _Tally:
    box = Box(
        cpu_seconds=max(1, math.floor(0.6 * budget.seconds)),
        memory_mib=min(budget.memory_mib, _MOST_MEMORY),
        bare=settings.unsandboxed,
    )
    deadline = time.monotonic() + 0.9 * budget.seconds
    if isinstance(wanted, Runs):
        check_wanted(wanted)
        return _grade_runs(wanted, source, box, deadline)
    return _grade_tests(wanted, source, box, deadline)


def same_output(said: str, expected: str) -> bool:
    """Whether a program's output is the expected one, as `code` compares them."""
    ours, theirs = ([line.rstrip() for line in text.strip().splitlines()] for text in (said, expected))
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(said: str, expected: str) -> bool:
    if said == expected:
        return True
    ours, theirs = said.split(), expected.split()
    return len(ours) == len(theirs) and all(map(_same_word, ours, theirs))


def _same_word(said: str, expected: str) -> bool:
    if said == expected:
        return True
    if not (_DECIMAL.fullmatch(said) and _DECIMAL.fullmatch(expected) and re.search("[.eE]", said + expected)):
        return False
    if abs(float(said) - float(expected)) <= _TOLERANCE * max(1.0, abs(float(expected))):
        return True
    places = min(_places(said), _places(expected))
    return places >= _ROUNDED and abs(Decimal(said) - Decimal(expected)) <= Decimal(5).scaleb(-places - 1)


def _places(word: str) -> int:
    """How many decimal places a number is written with; with an exponent none."""
    return 0 if "e" in word.lower() else len(word.partition(".")[2])


# ---- running ----


def _jobs(wanted: Functions | Calls, source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the process of the code is told, and what that of the tests is.

    Raises:
        RuntimeError: the tests assert nothing.
    """
    if isinstance(wanted, Calls):
        tests = {"setup": [], "tests": [], "plain": 0, "names": [], "modules": [], "called": frozenset(), "helpers": []}
        tests |= {"raised": []}
        calls = [[list(call.values), dict(call.named), list(call.expected)] for call in wanted.calls]
        ours = {"source": source, "prompt": "", "entry": "", "imports": LENT, "raised": [], "printed": False}
        return ours, {**tests, "calls": calls, "entry": wanted.entry, "in_place": False, "random": False}
    try:
        found = wanted.tested
    except (SyntaxError, ValueError, RecursionError) as failure:
        raise RuntimeError(f"the tests cannot be read: {failure}") from None
    if not found.asserts:
        raise RuntimeError("the tests assert nothing, so every response would be right")
    tests = {
        "setup": list(found.codes[: len(wanted.setup)]),
        "tests": list(found.codes[len(wanted.setup) :]),
        "plain": 1 if wanted.prompt else 0,
        "names": list(found.names - {"candidate"}),
        "modules": list(found.modules),
        "called": found.called,
        "helpers": list(found.helpers),
        "raised": list(found.raised),
        "in_place": found.in_place,
        "random": any("random" in text for text in wanted.setup),
    }
    root = wanted.entry.partition("(")[0].partition(".")[0]
    ours = {"source": source, "prompt": wanted.prompt, "entry": root, "imports": found.imports}
    ours |= {"raised": list(found.raised), "printed": found.printed}
    return ours, {**tests, "calls": [], "entry": wanted.entry}


def _grade_tests(wanted: Functions | Calls, source: str, box: Box, deadline: float) -> _Tally:
    job_of_code, job_of_tests = _jobs(wanted, source)
    helpers = [f"inside_{name}" for name in ("numpy", "pytest") if name in job_of_tests["helpers"]]
    modules = ["inside", "inside_checks", *helpers, "inside_remote", "inside_running", "inside_tests"]
    with ExitStack() as running:
        with _two_pipes() as (ours, theirs):
            program = running.enter_context(
                Program(("inside", "inside_program"), {**job_of_code, "pipes": theirs}, box, pipes=theirs)
            )
            box_of_tests = replace(box, output_bytes=2**24)  # of reports
            tests = running.enter_context(Program(modules, {**job_of_tests, "pipes": ours}, box_of_tests, pipes=ours))
        in_time = follow((tests, program), tests, deadline)
        reports = [_Report.of(line) for line in tests.output.splitlines(keepends=True) if line.endswith(b"\n")]
        if faults := [report.fault for report in reports if report.fault]:
            raise RuntimeError(faults[0])
        late = "" if in_time else "the tests did not finish in time"
        failures = [report for report in reports if report.failed]
        failure = _describe(failures[0], wanted) if failures else ""
        if failures and failures[0].gone:
            failure += _why_gone(program, box, deadline)
        if in_time and not any(report.end for report in reports):
            late, ended = _why_no_end(tests, box)
            failure = failure or ended
        return _counted(reports, wanted, failure, late)


def _counted(reports: Sequence[_Report], wanted: Functions | Calls, failure: str, late: str) -> _Tally:
    """The tally of the tests' reports. A test that came to its end without an assertion counts for nothing.

    Raises:
        RuntimeError: the tests are over and have never called the code.
    """
    tests = len(wanted.calls if isinstance(wanted, Calls) else wanted.tests)
    ended = [report for report in reports if report.test is not None and not report.failed]
    passed = sum(report.held > 0 for report in ended)
    empty = len(ended) - passed
    if not failure and not late:
        if not any(report.asked for report in reports):
            raise RuntimeError("the tests never call the code, so every response would be right")
        if not passed:
            failure = "no assertion of the tests was reached"
    return _Tally(passed, max(tests - empty, 1), failure, late)


def _describe(report: _Report, wanted: Functions | Calls) -> str:
    if report.test is None:
        return f"the code fails: {report.failed}"
    if isinstance(wanted, Calls):
        return f"{wanted.entry} with input {report.test + 1} fails: {report.failed}"
    return f"{wanted.entry or cut(wanted.tests[report.test])} fails: {report.failed}"


def _why_no_end(tests: Program, box: Box) -> tuple[str, str]:
    """(what did not finish in time, or "", how the code is to blame for the tests' end, or "").

    Raises:
        RuntimeError: the tests or the machine are to blame.
    """
    if not tests.started:
        raise RuntimeError(f"the tests could not be started: {tests.errors}")
    status = tests.status()
    if status == 128 + SIGXCPU:
        return f"the tests themselves used more than {box.cpu_seconds} CPU seconds", ""
    if status > 128 or tests.flooded:  # of memory, or in the depth of a value that the code gave
        return "", f"the tests ended with status {status} on what the code gave them"
    raise RuntimeError(f"the tests ended early, with status {status}")


def _why_gone(program: Program, box: Box, deadline: float) -> str:
    """What more there is to say of code that answers no more.

    Raises:
        RuntimeError: the code is not to blame.
    """
    if not follow((program,), program, min(deadline, time.monotonic() + 1.0)):
        return ", but runs on"
    return f", with {_why_ended(program, box) or 'status 0'}"


def _why_ended(program: Program, box: Box) -> str:
    """What was wrong with how a program ended; "" for nothing.

    Raises:
        RuntimeError: the code is not to blame.
    """
    if not program.started:
        raise RuntimeError(f"the code could not be started: {program.errors or 'no reason was given'}")
    if program.flooded:
        return f"more than {box.output_bytes} bytes printed"
    status = program.status()
    if status == 128 + SIGXCPU:
        return f"more than {box.cpu_seconds} CPU seconds used"
    if status == 128 + SIGKILL:
        return program.excess or "SIGKILL: it ignored its limit of CPU time, ran out of memory or killed itself"
    return f"status {status}" if status else ""


def _grade_runs(wanted: Runs, source: str, box: Box, deadline: float) -> _Tally:
    passed, failure = 0, ""
    for number, (given, expected) in enumerate(zip(wanted.inputs, wanted.outputs, strict=True), start=1):
        stdin = given.encode(errors="surrogateescape")
        with Program(("inside", "inside_program"), {"source": source, "imports": LENT}, box, stdin=stdin) as program:
            if not follow((program,), program, deadline):
                return _Tally(passed, len(wanted.inputs), failure, f"input {number} was not done in time")
            problem, status = _why_ended(program, box), program.status()
            said = program.output.decode(errors="replace")
        if not problem and not same_output(said, expected):
            problem = f"printed {cut(said.strip())!r}, expected {cut(expected.strip())!r}"
        passed += not problem
        failure = failure or (problem and f"input {number} fails: {problem}")
        if status == 128 + SIGXCPU:  # the others would take as long
            break
    return _Tally(passed, len(wanted.inputs), failure)


@contextmanager
def _two_pipes() -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The ends (reading, writing) for the one side and for the other; closed here on leaving."""
    asked, answered = os.pipe(), os.pipe()
    try:
        yield (answered[0], asked[1]), (asked[0], answered[1])
    finally:
        for end in (*asked, *answered):
            os.close(end)
