import gc
import itertools
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewards.answers.algebra import equal
from rewards.answers.equality import same
from rewards.answers.final import Found, final, final_of_reference
from rewards.answers.limits import SECONDS, TooLong, limited, not_counted
from rewards.answers.mathematics import check_math, math
from rewards.answers.quick import agrees
from rewards.answers.reading import list_of
from rewards.verdict import Case, Outcome, RewardResult
from tests.hostile_answers import SLOW_ANSWERS
from tests.tables import each

DATA = Path(__file__).parents[4] / "shared" / "data"
OWN = Path(__file__).parents[2] / "data" / "verifier_cases" / "math.jsonl"

# Where the policy differs from the one of the project that a policy case comes from: (reference, response) by reason.
DEVIATIONS: dict[str, set[tuple[str, str]]] = {
    "a list without brackets has no order": {("4, 10, -2", "10, 4, -2"), ("4, .1, 2", "0.1, 4, 2")},
    "equal values are equal, reduced or worked out or not": {(r"\frac{1}{2}", r"\frac{2}{4}"), ("3245/5", "649")},
    "no tag, box or phrase is asked for": {("42", "just 42"), ("42", "The answer is 42")},
    "the last pair of answer tags counts, not the first": {
        ("42", "First answer: <answer>42</answer> Second: <answer>43</answer>"),
        ("43", "First answer: <answer>42</answer> Second: <answer>43</answer>"),
    },
    "an empty reference is a mistake in the data, not a wrong answer": {
        ("", r"\boxed{42}"),
        ("", "<answer>42</answer>"),
    },
}


def rows(file: str) -> list[dict[str, Any]]:
    path = DATA / file
    if not path.exists():
        pytest.skip(f"needs the data file, which is not at {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def judged(response: str, reference: str) -> RewardResult:
    return math(Case(response=response, reference=reference))


def own_pairs() -> list[tuple[str, str, str]]:
    cases = [json.loads(line) for line in OWN.read_text().splitlines()]
    return [(case["reference"], case["response"], case["expected"]) for case in cases]


@each(("reference", "response", "expected"), own_pairs(), every=7)
def test_equal_answers_are_correct_and_look_alikes_are_not(reference: str, response: str, expected: str) -> None:
    found = judged(response, reference)
    assert (found.outcome is Outcome.CORRECT) == (expected == "correct")
    assert "NameError" not in found.why  # a mistake of winnow's that would be taken for the answer's
    assert "UnboundLocalError" not in found.why


@pytest.mark.slow
def test_the_cases_of_public_verifiers_come_out_as_there() -> None:
    cases = [case for case in rows("verifier_cases.jsonl") if case["reward"] == "math"]
    missed = [
        case
        for case in cases
        if (judged(case["response"], case["reference"]).outcome is Outcome.CORRECT) != (case["expected"] == "correct")
    ]
    assert missed == []


def test_the_policy_differs_from_other_projects_only_as_documented() -> None:
    differing = set()
    for case in rows("verifier_cases_policy.jsonl"):
        pair = (case["reference"], case["response"])
        if not case["reference"]:
            with pytest.raises(ValueError, match="holds no answer"):
                judged(case["response"], case["reference"])
            differing.add(pair)
        elif (judged(case["response"], case["reference"]).outcome is Outcome.CORRECT) != (
            case["expected"] == "correct"
        ):
            differing.add(pair)
    assert differing == set().union(*DEVIATIONS.values())


@pytest.mark.slow
def test_the_short_cut_by_equal_text_never_differs_from_the_comparison() -> None:
    pairs = [(case["response"], case["reference"]) for case in rows("verifier_cases.jsonl") if case["reward"] == "math"]
    pairs += [(row["solution"], row["answer"]) for row in rows("math500/test.jsonl")]
    for response, reference in pairs:
        said, wanted = final(response), final_of_reference(reference)
        if said is None or wanted is None:
            continue
        values = [list_of(side.texts, side.found is not Found.BOX) for side in (wanted, said)]
        compared = any(same(one, two) for one in values[0] for two in values[1])
        assert compared == (judged(response, reference).outcome is Outcome.CORRECT), (response, reference)


@each(
    ("one", "other", "equals"),
    [
        ("2^{-99}", r"\frac{1}{2^{99}}", True),
        ("2^{-99}", "2^{-98}", False),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}", False),
        (r"\sqrt{10^{100}+1}", "10^{50}", False),
        (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}", True),
        ("x+2^{-99}", "x+2^{-98}", False),
        ("x^2-y^2", "(x-y)(x+y)", True),
        ("xy=1", r"y=\frac{1}{x}", True),
        ("-x>-1", "x<1", True),
        ("x>-1", "x<1", False),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}", False),
    ],
)
def test_algebra_rounds_nothing_away(one: str, other: str, equals: bool) -> None:
    assert equal(one, other) is equals


@each(
    ("response", "outcome"),
    [
        (r"\boxed{5", Outcome.UNPARSABLE),
        (r"\boxed{}", Outcome.UNPARSABLE),
        ("<think>5", Outcome.UNPARSABLE),
        ("", Outcome.UNPARSABLE),
        (r"<think>\boxed{5}</think> \boxed{6}", Outcome.WRONG),
        (r"\boxed{\frac{1}{0}}", Outcome.WRONG),
        (r"\boxed{" + "7" * 5000 + "}", Outcome.WRONG),
        ("The answer is !!!invalid!!!", Outcome.WRONG),
        ("5", Outcome.CORRECT),
    ],
)
def test_a_missing_answer_is_told_from_a_wrong_one(response: str, outcome: Outcome) -> None:
    result = judged(response, "5")
    assert result.outcome is outcome
    assert result.why


