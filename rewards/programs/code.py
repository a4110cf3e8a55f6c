"""The reward `code`: model-written Python against tests, in a sandbox.

The response's code and the tests run in two processes, each in a sandbox of its own (sandbox.py), joined by
two pipes. The code gets arguments and gives back plain values; the tests compare them where the code cannot reach,
so ending early, printing or patching the comparison passes no test.

What follows from that: arguments are copies, and a test does not see what a function does to its arguments; only the
standard library can be imported; objects of the response's own classes stay with it, where a test may call and read
them, and equal nothing but themselves.
"""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from signal import SIGKILL, SIGXCPU
from typing import Any

from rewards.programs.inside_tests import modules_named, names_under_test
from rewards.programs.sandbox import Box, Program, follow, sandbox_problem
from rewards.settings import Budget, KindSettings, Partial
from rewards.verdict import Case, Outcome, RewardResult

_MOST_MEMORY = 1024  # MiB of one program
_FENCE = re.compile(r"([ \t]*)(`{3,})[ \t]*([\w+#.-]*)[^`]*", re.ASCII)
_PYTHON = ("python", "python3", "py")
_TOLERANCE = 1e-9
_DECIMAL = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_SHOWN = 120  # characters of a test or a line in a reason


class CodeSettings(KindSettings):
    """[reward.code]."""

    partial: Partial = 0.0  # the reward of wrong code is this times the share of tests that it passes
    unsandboxed: bool = False  # run model-written code without bubblewrap: only on a machine that may be lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Tests that call the response's functions."""

    setup: tuple[str, ...]  # sources to run before the tests
    tests: tuple[str, ...]  # one source each
    prompt: str = ""  # what the code may go on from
    entry: str = ""  # the function that the prompt asks for; "" where the tests alone say so


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Inputs of a program and the outputs that they should have."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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


def code(case: Case, settings: CodeSettings, budget: Budget) -> RewardResult:
    """Correct when the response's code passes every test of the reference.

    The code is the last fenced block of Python behind the last </think>; without one of Python the last plain block;
    without any fence all of the text. The reference is JSON text in one of three forms:

    - HumanEval: {"prompt", "test", "entry_point"}. The code defines the entry point or goes on from the prompt.
    - MBPP: {"test_list"}, and where they exist "test_setup_code", "test_imports" and "challenge_test_list"; or the
      list alone.
    - Programs: {"inputs", "outputs"}, lists of texts or of lists of lines. A program has to end with status 0 and
      print the output, white space at the ends of the lines and of the text aside. Words that are decimal numbers a
      and b (b expected, one of them with a point or an exponent) are equal when |a - b| <= 1e-9 * max(1, |b|).

    Code that uses more than 0.6 * budget.seconds of CPU time, prints more than a MiB or runs out of memory fails.
    Where 0.9 * budget.seconds have passed first there is no verdict, for the machine may have been busy. The reward of
    wrong code is settings.partial * the share of tests passed, and that share is the part "passed".

    Raises:
        RuntimeError: there is no working sandbox and settings.unsandboxed is off; or the tests themselves fail.
        ValueError: the reference is none of the three.
    """
    wanted = _parsed(case.reference)
    if not settings.unsandboxed and (problem := sandbox_problem()):
        raise RuntimeError(
            f"model-written code is not run without a sandbox, and {problem}. On a machine that may be lost, "
            "unsandboxed = true in the reward's section runs it without one"
        )
    source = response_code(case.response)
    if not source.strip():
        return RewardResult(outcome=Outcome.UNPARSABLE, why="the response holds no code", parts={"passed": 0.0})
    box = Box(
        cpu_seconds=max(1, math.floor(0.6 * budget.seconds)),
        memory_mib=min(budget.memory_mib, _MOST_MEMORY),
        bare=settings.unsandboxed,
    )
    deadline = time.monotonic() + 0.9 * budget.seconds
    if isinstance(wanted, Functions):
        return _grade_functions(wanted, source, box, deadline).result(settings.partial)
    return _grade_runs(wanted, source, box, deadline).result(settings.partial)


