import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards.programs.blocks import response_code
from rewards.programs.code import CodeSettings, check_code, code, same_output
from rewards.programs.naming import names_under_test
from rewards.programs.sandbox import sandbox_problem
from rewards.settings import Budget
from rewards.verdict import Case, Outcome, RewardResult
from tests.canonical import HUMANEVAL, MBPP, WORKING, canonical_cases
from tests.hostile import HOSTILE, SECRET, TESTS, Target, target
from tests.runs import Runs
from tests.tables import each

SETTINGS, BUDGET = CodeSettings(), Budget()
confined = pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")


@pytest.fixture(scope="module", autouse=True)
def alone(_runs: Runs) -> None:
    """No process of a shared Ray session is there that could be taken for one that a program left."""
    _runs.end()


def some(names: Iterable[str]) -> list[Any]:
    """Every sixth for the quick tests; all of them with the mark."""
    return [pytest.param(name, marks=[pytest.mark.slow] if i % 6 else []) for i, name in enumerate(names)]


def unhurried(verdict: RewardResult) -> RewardResult:
    """The verdict, where the machine gave the program its CPU time before the time on the wall was over."""
    if verdict.outcome is Outcome.TIMEOUT:
        pytest.skip("this machine is too busy for a second of CPU time in three")
    return verdict


def judged(source: str, reference: Any, seconds: float = 10.0, memory_mib: int = 2048, **settings: Any) -> RewardResult:
    text = reference if isinstance(reference, str) else json.dumps(reference)
    return code(
        Case(response=f"```python\n{source}\n```", reference=text),
        CodeSettings(**settings),
        Budget(seconds=seconds, memory_mib=memory_mib),
    )


# ---- the data sets ----


@pytest.mark.slow
@confined
@pytest.mark.skipif(not (HUMANEVAL.is_file() and MBPP.is_file()), reason="needs the HumanEval and MBPP files")
def test_canonical_solutions_pass() -> None:
    cases = list(canonical_cases())[::16]  # the benchmark runs them all
    for _, case in cases:
        check_code(case.reference)
    wrong = {
        name: one.why for name, case in cases if (one := code(case, SETTINGS, BUDGET)).outcome is not Outcome.CORRECT
    }
    assert (len(cases), wrong) == (41, {})


PROMPT = {
    "prompt": 'import math\n\ndef twice(x):\n    return 2 * x\n\n\ndef half(x: int) -> int:\n    """Half of x."""\n',
    "test": "def check(candidate):\n    assert candidate(twice(4)) == 4\n    assert candidate(5) == math.floor(2.5)\n",
    "entry_point": "half",
}
COMPLETIONS = {
    "the whole function in a fence": "So:\n```python\ndef half(x):\n    return x // 2\n```\nDone.",
    "the prompt again": f"```\n{PROMPT['prompt']}    return x // 2\n```",
    "a function of a helper in the prompt": "```python\ndef half(x):\n    return twice(x) // 4\n```",
    "an assigned name": "```py\nhalf = lambda x: x // 2\n```",
    "a body": "    y = x // 2\n    return y\n",
    "a body without its first indentation": "y = x // 2\n    return y",
    "a body without indentation": "y = x // 2\nif y:\n    return y\nreturn 0",
    "a body in a fence": "```python\n    return x // 2\n```",
    "a body and a function behind it": "    return third(x)\n\n\ndef third(x):\n    return x // 2\n",
    "thoughts before it": "<think>```python\ndef half(x): 3\n```</think>\n```python\ndef half(x): return x // 2\n```",
    "a fence that is not closed": "```python\ndef half(x):\n    return x // 2",
    "its output in a fence behind it": "```python\ndef half(x): return x // 2\n```\nprints\n```\n2\n```",
}


@confined
@pytest.mark.parametrize("response", COMPLETIONS.values(), ids=COMPLETIONS)
def test_code_that_defines_the_function_or_goes_on_from_the_prompt_is_found(response: str) -> None:
    verdict = code(Case(response=response, reference=json.dumps(PROMPT)), SETTINGS, BUDGET)
    assert (verdict.outcome, verdict.why) == (Outcome.CORRECT, "all 1 tests pass")


@confined
def test_a_prompt_that_ends_with_the_head_of_its_function_can_be_gone_on_from() -> None:
    prompt = {
        "prompt": "def half(x):",
        "test": "def check(candidate):\n    assert candidate(5) == 2",
        "entry_point": "half",
    }
    check_code(json.dumps(prompt))
    assert (
        code(Case(response="    return x // 2", reference=json.dumps(prompt)), SETTINGS, BUDGET).outcome
        is Outcome.CORRECT
    )