def test_the_second_checker_is_reported_and_changes_nothing() -> None:
    strict = judged(r"\boxed{2(x+1)}", "2x+2")
    assert (strict.outcome, strict.parts["quick"]) == (Outcome.CORRECT, 0.0)
    plain = judged(r"\boxed{\dfrac{1}{2}}", "0.5")
    assert (plain.outcome, plain.parts["quick"]) == (Outcome.CORRECT, 1.0)
    assert judged("none", "5").parts == {"quick": 0.0}


@each(
    ("said", "wanted", "equals"),
    [
        (("2", "1"), ("1,2",), True),
        (("(2,1)",), ("(1,2)",), False),
        ((r"15\text{ cm}^2",), ("15",), True),
        (("x=5",), ("5",), True),
        (("5",), ("6",), False),
        (("10,080",), ("10080",), True),
    ],
)
def test_the_second_checker_compares_text_and_fractions(
    said: tuple[str, ...], wanted: tuple[str, ...], equals: bool
) -> None:
    assert agrees(said, wanted) is equals


@each("reference", ["", " ", r"\boxed{}", "$$"])
def test_a_reference_without_an_answer_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="holds no answer"):
        check_math(reference)


@pytest.mark.slow
def test_every_answer_of_math_500_is_correct_against_itself_and_its_solution() -> None:
    for row in rows("math500/test.jsonl"):
        check_math(row["answer"])
        for response in (
            row["answer"],
            row["solution"],
            f"so $\\boxed{{{row['answer']}}}$.",
            f"The answer is ${row['answer']}$.",
        ):
            assert judged(response, row["answer"]).outcome is Outcome.CORRECT, (response, row["answer"])


@pytest.mark.slow
def test_no_answer_of_math_500_is_correct_against_the_next_one() -> None:
    answers = [row["answer"] for row in rows("math500/test.jsonl") if not row["answer"].lstrip("-").isdigit()]
    for one, two in itertools.pairwise(answers):
        if one.replace("d", "") != two.replace("d", ""):
            assert judged(f"\\boxed{{{two}}}", one).outcome is Outcome.WRONG, (one, two)


@pytest.mark.slow
@each(
    ("file", "field"), [("gsm8k/test.jsonl", "answer"), ("gsm8k/train.jsonl", "answer"), ("svamp/test.jsonl", "Answer")]
)
def test_every_fifth_answer_of_the_word_problems_is_correct_against_itself(file: str, field: str) -> None:
    for row in rows(file)[::5]:
        answer = str(row[field])
        check_math(answer)
        assert judged(answer, answer.rpartition("#### ")[2]).outcome is Outcome.CORRECT, answer


@each(
    "response",
    [
        r"\boxed{" + "{" * 3000 + "7" + "}" * 3000 + "}",
        "[" * 20_000,
        r"\boxed{9^{9^{9^9}}}",
        r"\boxed{10**10**10}",
        r"\boxed{99999999!}",
        r"\boxed{1e999999999}",
        "7" * 50_000,
        "\\boxed{\udcff7}",
        "<answer>" * 5_000,
    ],
)
def test_what_a_response_breaks_a_reader_with_is_wrong(response: str) -> None:
    assert judged(response, "5").outcome in (Outcome.WRONG, Outcome.UNPARSABLE)


# The alarm may ring in a callback of the garbage collector, which swallows it; it rings again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@each("response", SLOW_ANSWERS[:1])
def test_an_answer_that_computes_for_ever_is_wrong_within_seconds(response: str) -> None:
    started = time.process_time()
    assert judged(response, "x^2+1").outcome is Outcome.WRONG
    assert time.process_time() - started < 5 * SECONDS  # the first one loads sympy


def test_a_reference_that_computes_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="more computing"):
        check_math(r"\prod_{k=1}^{1000}(x+k)")


def test_loading_a_library_counts_for_no_limit() -> None:
    with limited(0.05), not_counted():
        _spin(0.2)


def test_a_limit_of_computing_does_not_count_waiting() -> None:
    with limited(0.05):
        time.sleep(0.2)
    with pytest.raises(TooLong):
        _compute_for_ever()


def _spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


class _Finalized:
    def __del__(self) -> None:
        _spin(0.2)


def _finalize() -> None:
    _Finalized()


def _collect() -> None:
    def callback(*_: object) -> None:
        _spin(0.1)

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def _drop_a_key() -> None:
    class Key:
        def __hash__(self) -> int:
            return 0

        def __eq__(self, other: object) -> bool:
            _spin(0.2)
            return self is other

    keys = weakref.WeakKeyDictionary[Key, int]()
    first, second = Key(), Key()
    keys[first], keys[second] = 1, 2
    del second


@each("callback", [_finalize, _collect, _drop_a_key])
def test_a_limit_that_is_over_in_a_callback_of_python_counts_after_it(callback: Callable[[], None]) -> None:
    # Raised within, it would be swallowed with "Exception ignored in", which is an error in these tests.
    with pytest.raises(TooLong):
        _limited_in(callback)


def _limited_in(callback: Callable[[], None]) -> None:
    with limited(0.05):
        callback()
        _spin(1.0)


def _compute_for_ever() -> None:
    with limited(0.05):
        while True:
            pass


@each("reference", ["NaN", "null", "None", "<NA>", "9^{9^{9^9}}", "(" * 40 + "1" + ")" * 40])
def test_a_reference_that_cannot_be_read_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="the reference"):
        check_math(reference)
