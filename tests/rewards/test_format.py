import pytest

from rewards.format import FormatSettings, boxed, format_reward, length_reward
from rewards.verdict import Case, Outcome, RewardResult


def judged(response: str, prompt: str = "", partial: float = 0.0) -> RewardResult:
    return format_reward(Case(response=response, reference="", prompt=prompt), FormatSettings(partial=partial))


@pytest.mark.parametrize(
    "response",
    [
        "<think>two and two</think><answer>4</answer>",
        " <think>\ntwo\n</think>\n\n<answer>\n4\n</answer>\n",
        "<think></think><answer>4</answer>",
        r"so it is \boxed{4}",
        r"<think>two</think> so it is \boxed{4}.",
        r"\boxed{\left\{1, 2\right\}}",
        r"\boxed {\frac{1}{2}}",
        r"first \boxed{} and then \boxed{4}",
        "<think>two</think><answer>4</answer><|im_end|>",
        "\ufeff<think>two</think><answer>4</answer>\n</s><|endoftext|>\n",
    ],
)
def test_a_response_in_either_form_is_correct(response: str) -> None:
    result = judged(response)
    assert (result.outcome, result.reward) == (Outcome.CORRECT, 1.0)


@pytest.mark.parametrize(
    "response",
    [
        "<think>two</think>",  # no answer
        "<answer>4</answer>",  # no thinking
        "<answer>4</answer><think>two</think>",  # in the wrong order
        "<think>two</think> so <answer>4</answer>",  # text between
        "Well: <think>two</think><answer>4</answer>",  # text before
        "<think>two</think><answer>4</answer> done",  # text behind
        "<think>two</think><answer> </answer>",  # an empty answer
        "<think>two</think><answer>4</answer><answer>5</answer>",  # repeated
        "<think>a<think>b</think></think><answer>4</answer>",  # nested
        "<think>two<answer>4</answer></think>",  # nested
        "<think>two</think><ANSWER>4</ANSWER>",  # in capitals
        r"<think>two</think> \boxed{4",  # a box that is not closed
        r"<think>it is \boxed{4}</think> so be it",  # a box within the thinking
        r"<answer>4</answer> \boxed{4}",  # an answer in a tag without thinking
        r"</think> \boxed{4}",  # thinking that was never begun
    ],
)
def test_half_of_a_form_is_wrong_and_gets_the_partial_credit(response: str) -> None:
    result = judged(response, partial=0.3)
    assert (result.outcome, result.reward) == (Outcome.WRONG, 0.3)
    assert judged(response).reward == 0.0


@pytest.mark.parametrize(
    "response",
    ["", "it is 4", r"it is \boxed{", r"it is \boxed{ }", "<THINK>", "<think>it is", r"<think>is it \boxed{4}? or"],
)
def test_a_response_without_any_piece_of_a_form_is_unparsable(response: str) -> None:
    result = judged(response, partial=0.3)
    assert (result.outcome, result.reward) == (Outcome.UNPARSABLE, 0.0)


@pytest.mark.parametrize(
    "response", ["two</think><answer>4</answer>", r"two</think>\boxed{4}", "<think>two</think><answer>4</answer>"]
)
def test_thinking_that_the_prompt_has_begun_need_not_begin_again(response: str) -> None:
    assert judged(response, prompt="2+2?<think>\n").outcome is Outcome.CORRECT


def test_thinking_that_the_prompt_has_begun_must_end() -> None:
    assert judged(r"it is \boxed{4}", prompt="2+2?<think>\n").outcome is Outcome.UNPARSABLE


@pytest.mark.parametrize(
    ("response", "parts"),
    [
        (r"<think>two</think><answer>\boxed{4}</answer>", {"think": 1.0, "answer": 1.0, "boxed": 1.0}),
        ("<think>two</think> so 4", {"think": 1.0, "answer": 0.0, "boxed": 0.0}),
        ("two</think><answer>4</answer>", {"think": 0.0, "answer": 1.0, "boxed": 0.0}),
        ("4", {"think": 0.0, "answer": 0.0, "boxed": 0.0}),
    ],
)
def test_the_parts_say_what_was_found(response: str, parts: dict[str, float]) -> None:
    assert judged(response).parts == parts


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        (r"\boxed{a\}b}", True),
        (r"\boxed{a\\}", True),
        (r"\boxed{a\}", False),
        (r"\boxed{{a}", False),
        ("boxed{a}", False),
    ],
)
def test_a_box_is_closed_by_its_own_brace_only(text: str, closed: bool) -> None:
    assert boxed(text) is closed


@pytest.mark.parametrize(
    ("tokens", "value", "outcome"),
    [
        (0, 1.0, Outcome.CORRECT),
        (75, 1.0, Outcome.CORRECT),
        (80, 0.8, Outcome.CORRECT),
        (90, 0.4, Outcome.WRONG),
        (100, 0.0, Outcome.WRONG),
        (120, 0.0, Outcome.WRONG),
    ],
)
def test_length_falls_over_the_last_quarter_of_the_longest_response(
    tokens: int, value: float, outcome: Outcome
) -> None:
    result = length_reward(Case(response="", reference="", tokens=tokens, max_new_tokens=100))
    assert (result.reward, result.outcome) == (pytest.approx(value), outcome)
    assert result.parts == {"overlong": pytest.approx(value - 1)}


def test_length_needs_somebody_who_counted() -> None:
    with pytest.raises(ValueError, match="got 0 of 0"):
        length_reward(Case(response="so", reference=""))