@confined
def test_a_helper_of_the_prompt_is_the_tests_own() -> None:
    verdict = judged("def half(x): return 4\ndef twice(x): return 8", PROMPT)
    assert verdict.outcome is Outcome.WRONG


@confined
@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("", Outcome.UNPARSABLE),
        ("<think>def f(): return 1</think>  \n", Outcome.UNPARSABLE),
        ("```python\n\n```", Outcome.UNPARSABLE),
        ('```json\n{"a": 1}\n```', Outcome.UNPARSABLE),
        ("I would write a loop.", Outcome.WRONG),
        ("```python\ndef f(:\n```", Outcome.WRONG),
    ],
)
def test_a_response_without_code_is_unparsable_and_broken_code_is_wrong(response: str, outcome: Outcome) -> None:
    verdict = code(Case(response=response, reference=json.dumps(["assert f() == 1"])), SETTINGS, BUDGET)
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0)


@each(
    ("response", "expected"),
    [
        ("a = 1", "a = 1"),
        ("  a\n  b", "  a\n  b"),
        ("```\na\n```", "a"),
        ("```python\na\n```\n```python\nb\n```", "b"),
        ("```python\na\n```\n```\nb\n```", "a"),
        ("```\na\n```\n```text\nb\n```", "a"),
        ("~~~\n```Python3 title\na\n", "a"),
        ("````\na\n```\nb\n````", "a\n```\nb"),
        ("- so:\n  ```py\n  if a:\n    b\n  ```", "if a:\n  b"),
        ("```python\na```\nb\n```", "a```\nb"),
        ("x `a` y", "x `a` y"),
        ("</think>a</think>b", "b"),
    ],
)
def test_the_code_of_a_response_is_its_last_block_of_python(response: str, expected: str) -> None:
    assert response_code(response) == expected


FENCED = "```python\ndef add(a, b):\n    return a + b\n```"
DEFINED = "def add(a, b):\n    return a + b"


@each(
    ("response", "expected"),
    [
        (f"<answer>{DEFINED}</answer>", DEFINED),
        (f"<answer>def add(a, b): 0</answer> no: <answer>\n{DEFINED}\n", DEFINED),
        (f"<answer>\n{FENCED}\n</answer>", DEFINED),
        (f"{FENCED}\n<answer>add</answer>", DEFINED),
        (f"```python\nprint('<answer>')\n{DEFINED}\n```", f"print('<answer>')\n{DEFINED}"),
        (f"<code>\n{DEFINED}\n</code>", DEFINED),
        (f"[PYTHON]\n{DEFINED}\n[/PYTHON]", DEFINED),
        (f"~~~\n{DEFINED}\n~~~", DEFINED),
        (f"~~~~python\n{DEFINED}\n~~~~\nbye", DEFINED),
        (f"~~~python\n{DEFINED}", DEFINED),
        (f"\ufeff{FENCED}", DEFINED),
        (FENCED.replace("def", "\ufeffdef"), DEFINED),
        (FENCED.replace("\n", "\r\n"), DEFINED),
        (f"{FENCED}<|im_end|>", DEFINED),
        (f"Here: {FENCED}", DEFINED),
        (FENCED.replace("\n```", "```"), DEFINED),
        (f"{FENCED}\nFor example:\n```python\nprint(add(1, 2))\n```", DEFINED),
        (f"{FENCED}\n```python\nfrom solution import add\nassert add(1, 2) == 3\n```", DEFINED),
        (f"```python\ndef add(a, b): 0\n```\nbetter:\n{FENCED}\n```bash\npython add.py\n```", DEFINED),
        (f"{FENCED}\nno, rather\n```python\ndef add(a, b): 0\n```", "def add(a, b): 0"),
        ("```python\ndef plus(a): 0\n```\n```python\nadd = plus\n```", "def plus(a): 0\n\nadd = plus"),
        (
            "```python\nclass B: pass\n```\n```python\nx = 1\n```\n" + "```python\ndef add(a): B()\n```",
            "class B: pass\n\ndef add(a): B()",
        ),
    ],
)
def test_the_code_is_what_defines_the_names_that_the_tests_call(response: str, expected: str) -> None:
    assert response_code(response, {"add"}) == expected