def check_code(reference: str) -> None:
    """Refuses a reference that no response could be graded against.

    Raises:
        ValueError: it is not JSON, in none of the three forms, holds no tests, or tests that do not compile or that
            call nothing which a response could define.
    """
    wanted = _parsed(reference)
    if isinstance(wanted, Runs):
        return
    for source in (*wanted.setup, *wanted.tests):
        try:
            compile(source, "<test>", "exec")
        except (SyntaxError, ValueError) as failure:
            raise ValueError(f"a test does not compile: {failure}: {_cut(source)!r}") from None
    if not wanted.entry and not names_under_test([*wanted.setup, *wanted.tests]):
        raise ValueError(f"the tests call nothing that a response could define: {_cut(wanted.tests[0])!r}")
    if wanted.entry and not re.search(r"^def check\(", wanted.setup[1], re.MULTILINE):
        raise ValueError(f"'test' defines no function check(candidate): {_cut(wanted.setup[1])!r}")


def response_code(response: str) -> str:
    """The code in a response as `code` reads it; "" where it holds none."""
    text = response.rpartition("</think>")[2]
    labelled: list[str] = []
    plain: list[str] = []
    lines = iter(text.splitlines())
    fenced = False
    for line in lines:
        if opening := _FENCE.fullmatch(line):
            fenced = True
            indent, ticks, language = opening.groups()
            block = "\n".join(_block(lines, ticks, len(indent)))
            if language.lower() in _PYTHON:
                labelled.append(block)
            elif not language:
                plain.append(block)
    if not fenced:
        return text
    return (labelled or plain or [""])[-1]


def _block(lines: Iterator[str], ticks: str, indent: int) -> Iterator[str]:
    """The lines up to the closing fence, or all of them where the response was cut off before it."""
    for line in lines:
        bare = line.strip()
        if bare.startswith(ticks) and not bare.strip("`"):
            return
        yield line[indent:] if not line[:indent].strip() else line


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
    return abs(float(said) - float(expected)) <= _TOLERANCE * max(1.0, abs(float(expected)))


# ---- references ----


def _parsed(reference: str) -> Functions | Runs:
    try:
        data = json.loads(reference)
    except (ValueError, RecursionError) as failure:
        raise ValueError(f"the reference is not JSON text: {failure}: {_cut(reference)!r}") from None
    if isinstance(data, list):
        data = {"test_list": data}
    if not isinstance(data, dict):
        raise ValueError(f"the reference is neither an object nor a list: {_cut(reference)!r}")
    if "test_list" in data:
        tests = _texts(data, "test_list") + _texts(data, "challenge_test_list", missing_is_empty=True)
        setup = (*_texts(data, "test_imports", missing_is_empty=True), _text(data, "test_setup_code", default=""))
        return Functions(setup=setup, tests=tests)
    if "inputs" in data or "outputs" in data:
        return _parsed_runs(data)
    if not data.keys() & {"prompt", "test", "entry_point"}:
        keys = ", ".join(map(repr, data)) or "nothing"
        raise ValueError(
            f"the reference holds {keys[:_SHOWN]}; it needs 'prompt', 'test' and 'entry_point' (HumanEval), "
            "'test_list' (MBPP) or 'inputs' and 'outputs' (programs)"
        )
    entry = _text(data, "entry_point")
    if not entry.isidentifier():
        raise ValueError(f"'entry_point' is no name of a function: {_cut(entry)!r}")
    prompt = _whole(_text(data, "prompt"))
    return Functions(setup=(prompt, _text(data, "test")), tests=("check(candidate)",), prompt=prompt, entry=entry)


def _parsed_runs(data: dict[str, Any]) -> Runs:
    if "fn_name" in data:
        raise ValueError(f"'fn_name' ({data['fn_name']!r}) asks for calls; write them as asserts in 'test_list'")
    inputs, outputs = (_texts(data, key, lines=True) for key in ("inputs", "outputs"))
    if len(inputs) != len(outputs):
        raise ValueError(f"there are {len(inputs)} inputs and {len(outputs)} outputs; each input needs its output")
    return Runs(inputs=inputs, outputs=outputs)


