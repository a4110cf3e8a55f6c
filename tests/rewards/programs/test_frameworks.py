"""Tests in the ways in which data sets write them: each with a right answer and a wrong one."""

import json
from typing import Any

import pytest

from rewards.programs.code import CodeSettings, check_code, code
from rewards.programs.sandbox import sandbox_problem
from rewards.settings import Budget
from rewards.verdict import Case, Outcome
from tests.tables import each

pytestmark = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")

HALF, LESS = "def half(x):\n    return x // 2", "def half(x):\n    return x // 2 - 1"
LATER, TOO_EARLY = "async def half(x):\n    return x // 2", "async def half(x):\n    return x"
NEGATIVE = "class Neg(Exception): pass\ndef half(x):\n    if x < 0: raise Neg('below')\n    return x // 2"
EXPECTED_CLASS = "class Neg(Exception): pass\n" + HALF
EVALPLUS = """
import numpy as np
def is_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and all(isinstance(i, float) for i in x))
def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"
inputs = [[5], [9]]
results = [2.0000001, 4]
for inp, exp in zip(inputs, results):
    assertion(half(*inp), exp, 0)
"""
PYTEST = "import pytest\n"
FRAMEWORKS: list[tuple[Any, str, str]] = [  # reference, a right answer, a wrong one
    ({"test": "import sys\nok = half(4) == 2\nsys.exit(0 if ok else 1)"}, HALF, LESS),
    ({"test": "import sys\nif half(4) != 2:\n    sys.exit(1)"}, HALF, LESS),
    ({"test": "import asyncio\nassert asyncio.run(half(4)) == 2"}, LATER, TOO_EARLY),
    ({"test": "async def test_half():\n    assert await half(4) == 2"}, LATER, TOO_EARLY),
    (
        {"test": "with Half(4) as h:\n    assert h.x == 2"},
        *(
            f"class Half:\n def __init__(s, x): s.x = x // {n}\n"
            " def __enter__(s): return s\n def __exit__(s, *e): return True"
            for n in (2, 3)
        ),
    ),
    (
        {
            "test": PYTEST + "def test_a():\n    with pytest.raises(Neg, match='below'):\n        half(-1)\n"
            "    assert half(4) == 2"
        },
        NEGATIVE,
        EXPECTED_CLASS,
    ),
    (
        {"test": "try:\n    half(-1)\n    assert False\nexcept Neg:\n    pass\nassert half(4) == 2"},
        NEGATIVE,
        EXPECTED_CLASS,
    ),
    (
        {
            "test": PYTEST + "@pytest.mark.parametrize(argnames='x, e', argvalues=[(4, 2), (9, 4)])\n"
            "class TestHalf:\n    def test_a(self, x, e):\n        assert half(x) == e"
        },
        HALF,
        LESS,
    ),
    (
        {
            "test": PYTEST + "@pytest.fixture(params=[4, 5])\ndef x(request):\n    yield request.param\n"
            "@pytest.fixture(name='y')\ndef other(x):\n    return x\ndef test_a(y):\n    assert half(y) == 2"
        },
        HALF,
        LESS,
    ),
    (
        {"test": PYTEST + "@pytest.mark.skip\ndef test_b():\n    assert False\ndef test_a():\n    assert half(4) == 2"},
        HALF,
        LESS,
    ),
    (
        {
            "test": "def test_a(capsys):\n    print(half(4))\n    show(5)\n"
            "    assert capsys.readouterr().out == '2\\n2\\n'"
        },
        HALF + "\ndef show(x): print(half(x))",
        HALF + "\ndef show(x): return half(x)",
    ),
    ({"test": EVALPLUS}, HALF, LESS),
    (
        {"test": "import numpy\nassert numpy.allclose(half([4, 5]), [2, 2.5])"},
        "def half(x): return [y / 2 for y in x]",
        "def half(x): return []",
    ),
    (
        {
            "prompt": "def half(x):\n",
            "entry_point": "half",
            "test": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
            "        self.assertEqual(half(4), 2)",
        },
        HALF,
        LESS,
    ),
    ({"test_cases": ["assert half(4) == 2"]}, HALF, LESS),
    ({"inputs": ["assert half(4) == 2"], "outputs": [""]}, HALF, LESS),
    ({"assert_case": ["assert half(4) == 2"], "inputs": [""], "outputs": [""]}, HALF, LESS),
    ({"functional": "def check(candidate):\n    assert candidate(4) == 2\ncheck(half)"}, HALF, LESS),
    ({"official_tests": [{"input": "4\n", "output": "2\n"}]}, "print(int(input()) // 2)", "print(4)"),
    ({"inputs": ["1 3\n"], "outputs": ["0.333333\n"]}, "x: List[int] = [1, 3]\nprint(1 / 3)", "print(0.33333)"),
    ({"inputs": [[3]], "outputs": [0.33333], "fn_name": "f"}, "def f(x): return 1 / x", "def f(x): return 0.333"),
    ({"test": "assert half(4) == 2"}, HALF + "\nprint(half(int(input())))", LESS + "\nprint(half(int(input())))"),
]