@each(
    ("response", "expected"),
    [
        ("```python\nn = input()\n```\ngives\n```\n5\n```", "n = input()"),
        ("```python\nn = input()\n```\nso\n```python\n# 4\nprint(5)\n```", "n = input()"),
        ("```python\ndef f(n): 1\n```\n```python\nf(input())\n```", "def f(n): 1\n\nf(input())"),
        ("```python\nprint(1)\n```\n```python\nprint(2)\n```", "print(2)"),
    ],
)
def test_the_code_of_a_program_is_what_reads_its_input(response: str, expected: str) -> None:
    assert response_code(response, reads=True) == expected


# ---- what tests can do ----


@confined
@pytest.mark.parametrize(("source", "test"), WORKING.values(), ids=WORKING)
def test_tests_can_use(source: str, test: str) -> None:
    check_code(json.dumps([test]))
    verdict = judged(source, [test])
    assert (verdict.outcome, verdict.why) == (Outcome.CORRECT, "all 1 tests pass")


@confined
def test_a_change_of_an_argument_does_not_change_what_is_expected() -> None:
    verdict = judged("def f(x):\n    x.clear()\n    return []", ["x = [2, 1]\nassert sorted(x) == f(x)"])
    assert verdict.outcome is Outcome.WRONG


@each(
    ("sources", "entry", "names"),
    [
        (["assert f(g(1)) == x"], "", {"f", "g", "x"}),
        (["x = 1", "for i in y: f(i, x)"], "", {"f", "y"}),
        (["import math as m\ndef h(a): return f(a)", "assert h(m.pi)"], "", {"f"}),
        (["assert sum(1, 2) == 3"], "", {"sum"}),
        (["assert set(sum([1])) == set()"], "", set()),
        (["assert len(f(1)) == sys.maxsize"], "", {"f"}),
        (["def f(x): pass", "def check(candidate): assert candidate(abs(1)) == 1"], "f", {"f"}),
    ],
)
def test_the_names_under_test_are_those_that_the_tests_do_not_have(
    sources: list[str], entry: str, names: set[str]
) -> None:
    assert names_under_test(sources, entry) == names


# ---- what comes of it ----

SQUARES = json.loads(TESTS)


@confined
def test_a_share_of_passed_tests_is_a_part_and_worth_what_the_settings_say() -> None:
    source = "def solve(n):\n    return 9 if n == 3 else 16 if n == 4 else 7"
    verdict = judged(source, SQUARES, partial=0.3)
    assert (verdict.outcome, verdict.parts) == (Outcome.WRONG, {"passed": pytest.approx(2 / 3)})
    assert verdict.reward == pytest.approx(0.2)
    assert verdict.why == "2 of 3 tests pass; assert solve(5) == 25 fails: it returned 7"
    assert judged(source, SQUARES).reward == 0.0
    assert judged("def solve(n): return n * n", SQUARES).reward == 1.0


@confined
@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "def other(n): return n",
            "0 of 3 tests pass; assert solve(3) == 9 fails: it raised NameError: name 'solve' is",
        ),
        ("def solve(n): return 1 / 0", "fails: it raised ZeroDivisionError: division by zero"),
        ("import numpy", "the code fails: it does not load: raised ModuleNotFoundError: No module named 'numpy'"),
        ("def solve(n): return 'x' * 10**9", "fails: it raised MemoryError"),
        ("import os\ndef solve(n): os._exit(0)", "fails: it ended, with status 0"),
        ("import os\nos._exit(0)", "the code fails: it ended while it was loaded, with status 0"),
        ("def solve(n): return '1' * 1000", f"fails: it returned '{'1' * 76}..."),
        ("def solve(n): return None", "fails: it returned None"),
    ],
)
def test_the_reason_names_what_was_found(source: str, why: str) -> None:
    verdict = judged(source, SQUARES, memory_mib=256)
    assert verdict.outcome is Outcome.WRONG
    assert why in verdict.why


@pytest.mark.slow
@confined
def test_too_much_cpu_time_is_wrong_and_too_much_time_is_no_verdict() -> None:
    idle = judged("import time\ndef solve(n):\n    time.sleep(100)", SQUARES, seconds=0.8)
    assert (idle.outcome, idle.why) == (Outcome.TIMEOUT, "the tests did not finish in time")
    busy = unhurried(judged("def solve(n):\n    while n > 3: pass\n    return 9", SQUARES, seconds=3.3))
    assert (busy.outcome, busy.parts) == (Outcome.WRONG, {"passed": pytest.approx(1 / 3)})
    # On a machine that is very busy the kernel ends it before all of its second is accounted for.
    ends = (
        "with more than 1 CPU seconds used",
        "with SIGKILL: it ignored its limit of CPU time, ran out of memory or killed itself",
    )
    assert busy.why.endswith(tuple(f"assert solve(4) == 16 fails: it ended, {end}" for end in ends))


