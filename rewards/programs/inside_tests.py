"""What runs the tests, in a sandbox and a process of its own: the code that they test answers from another one.

The names that a response defines are stand-ins here. Calling one sends the arguments and brings back a plain value,
so the comparison and its result are out of the response's reach.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from rewards.programs.inside import Channel, Gone, confine
from rewards.programs.inside_checks import Fault, watch_suppress, watch_unittest
from rewards.programs.inside_remote import SHOWN, Remote, Solution, SolutionModule, shown
from rewards.programs.inside_running import run_tests

# ---- tests ----


def main(job: dict[str, Any]) -> None:
    """Runs the job and reports a JSON object per line on the output.

    The job holds `setup` and `tests` (compiled), or `calls` (pairs of arguments and what is expected), the `names` and
    `modules` that they use, `entry`, `called`, `helpers`, `in_place` and `pipes`.

    The reports are {"failed": why} where the code did not load or the setup fails by its fault, {"test": number,
    "failed": why, or "", "held": how many assertions did} for each test, both with "gone" (what ended the program, or
    ""), {"fault": why} where the tests cannot be run at all, and {"end": true, "asked": questions} after the last.
    """
    output, leave = confine(job, keep_output=False), os._exit
    reports = os.fdopen(output, "w", encoding="utf-8", errors="backslashreplace")
    solution = Solution(Channel(*job["pipes"]), job["in_place"])
    try:
        for report in run(job, solution):
            print(json.dumps(report), file=reports, flush=True)
    except Fault as fault:
        print(json.dumps({"fault": str(fault)}), file=reports, flush=True)
    leave(0)


def run(job: dict[str, Any], solution: Solution) -> Iterator[dict[str, Any]]:
    """The reports of `main`, one by one."""
    names = _namespace(job, solution)
    why, done = _load(solution), set[int]()
    for place, source in enumerate(job["setup"]):
        why = why or _attempt(solution, source, names)
        if job["entry"]:  # a prompt defines it too, without a body
            names[job["entry"]] = names["candidate"] = solution.name(job["entry"])
        if place < job["plain"]:  # the prompt's own functions are no tests
            done.update(id(value) for value in list(names.values()))
    if why:
        yield {"failed": why, "gone": solution.channel.gone}
    tests = [] if why else [*job["tests"], *job["calls"]]
    for number, test in enumerate(tests):
        why = _attempt(solution, test, names, job, done)
        yield {"test": number, "failed": why, "gone": solution.channel.gone, "held": solution.checks.held}
    yield {"end": True, "asked": solution.checks.asked}


def _namespace(job: dict[str, Any], solution: Solution) -> dict[str, Any]:
    """The names that the tests begin with."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = sys.modules["tests"] = module
    names = module.__dict__
    names.update((name, importlib.import_module(name)) for name in job["modules"])
    names.update((name, solution.name(name)) for name in job["names"])
    names.update((name, solution.exception(name)) for name in job["raised"])
    names.update({"__checks__": solution.checks, "next": solution.checks.next, "__file__": "tests.py"})
    names.update({"exit": sys.exit, "quit": sys.exit, "candidate": solution.name(job["entry"])})
    os._exit = sys.exit  # type: ignore[assignment]  # a test ends itself, not the process that reports
    sys.modules["solution"] = SolutionModule(solution, names)
    if "numpy" in job["helpers"]:
        sys.modules["numpy"] = importlib.import_module("rewards.programs.inside_numpy").small_numpy()
    if "unittest" in job["helpers"]:
        watch_unittest(solution.checks)
    if "pytest" in job["helpers"]:
        sys.modules["pytest"] = importlib.import_module("rewards.programs.inside_pytest").small_pytest(solution.checks)
    if "contextlib" in job["modules"] or "contextlib" in job["helpers"]:
        watch_suppress(solution.checks)
    if job["random"]:
        importlib.import_module("random").seed(0)  # the same tests every time
    return names


def _load(solution: Solution) -> str:
    try:
        solution.loaded()
    except Gone as gone:
        return f"it {gone} while it was loaded"
    except Exception as failure:  # what the code raised
        return f"it does not load: {solution.last}: {str(failure)[:SHOWN]}"
    return ""


