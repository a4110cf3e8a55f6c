"""The forms in which people store tests, and what of a test counts."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from rewards.programs.code import CodeSettings, check_code, code
from rewards.programs.sandbox import sandbox_problem
from rewards.settings import Budget
from rewards.verdict import Case, Outcome
from tests.forms import ADD, FAKES, HELD
from tests.tables import each

confined = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")
RIGHT, WRONG = Outcome.CORRECT, Outcome.WRONG


def outcome(source: str, reference: Any) -> Outcome:
    text = json.dumps(reference)
    check_code(text)
    return code(Case(response=f"```python\n{source}\n```", reference=text), CodeSettings(), Budget()).outcome


def fakes_of(references: Mapping[str, Any]) -> list[Any]:
    """Every fourth reference with one fake for the quick tests, all of them with two fakes in turn for the slow ones;
    `make verify-bench` has all of them with all."""
    return [
        pytest.param(
            source,
            reference,
            id=f"{form}: {name}",
            marks=[] if number % 4 == 0 and place == number % len(FAKES) else [pytest.mark.slow],
        )
        for number, (form, reference) in enumerate(references.items())
        for place, (name, source) in enumerate(FAKES.items())
        if place in (number % len(FAKES), (number + 1) % len(FAKES))
    ]


@confined
@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=[pytest.mark.slow] if i % 4 else []) for i, f in enumerate(HELD)]
)
def test_a_right_program_passes_tests_in_the_form_of(form: str) -> None:
    assert outcome(ADD, HELD[form]) is RIGHT


@confined
@pytest.mark.parametrize(("source", "reference"), fakes_of(HELD))
def test_a_wrong_program_fails_tests_in_every_form(source: str, reference: Any) -> None:
    assert outcome(source, reference) is WRONG


@each(
    "reference",
    [
        ["print(add(1, 2))"],
        ["add(1, 2)"],
        ["x = add(1, 2) == 3"],
        ["def check(candidate):\n    candidate(1, 2)"],
        ["def check(candidate):\n    print(candidate(1, 2) == 3)"],
        ["def test_add():\n    add(1, 2)"],
        ["try:\n    add(1, 2)\nexcept Exception:\n    pass"],
        {"prompt": "def add(a, b):", "test": "def check(candidate):\n    candidate(1, 2)", "entry_point": "add"},
    ],
)
def test_tests_that_assert_nothing_are_refused_and_right_for_nobody(reference: Any) -> None:
    with pytest.raises(ValueError, match="assert nothing, so every response would be right"):
        check_code(json.dumps(reference))
    if not sandbox_problem():
        with pytest.raises(RuntimeError, match="assert nothing"):
            code(Case(response=ADD, reference=json.dumps(reference)), CodeSettings(), Budget())


@confined
@each(
    ("reference", "why"),
    [
        (["def test_add(a, b):\n    assert add(a, b) == 3"], "wants arguments that nobody gives: a, b"),
        (["add\nassert True"], "the tests never call the code"),
        (["assert 1 == 2 or add"], None),
    ],
)
def test_tests_that_do_not_reach_the_code_are_an_error_of_the_reference(reference: Any, why: str | None) -> None:
    case = Case(response=ADD, reference=json.dumps(reference))
    if why is None:
        assert code(case, CodeSettings(), Budget()).outcome is RIGHT
        return
    with pytest.raises(RuntimeError, match=why):
        code(case, CodeSettings(), Budget())


@confined
def test_no_reference_is_right_for_a_response_without_an_answer() -> None:
    for form in ("a function", "unittest", "a comparison", "APPS"):
        for nothing in ("", "pass"):
            case = Case(response=nothing, reference=json.dumps(HELD[form]))
            assert code(case, CodeSettings(), Budget()).outcome is not Outcome.CORRECT


@each(
    ("reference", "why"),
    [
        ({"inputs": ["1"], "outputs": [" \n"]}, "every output is empty"),
        ({"inputs": [[1]], "outputs": [[1]], "fn_name": "a b"}, "'fn_name' is no name of a function"),
        ({"inputs": ["x"], "outputs": ["1"], "fn_name": "f"}, "an argument or result is no JSON: .*'x'"),
        ([{"input": "1"}], "a test case has no 'output'"),
        ([{"input": "1", "output": "2", "testtype": "functional"}], "do not say which: give its name as 'fn_name'"),
        ({"private_test_cases": "eJxrYJ"}, "packs its private tests with pickle"),
        (["import numpy as np\nassert np.all(f(1))"], "the tests import numpy, and only the standard library"),
    ],
)
def test_a_stored_form_that_cannot_be_used_is_refused(reference: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_code(json.dumps(reference))


# ---- what a test expects ----

RAISES = "import pytest\nwith pytest.raises(ValueError, match='no'):\n    f(1)"
ASSERTS = (
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        with self.assertRaises(ValueError):\n"
    "            f(1)\n        self.assertRaises(ValueError, f, 1)"
)
CAUGHT = "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass"
NO, YES = "def f(x): raise ValueError('no')", "def f(x): return 1"


@confined
@each(
    ("source", "test", "expected"),
    [
        *((NO, test, RIGHT) for test in (RAISES, ASSERTS, CAUGHT)),
        *((YES, test, WRONG) for test in (RAISES, ASSERTS, CAUGHT)),
        *(("def f(x): raise KeyError('no')", test, WRONG) for test in (RAISES, ASSERTS, CAUGHT)),
        *(("pass", test.replace("ValueError", "Exception"), WRONG) for test in (RAISES, ASSERTS, CAUGHT)),
        ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2] and next(f(0), None) is None", RIGHT),
        ("class S: x = 1", "assert hasattr(S(), 'x') and not hasattr(S(), 'y')", RIGHT),
    ],
)
def test_an_exception_counts_where_the_test_expects_it(source: str, test: str, expected: Outcome) -> None:
    assert outcome(source, [test]) is expected


@confined
@each(
    "test",
    [
        "assert all(map(lambda t: f(t[0]) == t[1], [(3, 9)]))",
        "assert list(filter(lambda x: f(x) != 9, [3])) == []",
        "assert [b for a, b in zip([3], map(f, [3])) if b != 9] == []",
        "assert all(map(lambda x: next(iter(f(x))) == 9, [3]))",
        "class A:\n    def __getattr__(self, name):\n        return f(3)\nassert not hasattr(A(), 'x')",
    ],
)
def test_what_machinery_takes_for_an_end_passes_no_test(test: str) -> None:
    for raised in ("raise StopIteration", "return []" if "next(" in test else "raise AttributeError"):
        assert outcome(f"def f(n): {raised}", [test]) is WRONG


# ---- arguments ----

UNIQUE = "def f(x):\n    y = sorted(set(x))\n    x[:len(y)] = y\n    return len(y)"
SLY = "def f(c): c['e'] = None"


@confined
@each(
    ("source", "test", "expected"),
    [
        ("def f(x): x.sort()", "a = [2, 1]\nf(a)\nassert a == [1, 2]", RIGHT),
        ("def f(x): x.clear()", "a = [2, 1]\nf(a)\nassert a == [1, 2]", WRONG),
        ("def f(d, k): d[k] = 1", "d = {}\nf(d, 'a')\nassert d == {'a': 1}", RIGHT),
        ("def f(d, *, k): k.add(1)", "d = set()\nf(3, k=d)\nassert d == {1}", RIGHT),
        ("def f(m): m[:] = [list(r) for r in zip(*m[::-1])]", "m = [[1, 2]]\nf(m)\nassert m == [[1], [2]]", RIGHT),
        ("def f(m): m[0][0] = 5", "m = [[1, 2]]\nr = m[0]\nf(m)\nassert r == [5, 2]", RIGHT),
        (UNIQUE, "a = [1, 1, 2]\nk = f(a)\nassert k == 2\nassert a[:k] == [1, 2]", RIGHT),
        (
            "def f(x): x.sort()",
            "def test_a():\n    x = [2, 1]\n    y = list(x)\n    f(x)\n    assert x == sorted(y)",
            RIGHT,
        ),
        ("def f(x):\n    x.clear()\n    return []", "a = [3, 1]\nassert f(a) == sorted(a)", WRONG),
        ("def f(x):\n    x.clear()\n    return []", "a = [3, 1]\nb = f(a)\nassert b == sorted(a)", WRONG),
        (SLY, "c = {'i': 1, 'e': 2}\nassert f(c) == c['e']", WRONG),
        (SLY, "c = {'i': 1, 'e': 2}\nr = f(c)\ne = c['e']\nassert r == e", WRONG),
    ],
)
def test_what_a_call_does_to_its_arguments_is_seen_and_changes_nothing_that_is_expected(
    source: str, test: str, expected: Outcome
) -> None:
    assert outcome(source, [test]) is expected


# ---- what code may rely on ----

SOLUTION = "class Solution:\n    def f(self, s: Optional[List[int]]) -> Dict[str, int]:\n        return s"


@confined
@each(
    ("source", "reference"),
    [
        (SOLUTION, {"inputs": [[[1]]], "outputs": [[1]], "fn_name": "f"}),
        (SOLUTION, ["assert Solution().f([1]) == [1]"]),
        (SOLUTION, ["assert f([1]) == [1]"]),
        (SOLUTION, ["def check(candidate):\n    assert candidate(s=[1]) == [1]"]),
        (
            SOLUTION,
            {
                "prompt": "from typing import *\n",
                "test": "def check(candidate):\n    assert candidate(s=[1]) == [1]",
                "entry_point": "Solution().f",
            },
        ),
        ("def f(s): return math.gcd(*s)", {"test_imports": ["import math"], "test_list": ["assert f([4, 6]) == 2"]}),
        ("def f(s): return dict(Counter(s))", {"inputs": [["aab"]], "outputs": [{"a": 2, "b": 1}], "fn_name": "f"}),
        ("def f(s): return {1: (2, 3)}", {"inputs": [[0]], "outputs": [{"1": [2, 3]}], "fn_name": "f"}),
        ("def f(s): return 0.1 + 0.2", {"inputs": [[0]], "outputs": [0.3], "fn_name": "f"}),
        ("def g(x): return x\ndef f(x): return g(x) + 1", ["def check(candidate):\n    assert candidate(1) == 2"]),
        ("print(int(input()) + 1)\nexit()", {"inputs": ["4"], "outputs": ["5"], "fn_name": None}),
        ("print(int(input()) + 1)\nquit()", {"inputs": [4], "outputs": [5], "fn_name": ""}),
        ("print(int(open('/dev/stdin').read()) + 1)", {"input": "4", "output": "5"}),
        ("print(int(open('/dev/fd/0').read()) + 1)", {"public_tests": {"input": ["4"], "output": ["5"]}}),
        ("print(int(open(0).read()) + 1)", [{"input": "4\n", "output": "5\n", "testtype": "stdin"}]),
        ("import os\nprint(int(os.read(0, 9)) + 1)", {"inputs": '["4"]', "outputs": '["5"]'}),
    ],
)
def test_code_may_be_written_as_it_is_for_the_sites_that_the_data_are_from(source: str, reference: Any) -> None:
    assert outcome(source, reference) is RIGHT


@confined
def test_a_list_around_every_expected_value_is_no_part_of_it_and_around_one_it_is() -> None:
    assert outcome("def f(x): return 1", {"inputs": [[1], [2]], "outputs": [[1], [1]], "fn_name": "f"}) is RIGHT
    assert outcome("def f(x): return 1", {"inputs": [[1], [2]], "outputs": [[1], [1, 2]], "fn_name": "f"}) is WRONG