@pytest.mark.slow
@confined
def test_a_failed_test_decides_although_a_later_one_does_not_finish() -> None:
    verdict = judged("import time\ndef solve(n):\n    return n if n == 3 else time.sleep(100)", SQUARES, seconds=6.0)
    assert verdict.outcome is Outcome.WRONG


@pytest.mark.slow
@confined
def test_tests_that_hang_by_themselves_give_no_verdict() -> None:
    verdict = judged("def f(): return 1", ["assert f() == 1\nwhile True: pass"], seconds=3.3)
    assert verdict.outcome is Outcome.TIMEOUT
    assert verdict.why in ("the tests themselves used more than 1 CPU seconds", "the tests did not finish in time")


@confined
@pytest.mark.parametrize(
    ("tests", "why"),
    [
        (["import no_such_module\nassert f() == 1"], "the tests fail by themselves, before they call the code: Mod"),
        (["assert f(open) == 1"], "a test passes a builtin_function_or_method, which cannot be sent"),
        (["raise SystemExit"], "the tests ended early, with status"),
    ],
)
def test_tests_that_cannot_be_run_are_an_error(tests: list[str], why: str) -> None:
    with pytest.raises(RuntimeError, match=why):
        judged("def f(*a): return 1", tests)


@confined
def test_the_verdict_is_the_same_every_time() -> None:
    source = "def f(x):\n    return list(set(x))"
    verdicts = [judged(source, ["assert f('abcdefg') == 0"]) for _ in range(3)]
    assert len({verdict.why for verdict in verdicts}) == 1


def test_without_a_sandbox_nothing_is_run_unless_the_user_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    source = f"open({str(proof)!r}, 'w')\ndef solve(n): return n * n"
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox_problem.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"not run without a sandbox, and bubblewrap is missing.*unsandboxed"):
            judged(source, SQUARES)
        assert not proof.exists()
        assert judged(source, SQUARES, unsandboxed=True).outcome is Outcome.CORRECT
        assert proof.exists()
    finally:
        sandbox_problem.cache_clear()


@pytest.mark.parametrize("name", some(n for n in HOSTILE if n.startswith(("pretence", "protocol: a ", "output"))))
def test_without_a_sandbox_success_cannot_be_faked_either(name: str) -> None:
    assert judged(HOSTILE[name], TESTS, seconds=0.8, unsandboxed=True).outcome is not Outcome.CORRECT


@confined
@each(
    "source",
    [
        "def solve(n):\n    raise ValueError('\\udcff\\x1b[31m')",
        "import os\ndef solve(n):\n    for f in range(3, 40):\n"
        "        try: os.write(f, b'\\xff')\n        except OSError: pass",
        "import os\ndef solve(n):\n    os.closerange(0, 64)",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 ** 20, 2 ** 20))\n"
        "def solve(n):\n    return [0] * 10 ** 7",
        "def solve(n):\n    r = []\n    for _ in range(10 ** 5): r = [r]\n    return r",
        "def solve(n):\n    return " + "(" * 50_000 + ")" * 50_000,
        HOSTILE["bomb: killing itself by a timer"],
        HOSTILE["bomb: memory outside the limit: empty files"],
    ],
)
def test_what_code_does_to_itself_is_wrong_and_no_error(source: str) -> None:
    verdict = unhurried(judged(source, SQUARES))
    assert verdict.outcome is Outcome.WRONG
    assert verdict.why.encode().isascii()


# ---- programs ----

ADD = {"inputs": ["1 2\n", "3 4\n", ["10", "20"]], "outputs": ["3\n", "7", ["30"]]}


@confined
def test_a_program_is_judged_by_what_it_prints() -> None:
    check_code(json.dumps(ADD))
    source = "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.read().split())), ' \\n')"
    assert judged(source, ADD).why == "all 3 tests pass"


@pytest.mark.slow
@confined
@pytest.mark.parametrize(
    ("source", "passed", "why"),
    [
        ("print(3)", 1, "1 of 3 tests pass; input 2 fails: printed '3', expected '7'"),
        ("a, b = map(int, input().split()); print(a + b)", 2, "2 of 3 tests pass; input 3 fails: status 1"),
        ("print(3)\nraise SystemExit(2)", 0, "0 of 3 tests pass; input 1 fails: status 2"),
        ("while True: print('x' * 1000)", 0, "0 of 3 tests pass; input 1 fails: more than 1048576 bytes printed"),
        ("import os\nos.write(1, b'x' * 10**6)\nos._exit(0)", 0, "input 1 fails: printed 'xxx"),
        ("while True: pass", 0, "0 of 3 tests pass; input 1 fails: more than 1 CPU seconds used"),
        ("import os\nfor f in range(3, 60):\n    try: os.write(f, b'3')\n    except OSError: pass", 0, "printed"),
        ("def f(:", 0, "0 of 3 tests pass; input 1 fails: status 1"),
    ],
)
def test_a_program_that_prints_something_else_is_wrong(source: str, passed: int, why: str) -> None:
    verdict = unhurried(judged(source, ADD, seconds=3.3, partial=0.3))
    assert (verdict.outcome, verdict.parts) == (Outcome.WRONG, {"passed": pytest.approx(passed / 3)})
    assert verdict.reward == pytest.approx(0.1 * passed)
    assert why in verdict.why


