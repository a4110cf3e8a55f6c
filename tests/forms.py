"""Tests of one function, `add`, in the forms in which people store tests, and programs that pretend to pass them."""

import json
from collections.abc import Mapping
from typing import Any

ADD = "def add(a, b):\n    return a + b"
UNITTEST = (
    "import unittest\nclass TestAdd(unittest.TestCase):\n    def test_one(self):\n"
    "        self.assertEqual(add(1, 2), 3)\n"
)
CLASS = "class TestAdd:\n    def setup_method(self): self.x = 3\n    def test_a(self): assert add(1, 2) == self.x"
MARK = (
    "import pytest\n@pytest.mark.parametrize('a, b, c', [(1, 2, 3)])\ndef test_add(a, b, c):\n    assert add(a, b) == c"
)
FIXTURE = "import pytest\n@pytest.fixture\ndef three(): return 3\ndef test_add(three): assert add(1, 2) == three"
HELD: Mapping[str, Any] = {  # tests of add(1, 2) == 3 as people write them
    "a function": ["def test_add():\n    assert add(1, 2) == 3"],
    "a function that is called": ["def run():\n    assert add(1, 2) == 3\nrun()"],
    "a coroutine": ["async def test_add():\n    assert add(1, 2) == 3"],
    "a function that returns": ["def test():\n    return add(1, 2) == 3"],
    "check": ["def check(candidate):\n    assert candidate(1, 2) == 3"],
    "check that returns": ["def check(candidate):\n    return candidate(1, 2) == 3"],
    "unittest": [UNITTEST],
    "unittest with its main": [UNITTEST + "if __name__ == '__main__':\n    unittest.main()"],
    "unittest in the setup": {"test_list": ["unittest.main()"], "test_setup_code": UNITTEST},
    "a class": [CLASS],
    "pytest's table": [MARK],
    "pytest's fixture": [FIXTURE],
    "pytest's approx": ["import pytest\nassert add(1, 2) == pytest.approx(3)"],
    "a main block": ["if __name__ == '__main__':\n    assert add(1, 2) == 3"],
    "a comparison": ["add(1, 2) == 3"],
    "two comparisons": ["add(1, 2) == 3 and not add(0, 0) != 0"],
    "all": ["all(add(i, i) == 2 * i for i in range(3))"],
    "if and raise": ["if add(1, 2) != 3:\n    raise Exception('bad')"],
    "a swallowed assertion": ["try:\n    assert add(1, 2) == 3\nexcept Exception as e:\n    print('failed', e)"],
    "a swallowed assertion of unittest": [UNITTEST.replace("self.a", "try: self.a") + "        except: pass"],
    "a swallowed exception": ["try:\n    if add(1, 2) != 3: raise Exception('bad')\nexcept Exception as e: print(e)"],
    "a suppressed assertion": ["from contextlib import suppress\nwith suppress(Exception):\n    assert add(1, 2) == 3"],
    "an assertion before a return": ["def t():\n    try: assert add(1, 2) == 3\n    finally: return\nt()"],
    "an import": ["from solution import add as plus\ndef test_add():\n    assert plus(1, 2) == 3"],
    "an import of a module": ["import my_code as m\nassert m.add(1, 2) == 3"],
    "an import of everything": ["from solution import *\nassert add(1, 2) == 3"],
    "an import from beside": ["from .src.solution import add\nassert add(1, 2) == 3"],
    "one text": {"test": "from solution import add\ndef test_add():\n    assert add(1, 2) == 3"},
    "APPS": {"inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]], "fn_name": "add"},
    "PRIME": {"inputs": [[1, 2], [3, 4]], "outputs": [3, 7], "fn_name": "add"},
    "TACO": {"input_output": json.dumps({"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"})},
    "JSON in JSON": json.dumps({"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}),
    "LiveCodeBench": {
        "public_test_cases": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
        "metadata": json.dumps({"func_name": "add"}),
    },
    "a case with its function": [{"type": "function_call", "fn_name": "add", "input": [1, 2], "output": 3}],
    "arguments by name": {"inputs": [{"a": 1, "b": 2}], "outputs": [3], "fn_name": "add"},
}
FAKES: Mapping[str, str] = {
    "nothing": "pass",
    "a wrong sum": "def add(a, b): return 0",
    "StopIteration": "def add(a, b): raise StopIteration",
    "AssertionError": "def add(a, b): raise AssertionError",
    "KeyError": "def add(a, b): raise KeyError",
    "an end": "def add(a, b): exit(0)",
}
