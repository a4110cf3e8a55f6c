"""The references of the reward `code`: the forms in which tests of programs are stored, read into three kinds.

JSON text of JSON text is read as well, as are fields that hold JSON text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rewards.programs.testing import Tested, read_tests

SHOWN = 120  # characters of a test or a line in a reason
_CHECK = re.compile(r"^(async )?def check\(|^check\s*=", re.MULTILINE)
_TESTS = re.compile(r"^(class|(async )?def test)", re.MULTILINE)
_FUNCTION = re.compile(r"(?:[^\W\d]\w*\(\)\.)?[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_LISTS = (  # LiveCodeBench's, Prime's, those of Codeforces
    *("test_cases", "public_test_cases", "private_test_cases", "generated_test_cases"),
    *("official_tests", "examples", "tests"),
)
_ASSERTS = ("test_list", "test_cases", "assert_case", "tests", "inputs")  # a list of assertions: MBPP's, AceCode's
_TEXTS = ("test", "functional", "test_code", "tests")  # one text
_CHECKERS = (
    "checker",
    "generated_checker",
    "special_judge",
    "checker_code",
)  # a program that says which outputs are right
_TABLES = ("public_tests", "private_tests", "generated_tests")  # CodeContests'
_NAMES = ("fn_name", "func_name", "entry_point")
LENT = """\
import math, collections, itertools, functools, heapq, bisect, re, string, operator, random, copy
from collections import defaultdict, deque, Counter, OrderedDict
from heapq import heappush, heappop, heapify, heappushpop, heapreplace, nlargest, nsmallest
from bisect import bisect, bisect_left, bisect_right, insort
from itertools import accumulate, permutations, combinations, product, chain, groupby, pairwise, zip_longest
from functools import lru_cache, cache, reduce, cmp_to_key
from math import inf, gcd, lcm, sqrt, isqrt, ceil, floor, comb, perm, log, log2, pi"""  # what LeetCode lends answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Tests that call the response's functions."""

    setup: tuple[str, ...]  # sources to run before the tests
    tests: tuple[str, ...]  # one source each
    prompt: str = ""  # what the code may go on from
    entry: str = ""  # the function that the prompt asks for; "" where the tests alone say so

    @property
    def sources(self) -> tuple[str, ...]:
        """All that runs, in order."""
        return (*self.setup, *self.tests)

    @property
    def tested(self) -> Tested:
        """What the tests need, read from their sources."""
        return read_tests(self.sources, self.entry, 1 if self.prompt else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the function under test."""

    values: tuple[Any, ...]  # the arguments in their order
    named: Mapping[str, Any]  # the arguments by name
    expected: tuple[Any, ...]  # what it may return, as JSON has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Arguments of a function and what it should return."""

    entry: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Inputs of a program and the outputs that they should have."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Wanted = Functions | Calls | Runs


@lru_cache(maxsize=64)  # the siblings of a prompt have one
def parsed(reference: str) -> Wanted:
    """What a reference asks for.

    Raises:
        ValueError: it is in none of the forms that `code` names.
    """
    data = _loaded(reference)
    if isinstance(data, list):
        data = {"test_cases": data} if data and isinstance(data[0], dict) else {"test_list": data}
    if not isinstance(data, dict):
        raise ValueError(f"the reference is neither an object nor a list: {cut(reference)!r}")
    if "input_output" in data:  # APPS' and TACO's rows
        data = {**data, **_object(data["input_output"], "input_output")}
    if checker := next((key for key in _CHECKERS if data.get(key)), ""):
        raise ValueError(f"the reference has a {checker!r}: several outputs may be right, and no checker is run here")
    if key := _key_of_assertions(data):
        tests = _texts(data, key) + _texts(data, "challenge_test_list", missing_is_empty=True)
        setup = (*_texts(data, "test_imports", missing_is_empty=True), _text(data, "test_setup_code", default=""))
        return Functions(setup=setup, tests=tests)
    if data.keys() & {*_LISTS, *_TABLES, "input", "output"} and not data.keys() & {"inputs", "outputs"}:
        data = _gathered(data)
    if "inputs" in data or "outputs" in data:
        return _calls(data) if any(data.get(name) for name in _NAMES) else _runs(data)
    text = next((key for key in _TEXTS if isinstance(data.get(key), str)), "test")
    if text in data and "entry_point" not in data:
        return Functions(setup=(), tests=(_text(data, text),))
    if not data.keys() & {"prompt", "test", "entry_point"}:
        keys = ", ".join(map(repr, data)) or "nothing"
        raise ValueError(
            f"the reference holds {keys[:SHOWN]}; it needs 'prompt', 'test' and 'entry_point' (HumanEval), "
            "'test_list' (MBPP), 'inputs' and 'outputs' (programs; with 'fn_name', calls) or a list of test cases with "
            "'input' and 'output'"
        )
    entry = _text(data, "entry_point")
    if not _FUNCTION.fullmatch(entry):
        raise ValueError(f"'entry_point' is no name of a function: {cut(entry)!r}")
    prompt = _whole(_text(data, "prompt", default="" if "(" in entry else None))
    if not _CHECK.search(_text(data, "test")) and _TESTS.search(_text(data, "test")):  # BigCodeBench: unittest
        return Functions(setup=(prompt,), tests=(_text(data, "test"),), prompt=prompt, entry=entry)
    return Functions(setup=(prompt, _text(data, "test")), tests=("check(candidate)",), prompt=prompt, entry=entry)


def check_wanted(wanted: Wanted) -> None:
    """Refuses what a response could not be graded against, or what would be right without one.

    Raises:
        ValueError: tests that do not compile, call nothing of a response or assert nothing; or outputs that are all
            empty.
    """
    if isinstance(wanted, Runs):
        if not any(output.strip() for output in wanted.outputs):
            raise ValueError("every output is empty: a program that does nothing would be right")
        return
    if isinstance(wanted, Calls):
        return
    for source in wanted.sources:
        try:
            compile(source, "<test>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
            raise ValueError(f"a test does not compile: {failure}: {cut(source)!r}") from None
    found = wanted.tested
    if wanted.entry and not any(_CHECK.search(source) or _TESTS.search(source) for source in wanted.sources[1:]):
        raise ValueError(f"'test' defines no function check(candidate): {cut(wanted.sources[1])!r}")
    if not wanted.entry and not found.names and not found.takes_candidate:
        raise ValueError(f"the tests call nothing that a response could define: {cut(wanted.tests[0])!r}")
    if not found.asserts:
        raise ValueError(
            f"the tests assert nothing, so every response would be right: {cut(wanted.sources[-1])!r}; "
            "they need assert statements, unittest or pytest's"
        )


def cut(text: str) -> str:
    """The beginning of a text, for a reason."""
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _key_of_assertions(data: Mapping[str, Any]) -> str:
    """The field that holds a list of tests of one text each; "" where there is none."""
    for key in _ASSERTS:
        value = data.get(key)
        if key == "test_list" and key in data:
            return key
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            continue
        if key != "inputs" or (not any(data.get("outputs") or ()) and _are_assertions(value)):
            return key
    return ""


def _are_assertions(texts: Sequence[str]) -> bool:
    return all(text.lstrip().startswith("assert") for text in texts)


# ---- inputs and outputs ----


def _runs(data: Mapping[str, Any]) -> Runs:
    inputs, outputs = (_texts(data, key, lines=True) for key in ("inputs", "outputs"))
    _same_number(inputs, outputs)
    return Runs(inputs=inputs, outputs=outputs)


def _calls(data: Mapping[str, Any]) -> Calls:
    entry = next(data[name] for name in _NAMES if data.get(name))
    if not isinstance(entry, str) or not _FUNCTION.fullmatch(entry):
        raise ValueError(f"'fn_name' is no name of a function: {cut(repr(entry))}")
    inputs, outputs = (_list(data, key) for key in ("inputs", "outputs"))
    _same_number(inputs, outputs)
    # APPS and TACO put each value that a function should return into a list of its own.
    wrapped = not any(isinstance(given, str) for given in inputs) and all(
        isinstance(output, list) and len(output) == 1 for output in outputs
    )
    return Calls(entry=entry, calls=tuple(map(lambda a, b: _call(a, b, wrapped), inputs, outputs)))


def _call(given: Any, output: Any, wrapped: bool) -> Call:
    if isinstance(given, str):  # LiveCodeBench: an argument as JSON on each line
        lines = [line for line in given.split("\n") if line.strip()]
        given, output = [_value(line) for line in lines], _value(output) if isinstance(output, str) else output
    named = given if isinstance(given, dict) else {}
    values = () if named else tuple(given) if isinstance(given, list) else (given,)
    return Call(values=values, named=named, expected=(output, output[0]) if wrapped else (output,))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise ValueError(f"an argument or result is no JSON: {failure}: {cut(text)!r}") from None


def _gathered(data: Mapping[str, Any]) -> dict[str, Any]:
    """Test cases in any of their places as 'inputs', 'outputs' and 'fn_name'."""
    cases: list[Mapping[str, Any]] = []
    for key in _LISTS:
        if data.get(key):
            cases += _cases(data[key], key)
    for key in _TABLES:
        if data.get(key):
            cases += _rows(_object(data[key], key), key)
    if "input" in data or "output" in data:
        cases += _rows(data, "the reference")
    inputs, outputs = [], []
    for case in cases:
        if missing := {"input", "output"} - case.keys():
            raise ValueError(f"a test case has no {min(missing)!r}: {cut(repr(case))}")
        inputs.append(case["input"])
        outputs.append(case["output"])
    if not cases:
        raise ValueError("the reference holds no test case")
    return {"inputs": inputs, "outputs": outputs, "fn_name": _name_of(data, cases)}


def _cases(value: Any, key: str) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        try:
            value = _loaded(value)
        except ValueError:
            raise ValueError(
                f"{key!r} is no JSON text (LiveCodeBench packs its private tests with pickle, which is not unpacked "
                f"here: unpack them when you make the file): {cut(value)!r}"
            ) from None
    if isinstance(value, Mapping):
        return _rows(value, key)
    if not isinstance(value, list) or not all(isinstance(case, Mapping) for case in value):
        raise ValueError(f"{key!r} needs a list of test cases with 'input' and 'output': {cut(repr(value))}")
    return value


def _rows(table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The test cases of a table of columns, or of a single case."""
    given, outputs = table.get("input"), table.get("output")
    if isinstance(given, list) and isinstance(outputs, list):
        _same_number(given, outputs)
        return [{"input": one, "output": other} for one, other in zip(given, outputs, strict=True)]
    if given is None or outputs is None:
        raise ValueError(f"{key!r} needs 'input' and 'output': {cut(repr(dict(table)))}")
    return [table]


def _name_of(data: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> str:
    """The function that test cases call; "" where they are inputs of a program.

    Raises:
        ValueError: they call a function and do not say which, or do not agree.
    """
    kinds = {str(case.get("testtype") or case.get("type") or "").lower() for case in cases} - {""}
    called = {kind for kind in kinds if "func" in kind or "call" in kind}
    places = [*cases, data]
    for holder in list(places):
        if holder.get("metadata"):
            places.append(_object(holder["metadata"], "metadata"))
    names = {str(place[name]) for place in places for name in _NAMES if place.get(name)}
    if called and called != kinds:
        raise ValueError(f"the test cases are of different types: {', '.join(sorted(kinds))}")
    if len(names) > 1:
        raise ValueError(f"the test cases call different functions: {', '.join(sorted(names))}")
    if called and not names:
        raise ValueError("the test cases call a function and do not say which: give its name as 'fn_name'")
    return next(iter(names), "") if called or not kinds else ""


# ---- fields ----


def _loaded(text: str) -> Any:
    value: Any = text
    for _ in range(3):  # JSON text in JSON text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as failure:
            raise ValueError(f"the reference is not JSON text: {failure}: {cut(text)!r}") from None
        if not isinstance(value, str):
            break
    return value


def _object(value: Any, key: str) -> Mapping[str, Any]:
    found = _loaded(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise ValueError(f"{key!r} needs an object, got {cut(repr(value))}")
    return found


def _same_number(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    if len(inputs) != len(outputs):
        raise ValueError(f"there are {len(inputs)} inputs and {len(outputs)} outputs; each input needs its output")


def _text(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        found = "missing" if value is None else cut(repr(value))
        raise ValueError(f"the reference needs the text {key!r}, which is {found}")
    return value


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _loaded(value)
    if not isinstance(value, list) or not value:
        raise ValueError(f"the reference needs a list of texts {key!r}, which is {cut(repr(value))}")
    return value


def _texts(
    data: Mapping[str, Any], key: str, *, missing_is_empty: bool = False, lines: bool = False
) -> tuple[str, ...]:
    if missing_is_empty and not data.get(key):
        return ()
    value = _list(data, key)
    if lines:
        value = ["\n".join(item) if _is_lines(item) else str(item) if _is_number(item) else item for item in value]
    if wrong := [item for item in value if not isinstance(item, str)]:
        raise ValueError(f"{key!r} holds something that is no text: {cut(repr(wrong[0]))}")
    return tuple(value)


def _is_lines(item: object) -> bool:
    return isinstance(item, list) and all(isinstance(line, str) for line in item)


def _is_number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _whole(prompt: str) -> str:
    """The prompt as a program: one that ends with the head of its function gets a body."""
    last = (prompt.rstrip().splitlines() or [""])[-1]
    deeper = last[: len(last) - len(last.lstrip())] + "    "
    for whole in (prompt, f"{prompt.rstrip()}\n{deeper}pass\n"):
        try:
            compile(whole, "<prompt>", "exec")
        except (SyntaxError, ValueError) as failure:
            problem = failure
        else:
            return whole
    raise ValueError(f"'prompt' is no beginning of a Python program: {problem}: {cut(prompt)!r}")