def _text(data: dict[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        found = "missing" if value is None else _cut(repr(value))
        raise ValueError(f"the reference needs the text {key!r}, which is {found}")
    return value


def _texts(data: dict[str, Any], key: str, *, missing_is_empty: bool = False, lines: bool = False) -> tuple[str, ...]:
    value = data.get(key)
    if missing_is_empty and not value:
        return ()
    if not isinstance(value, list) or not value:
        raise ValueError(f"the reference needs a list of texts {key!r}, which is {_cut(repr(value))}")
    if lines:
        value = ["\n".join(item) if _is_lines(item) else item for item in value]
    if wrong := [item for item in value if not isinstance(item, str)]:
        raise ValueError(f"{key!r} holds something that is no text: {_cut(repr(wrong[0]))}")
    return tuple(value)


def _is_lines(item: object) -> bool:
    return isinstance(item, list) and all(isinstance(line, str) for line in item)


def _whole(prompt: str) -> str:
    """The prompt as a program: one that ends with the head of its function gets a body."""
    for whole in (prompt, prompt.rstrip() + "\n    pass\n"):
        try:
            compile(whole, "<prompt>", "exec")
        except (SyntaxError, ValueError) as failure:
            problem = failure
        else:
            return whole
    raise ValueError(f"'prompt' is no beginning of a Python program: {problem}: {_cut(prompt)!r}")


# ---- running ----


def _grade_functions(wanted: Functions, source: str, box: Box, deadline: float) -> _Tally:
    job_of_code = {"source": source, "prompt": wanted.prompt, "entry": wanted.entry}
    sources = [*wanted.setup, *wanted.tests]
    job_of_tests = {"setup": list(wanted.setup), "tests": list(wanted.tests), "entry": wanted.entry}
    job_of_tests |= {"names": list(names_under_test(sources, wanted.entry)), "modules": list(modules_named(sources))}
    with ExitStack() as running:
        with _two_pipes() as (ours, theirs):
            program = running.enter_context(
                Program(("inside", "inside_program"), {**job_of_code, "pipes": theirs}, box, pipes=theirs)
            )
            box_of_tests = replace(box, output_bytes=2**24)  # of reports
            tests = running.enter_context(
                Program(("inside", "inside_tests"), {**job_of_tests, "pipes": ours}, box_of_tests, pipes=ours)
            )
        in_time = follow((tests, program), tests, deadline)
        reports = [json.loads(line) for line in tests.output.splitlines(keepends=True) if line.endswith(b"\n")]
        if faults := [report["fault"] for report in reports if "fault" in report]:
            raise RuntimeError(faults[0])
        late = "" if in_time else "the tests did not finish in time"
        if in_time and not any("end" in report for report in reports):
            late = _why_no_end(tests, box)
        failures = [report for report in reports if report.get("failed")]
        failure = _describe(failures[0], wanted) if failures else ""
        if failures and failures[0]["gone"]:
            failure += _why_gone(program, box, deadline)
        passed = sum(report.get("failed") == "" for report in reports)
        return _Tally(passed, len(wanted.tests), failure, late)


def _describe(report: dict[str, Any], wanted: Functions) -> str:
    if "test" not in report:
        return f"the code fails: {report['failed']}"
    return f"{wanted.entry or _cut(wanted.tests[report['test']])} fails: {report['failed']}"


def _why_no_end(tests: Program, box: Box) -> str:
    if not tests.started:
        raise RuntimeError(f"the tests could not be started: {tests.errors}")
    status = tests.status()
    if status == 128 + SIGXCPU:
        return f"the tests themselves used more than {box.cpu_seconds} CPU seconds"
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
    if status == 128 + SIGKILL:  # code cannot send signals
        raise RuntimeError("the kernel killed the code, which is out of the machine's memory or ignores its CPU limit")
    return f"status {status}" if status else ""


def _grade_runs(wanted: Runs, source: str, box: Box, deadline: float) -> _Tally:
    passed, failure = 0, ""
    for number, (given, expected) in enumerate(zip(wanted.inputs, wanted.outputs, strict=True), start=1):
        stdin = given.encode(errors="surrogateescape")
        with Program(("inside", "inside_program"), {"source": source}, box, stdin=stdin) as program:
            if not follow((program,), program, deadline):
                return _Tally(passed, len(wanted.inputs), failure, f"input {number} was not done in time")
            problem, status = _why_ended(program, box), program.status()
            said = program.output.decode(errors="replace")
        if not problem and not same_output(said, expected):
            problem = f"printed {_cut(said.strip())!r}, expected {_cut(expected.strip())!r}"
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


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
