import json
from fractions import Fraction
from pathlib import Path

import pytest

from rewards.answers.text import check_choice, check_exact, check_number, choice, exact, final_number, number
from rewards.verdict import Case, Outcome, RewardResult
from tests.tables import each

DATA = Path(__file__).parents[4] / "shared" / "data"
REWARDS = {"exact": exact, "choice": choice, "number": number}


def judged(reward: str, response: str, reference: str) -> RewardResult:
    return REWARDS[reward](Case(response=response, reference=reference))


@each(
    ("text", "value"),
    [
        ("8+7+0=15,5+6+1=12#525", 525),
        ("Natalia sold 48/2 = 24 clips.\n#### 72", 72),
        ("#### $1,234.50 in all", Fraction("1234.5")),
        ("The answer is 5. I checked 7 times", 5),
        ("the final answer: -3", -3),
        ("we go from 3-4", 4),
        ("x = -4", -4),
        ("so 1/2 of it", Fraction(1, 2)),
        ("2.50", Fraction(5, 2)),
        ("1e2", 100),
        ("first 10,20", 20),
        ("1/0", None),
        ("12#", None),
        ("####", None),
        ("no digits", None),
        ("", None),
    ],
)
def test_the_final_number_is_the_one_a_person_would_read(text: str, value: Fraction | None) -> None:
    assert final_number(text) == value


@each(
    ("reward", "response", "outcome"),
    [
        ("number", "it is 0.50", Outcome.CORRECT),
        ("number", "it is 0.5000001", Outcome.WRONG),
        ("number", "it is half", Outcome.UNPARSABLE),
        ("number", "<think>0.5</think> 0.4", Outcome.WRONG),
        ("number", "<think>0.5", Outcome.UNPARSABLE),
        ("number", r"\boxed{\frac{1}{2}}, after 3 tries", Outcome.CORRECT),
        ("number", r"\boxed{0.5", Outcome.UNPARSABLE),
        ("exact", " 1/2\n", Outcome.CORRECT),
        ("exact", "<answer>1/2</answer>", Outcome.CORRECT),
        ("exact", "0.5", Outcome.WRONG),
        ("exact", "12", Outcome.WRONG),
        ("exact", "-1/2", Outcome.WRONG),
        ("exact", "  ", Outcome.UNPARSABLE),
        ("exact", "<think>1/2", Outcome.UNPARSABLE),
    ],
)
def test_an_outcome_follows_from_response_and_reference(reward: str, response: str, outcome: Outcome) -> None:
    result = judged(reward, response, "1/2")
    assert result.outcome is outcome
    assert result.why


@each(
    ("reference", "response"),
    [
        ("new york city", "New  York City!"),
        ("a test", "The test."),
        ("a", "A"),
        ("St. Louis", "st. louis"),
        ("...", "..."),
    ],
)
def test_exact_ignores_case_articles_and_the_punctuation_around_words(reference: str, response: str) -> None:
    assert judged("exact", response, reference).outcome is Outcome.CORRECT


@each(("reference", "response"), [("-3", "3"), (".5", "5"), ("5%", "5"), ("1/2", "12")])
def test_exact_minds_signs_that_change_a_value(reference: str, response: str) -> None:
    assert judged("exact", response, reference).outcome is Outcome.WRONG


@each(
    ("response", "letter"),
    [
        ("The answer is for sure D, it can't be A or B", "D"),
        ("D. it can't be A or B", "D"),
        ("réponse est C non A", "C"),
        ("B。不是 A", "B"),
        ("答案选B", "B"),
        ("应该选择B。", "B"),
        ("Die Antwort ist B, nicht A.", "B"),
        (r"\boxed{A} no, \boxed{B}", "B"),
        (r"\boxed{\textbf{(B)}\ 5}", "B"),
        ("The correct answer is **C. Paris**", "C"),
        ("the answer is (d)", "D"),
        ("The answer is not A but B.", "B"),
        ("Both A and C are wrong, so B", "B"),
        ("C is correct. A is incorrect because x. B is incorrect.", "C"),
        ("A. foo\nB. bar\nC. baz\nHence C.", "C"),
        ("I think it is C", "C"),
        ("<think>A</think>C", "C"),
        ("<answer>C</answer>", "C"),
        ("Answer: J", "J"),
        ("c", "C"),
    ],
)
def test_the_letter_is_the_one_that_the_response_chooses(response: str, letter: str) -> None:
    assert judged("choice", response, letter).outcome is Outcome.CORRECT
    assert judged("choice", response, "K").outcome is Outcome.WRONG


@each("response", ["I have no idea", r"\boxed{42}", r"\boxed{A", "<think>A", ""])
def test_a_response_without_a_letter_is_unparsable(response: str) -> None:
    assert judged("choice", response, "A").outcome is Outcome.UNPARSABLE


@each("reference", ["D", "(D) Alina", "D. Alina", r"\boxed{D}", r"\text{(D)}", "d"])
def test_a_reference_of_choice_begins_with_its_letter(reference: str) -> None:
    assert judged("choice", "D", reference).outcome is Outcome.CORRECT