@each(("reference", "right", "wrong"), FRAMEWORKS, every=4)
def test_a_way_to_write_tests_finds_right_what_is_right_and_wrong_what_is_wrong(
    reference: Any, right: str, wrong: str
) -> None:
    text = json.dumps(reference)
    check_code(text)
    found = [
        code(Case(response=f"```python\n{one}\n```", reference=text), CodeSettings(), Budget())
        for one in (right, wrong)
    ]
    assert [one.outcome for one in found] == [Outcome.CORRECT, Outcome.WRONG], found


SHIELDS = [  # tests, and an answer that could make them end without a verdict or with a false one
    ("import sys\nif half(4) is None:\n    sys.exit()\nassert half(4) == 2", "def half(x): return None"),
    ("import os\nif half(4) != 2:\n    os._exit(1)", LESS),
    (
        PYTEST + "def test_a():\n    if half(4) is None:\n        pytest.skip('x')\n    assert half(4) == 2\n"
        "def test_b():\n    assert half(4) is None",
        "def half(x): return None",
    ),
    ("assert half(half('a') + half('b')) == 'ab'", "def half(x): return 'a' * 5_000_000"),
    ("import numpy as np\nassert np.isclose(half(1), 2)", "def half(x): return [5.0]"),
    ("import numpy as np\nassert np.allclose(half(1), 2)", "def half(x): return []"),
    (
        "import sys\nsys.exit(half(4))",
        "class E:\n def __eq__(s, o): return True\n def __bool__(s): return False\ndef half(x): return E()",
    ),
    (
        "import asyncio\nassert asyncio.run(half(4)) == 2",
        "class E:\n def __eq__(s, o): return True\nasync def half(x): return E()",
    ),
]


@each(("tests", "answer"), SHIELDS)
def test_no_answer_ends_the_tests_before_they_judge_it(tests: str, answer: str) -> None:
    case = Case(response=f"```python\n{answer}\n```", reference=json.dumps({"test": tests}))
    assert code(case, CodeSettings(), Budget()).outcome is Outcome.WRONG


@each("fenced", [
    "> ```python\n> def half(x):\n>     return x // 2\n> ```",
    "So:\n>```python\n>def half(x):\n>    return x // 2\n>```\nDone",
    "- ```python\n  def half(x):\n      return x // 2\n  ```",
    "1. ~~~py\n   def half(x):\n       return x // 2\n   ~~~\n2. Done",
])  # fmt: skip
def test_code_in_a_quote_or_a_list_is_found(fenced: str) -> None:
    case = Case(response=fenced, reference=json.dumps(["assert half(4) == 2"]))
    assert code(case, CodeSettings(), Budget()).outcome is Outcome.CORRECT


@each(("reference", "why"), [
    ({"official_tests": [{"input": "4", "output": "2"}], "generated_checker": "print(1)"}, "no checker is run"),
    ({"test": "print(half(4) == 2)"}, "assert nothing"),
    ({"test": "import numpy as np\nassert np.array(half(4))"}, "not array"),
    ({"private_test_cases": "eJxrYJmayMgA"}, "pickle, which is not unpacked"),
])  # fmt: skip
def test_what_cannot_be_judged_is_refused(reference: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_code(json.dumps(reference))