def _attempt(
    solution: Solution,
    test: CodeType | list[Any],
    names: dict[str, Any],
    job: dict[str, Any] | None = None,
    done: set[int] | None = None,
) -> str:
    """Why this part of the tests fails; "" where it does not. With the job, its functions and classes are run too.

    Raises:
        Fault: it fails before any of it called the response's code.
    """
    solution.last = ""
    checks = solution.checks
    checks.clear()
    try:
        if isinstance(test, list):
            _call(solution, names["candidate"], *test)
        else:
            exec(test, names)
        if job is not None and done is not None and isinstance(test, CodeType):
            run_tests(names, job["called"], done, checks, names["candidate"])
    except Gone as gone:
        return f"it {gone}"
    except AssertionError as failure:
        return f"it {solution.last}" if solution.last else _uncalled(solution, failure)
    except SystemExit as end:
        if end.code not in (None, 0, False):
            return f"it {solution.last or 'was not called'}, and the test ended with status {end.code}"
        if not checks.held and solution.checks.asked:
            return f"it {solution.last}, and the test ended before it asserted anything"
        if not checks.held:
            raise Fault(f"the tests ended early, with status {end.code or 0}, before they asserted anything") from None
    except Exception as failure:  # any: it is the test's way to say that it failed
        return _why_raised(solution, failure)
    return _why_not(solution)


def _uncalled(solution: Solution, failure: AssertionError) -> str:
    if not solution.checks.asked:
        raise Fault(f"the tests fail by themselves, before they call the code: AssertionError: {failure}") from None
    return "it was not called"


def _why_raised(solution: Solution, failure: Exception) -> str:
    said = str(failure)[:SHOWN]
    if not solution.checks.asked:
        why = f"{type(failure).__name__}: {said}"
        raise Fault(f"the tests fail by themselves, before they call the code: {why}") from None
    if solution.last.startswith("raised"):
        return f"it {solution.last}: {said}"
    return f"it {solution.last or 'was not called'}, and the test raised {type(failure).__name__}: {said}"


def _why_not(solution: Solution) -> str:
    """Why a test fails that came to its end; "" where it does not."""
    if lost := solution.channel.gone:  # the lines may have caught what its end raised
        return f"it {lost}"
    if unexpected := solution.checks.unexpected:
        return f"it raised {unexpected}, which the test does not expect"
    if solution.checks.fell:
        return f"it {solution.last or 'was not called'}; {solution.checks.fell}, and the test went on"
    return ""


# ---- calls ----


def _call(
    solution: Solution, candidate: Remote, values: list[Any], named: Mapping[str, Any], expected: list[Any]
) -> None:
    """Calls the entry point and compares what it returns.

    Args:
        solution: the response's code.
        candidate: its entry point.
        values: the arguments in their order.
        named: the arguments by name.
        expected: what it may return, as JSON has it.

    Raises:
        AssertionError: it returns something else.
    """
    found = candidate(*values, **named)
    if any(_alike(found, one) for one in expected):
        solution.checks.held += 1
        return
    solution.last += f", expected {shown(expected[-1])}"
    raise AssertionError


def _alike(found: Any, expected: Any) -> bool:
    """Whether a value is what JSON has for it: tuples are lists there, and keys are texts."""
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        keyed = {_key(key): value for key, value in found.items()}
        return (
            keyed.keys() == set(map(_key, expected))
            and len(keyed) == len(found)
            and all(_alike(keyed[_key(key)], value) for key, value in expected.items())
        )
    if isinstance(found, int | float) and isinstance(expected, int | float):
        if not isinstance(found + expected, float):
            return found == expected
        near = found == expected or abs(found - expected) <= 1e-9 * max(1.0, abs(expected))
        return near or _rounded(found, expected)
    return type(found) is type(expected) and bool(found == expected)


def _rounded(found: float, expected: float) -> bool:
    """Whether what is expected is stored with five decimal places or more, as LeetCode does, and found so rounded."""
    places = len(repr(expected).partition(".")[2]) if isinstance(expected, float) and "e" not in repr(expected) else 0
    return places >= 5 and isinstance(found, float) and abs(found - expected) <= 0.5000001 * 10**-places


def _key(key: Any) -> Any:
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else key
