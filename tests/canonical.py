"""Solutions that pass: the canonical ones of HumanEval and MBPP, and small ones with what tests can do."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rewards.verdict import Case

DATA = Path(__file__).parents[2] / "shared" / "data"
HUMANEVAL = DATA / "humaneval" / "HumanEval.jsonl.gz"
MBPP = DATA / "mbpp" / "mbpp.jsonl"


STACK = """
class Stack:
    size = 0
    def __init__(self, *items): self.items = list(items)
    def push(self, item): self.items.append(item); return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, index): return self.items[index]
    def __str__(self): return f"Stack{self.items}"
def top(stack): return stack.items[-1]
"""
WORKING: Mapping[str, tuple[str, str]] = {  # code, and a test of it
    "plain values": (
        "def f(*a, **k): return [a, k]",
        "assert f(1, 'x', None, y=(2, {3})) == [(1, 'x', None), {'y': (2, {3})}]",
    ),
    "types": ("def f(x): return x", "assert type(f((1,))) is tuple and type(f([1])) is list and f(True) is True"),
    "large ints": ("def f(x): return x ** 100", "assert f(10 ** 50) == 10 ** 5000"),
    "an expected exception": (
        "def f(x): raise ValueError('no ' + x)",
        "try:\n    f('x')\nexcept ValueError as e:\n    assert str(e) == 'no x'\nelse:\n    assert False",
    ),
    "an exception of its own": (
        "class Odd(KeyError): pass\ndef f(x): raise Odd(x)",
        "try:\n    f(1)\n    assert False\nexcept KeyError:\n    pass",
    ),
    "a class": (
        STACK,
        "s = Stack(1)\ns.push(2).push(3)\nassert s.pop() == 3 and len(s) == 2 and s[0] == 1 and top(s) == 2",
    ),
    "attributes": (
        STACK,
        "s = Stack()\nassert s.size == 0\ns.size = 5\nassert s.size == 5 and not s and str(s) == 'Stack[]'",
    ),
    "identity": (STACK, "s, t = Stack(), Stack()\nassert s.push(1) is s and s.push(1) == s and s != t"),
    "a generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2] and next(f(3)) == 0"),
    "an endless generator": (
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]",
    ),
    "a function": ("def f(n):\n    return lambda x: x + n", "assert f(2)(3) == 5"),
    "its own function as an argument": ("def f(g): return g(2)\ndef g(x): return x + 1", "assert f(g) == 3"),
    "a module that the test names": ("def f(x): return x / 3", "assert math.isclose(f(1), 0.3333333333333333)"),
    "a function with a builtin's name": ("def sum(a, b): return a + b + 1", "assert sum(1, 2) == 4"),
    "a builtin around it": ("def f(x): return [x, 1]\ndef set(x): return 5", "assert set(f(2)) == set([1, 2])"),
    "printing and its own checks": ("def f(x): return x\nprint('hi')\nassert f(1) == 1", "assert f(2) == 2"),
    "a dataclass": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(): return P(3)",
        "assert f().x == 3",
    ),
    "a main guard": ("def f(): return 1\nif __name__ == '__main__':\n    raise SystemExit", "assert f() == 1"),
    "counters": ("from collections import *\ndef f(s): return Counter(s)", "assert f('aab') == {'a': 2, 'b': 1}"),
    "a deep nest": ("def f(n):\n    r = []\n    for _ in range(n): r = [r]\n    return r", "assert f(3) == [[[[]]]]"),
}


def canonical_cases() -> Iterator[tuple[str, Case]]:
    """Every problem's name and its solution as a response: HumanEval's as bare completions, MBPP's in a fence."""
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            reference = json.dumps({key: row[key] for key in ("prompt", "test", "entry_point")})
            yield row["task_id"], Case(response=row["canonical_solution"], reference=reference)
    with MBPP.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            keys = ("test_list", "test_setup_code", "challenge_test_list")
            response = f"It can be done so:\n```python\n{row['code']}\n```\n"
            reference = json.dumps({key: row[key] for key in keys})
            yield f"MBPP/{row['task_id']}", Case(response=response, reference=reference)