@confined
def test_a_program_that_waits_gets_no_verdict() -> None:
    verdict = judged("import time\ntime.sleep(100)", ADD, seconds=0.8)
    assert (verdict.outcome, verdict.why) == (Outcome.TIMEOUT, "input 1 was not done in time")


@each(
    ("said", "expected", "same"),
    [
        ("1 2\n3", "1 2  \n3\n\n", True),
        ("\n1", "1", True),
        ("1  2", "1 2", True),
        ("1\n2", "1 2", False),
        ("1", "1\n2", False),
        ("0.30000000000000004", "0.3", True),
        ("1.0", "1", True),
        ("1e3", "1000", True),
        ("1.000001", "1", False),
        ("1000000000.5", "1000000000.6", True),
        ("1000000000.5", "1000000002", False),
        ("007", "7", False),
        ("10000000000000000001", "10000000000000000000", False),
        ("nan", "nan", True),
        ("nan", "1.0", False),
        ("inf", "1e999", False),
        ("Yes", "YES", False),
        ("", "", True),
        ("x = 0.50", "x = 0.5", True),
    ],
)
def test_outputs_are_compared_line_by_line_and_decimals_by_value(said: str, expected: str, same: bool) -> None:
    assert same_output(said, expected) is same


# ---- references ----


@each(
    ("reference", "why"),
    [
        ("assert f() == 1", "is not JSON text"),
        ("[" * 100_000, "is not JSON text"),
        ("3", "neither an object nor a list: '3'"),
        ({"tests": []}, "the reference holds no test case"),
        ({"texts": []}, "the reference holds 'texts'; it needs 'prompt', 'test' and 'entry_point'"),
        ([], "needs a list of texts 'test_list', which is"),
        ([1], "'test_list' holds something that is no text: 1"),
        (["assert f( == 1"], r"a test does not compile: .*'assert f\( == 1'"),
        (["assert 1 == 1"], "the tests call nothing that a response could define: 'assert 1 == 1'"),
        ({"test_list": ["f()"], "test_setup_code": "def"}, "a test does not compile"),
        ({"test_list": ["f()"], "test_setup_code": 3}, "needs the text 'test_setup_code', which is 3"),
        ({**PROMPT, "entry_point": None}, "needs the text 'entry_point', which is missing"),
        ({**PROMPT, "entry_point": "a b"}, "'entry_point' is no name of a function: 'a b'"),
        ({**PROMPT, "prompt": "def half(x"}, "'prompt' is no beginning of a Python program"),
        ({**PROMPT, "test": "def check(candidate"}, "a test does not compile"),
        ({**PROMPT, "test": "assert half(2) == 1"}, r"'test' defines no function check\(candidate\)"),
        ({"inputs": ["1"]}, "needs a list of texts 'outputs'"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "1 inputs and 2 outputs"),
        ({"inputs": [[1]], "outputs": ["1"]}, r"'inputs' holds something that is no text: \[1\]"),
    ],
)
def test_a_reference_that_nothing_could_be_judged_against_is_refused(reference: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_code(reference if isinstance(reference, str) else json.dumps(reference))


# ---- hostile programs ----


@pytest.fixture
def aim(tmp_path: Path) -> Iterator[Target]:
    with target(tmp_path) as aim:
        yield aim


@confined
@pytest.mark.parametrize("name", some(HOSTILE))
def test_a_hostile_program_gains_nothing_and_harms_nothing(name: str, aim: Target) -> None:
    try:
        verdict = judged(aim.armed(HOSTILE[name]), TESTS, seconds=0.8)
    except RuntimeError as failure:  # what the caller makes the outcome "error" of
        verdict = RewardResult(outcome=Outcome.ERROR, why=str(failure))
    assert verdict.outcome is not Outcome.CORRECT, verdict.why
    assert SECRET not in verdict.why
    assert aim.harm() == []