@each(
    ("check", "reference", "sentence"),
    [
        (check_number, "no number at all", "no number at all"),
        (check_exact, " ", "blank"),
        (check_choice, "Alina", "Alina"),
        (check_choice, "42", "names no choice"),
    ],
)
def test_a_reference_that_no_response_could_match_is_refused(check: type, reference: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(reference)


@each("reward", ["exact", "choice"])
def test_the_cases_of_public_verifiers_come_out_as_there(reward: str) -> None:
    file = DATA / "verifier_cases.jsonl"
    if not file.exists():
        pytest.skip(f"needs the cases of public verifiers, which are not at {file}")
    cases = [case for line in file.read_text().splitlines() if (case := json.loads(line))["reward"] == reward]
    assert cases
    for case in cases:
        correct = judged(reward, case["response"], case["reference"]).outcome is Outcome.CORRECT
        assert correct == (case["expected"] == "correct"), case


@each(("file", "field"), [("gsm8k/test.jsonl", "answer"), ("svamp/test.jsonl", "Answer")])
def test_every_number_of_a_data_set_is_correct_against_itself(file: str, field: str) -> None:
    path = DATA / file
    if not path.exists():
        pytest.skip(f"needs the data set, which is not at {path}")
    for line in path.read_text().splitlines():
        answer = str(json.loads(line)[field])
        check_number(answer)
        assert judged("number", answer, answer).outcome is Outcome.CORRECT, answer


@each(
    ("response", "outcome"),
    [
        ("A or C", Outcome.UNPARSABLE),
        ("C or A", Outcome.UNPARSABLE),
        (r"\boxed{C, A}", Outcome.UNPARSABLE),
        ("The answer is C and D.", Outcome.UNPARSABLE),
        ("A, B, C", Outcome.UNPARSABLE),
        ("The answer is C, as A and B are wrong.", Outcome.CORRECT),
        ("Between A and C, I choose C.", Outcome.CORRECT),
        ("答えはCです。", Outcome.CORRECT),
    ],
)
def test_several_letters_are_no_choice(response: str, outcome: Outcome) -> None:
    assert judged("choice", response, "C").outcome is outcome


@each(
    ("reference", "response", "right"),
    [
        ("-5", "The answer is −5.", True),
        ("5", "The answer is −5.", False),
        ("-5", "The answer is –5.", True),
        ("5", "The answer is –5.", False),
        ("-5", "The answer is ‐5.", True),
        ("5", "The answer is ‐5.", False),
        ("-5", "The answer is ‑5.", True),
        ("5", "The answer is ‑5.", False),
        ("-5", "The answer is ‒5.", True),
        ("5", "The answer is ‒5.", False),
        ("-5", "The answer is ﹣5.", True),
        ("5", "The answer is ﹣5.", False),
        ("-5", "The answer is －5.", True),
        ("5", "The answer is －5.", False),
        ("14", "### Step 2: Multiply\nSo she has 14.", True),
        ("2", "### Step 2: Multiply\nSo she has 14.", False),
        ("14", "#### Step 2: Multiply\nSo she has 14.", True),
        ("14", "#### 2. Multiply\nSo she has 14.", True),
        ("14", "# Solution 1\n14", True),
        ("72", "#### 72", True),
        ("72", "####72", True),
        ("72", "Reason\n#### $72", True),
        ("72", "## Answer\n72", True),
        ("3", "The answer is 3 1/2.", False),
        ("3.5", "The answer is 3 1/2.", True),
        ("7/2", "The answer is $3\\frac{1}{2}$.", True),
        ("1", "The answer is $\\frac{1}{2}$.", False),
        ("0.5", "The answer is $\\frac{1}{2}$.", True),
        ("5", "The answer is 5 or 6", False),
        ("6", "It is 5 or 6.", False),
        ("6", "The answer is 5 or 6", False),
        ("5", "\\boxed{5 \\text{ or } 6}", False),
        ("10", "The answer is 10:30", False),
        ("30", "The answer is 10:30", False),
        ("30", "at 10:30", False),
        ("14", "at 10:30 she had 14", True),
        ("1/3", "\\boxed{10:30}", False),
        ("2", "The answer is $\\sqrt{2}$", False),
        ("2", "The answer is $2^3$", False),
        ("3", "The answer is $2^3$", False),
        ("8", "The answer is $2^3$", True),
        ("5", "The answer is 5!", True),
        ("1000", "The answer is 1{,}000", True),
        ("2500", "The answer is $2.5\\times 10^3$", True),
        ("2.5", "The answer is $2.5\\times 10^3$", False),
        ("5", "The answer is 5 and 6", False),
        ("5", "Answer: 5-6", False),
        ("5", "between 5 and 6", False),
        ("1000000", "The answer is 1,000,000.", True),
        ("3", "### 3 apples\nTotal: 4", False),
        ("0.5", "The answer is ½", True),
        ("3.5", "The answer is 3½", True),
        ("18", "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", True),
        ("5", "the answer is 5, 6", False),
        ("3", "the answer is x_3", False),
        ("12", "answer: 12 apples", True),
        ("-7", "Answer: −7", True),
    ],
)
def test_a_number_is_read_whole_and_a_part_of_something_else_is_none(
    reference: str, response: str, right: bool
) -> None:
    assert (judged("number", response, reference).outcome is Outcome.CORRECT) is right


@each("token", ["</s>", "<|im_end|>", "<eos>", "<end_of_turn>", "<|eot_id|>", "<|im_end|>\n<|im_start|>user\nAnd B?"])
def test_tokens_of_chat_templates_are_no_part_of_an_answer(token: str) -> None:
    assert judged("exact", f"A{token}", "A").outcome is Outcome.CORRECT
    assert judged("choice", f"A{token}", "A").outcome is Outcome.CORRECT


@each("check", [check_number, check_exact, check_choice])
def test_a_missing_value_is_no_reference(check: type) -> None:
    for reference in ("NaN", "nan", "null", "None", "<NA>", "N/A"):
        with pytest.raises(ValueError, match="missing value"):
            check(reference)
