from rewards.answers.final import Final, Found, final, final_of_reference, spoken, tagged
from rewards.answers.formulas import first_formulas, last_formulas, looks_like_formula, plain_number
from tests.tables import each


@each(
    ("response", "rest"),
    [
        ("<think>5</think>6", "6"),
        ("no opening tag 5</think> 6", " 6"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("6", "6"),
        ("<think>5", None),
        ("<think>5</think>6<think>7", None),
    ],
)
def test_thinking_is_dropped_and_thinking_without_an_end_leaves_nothing(response: str, rest: str | None) -> None:
    assert spoken(response) == rest


@each(
    ("text", "inner"),
    [
        ("<answer>1</answer> <answer>2</answer> 3", "2"),
        ("4", "4"),
        ("<answer>4", None),
        ("<answer>1</answer><answer>2", None),
    ],
)
def test_the_last_pair_of_answer_tags_holds_the_answer(text: str, inner: str | None) -> None:
    assert tagged(text) == inner


@each(
    ("response", "texts"),
    [
        (r"\boxed{1} and \boxed{2}", ("1", "2")),
        (r"$\boxed{1}$, $\boxed{2}$, and $\boxed{3}$.", ("1", "2", "3")),
        (r"\[ \boxed{-2} \quad \text{and} \quad \boxed{1}. \]", ("-2", "1")),
        (r"\boxed{1} y \boxed{2}", ("1", "2")),
        (r"\boxed{1}. So \boxed{2}", ("2",)),
        (r"\boxed{1} = \boxed{2}", ("2",)),
        (r"\boxed{840}\boxed{840}", ("840", "840")),
        (r"\boxed{\frac{1}{2}} of it, not 3", (r"\frac{1}{2}",)),
        (r"\boxed{\left\{ 1, 2 \right.}", (r"\left\{ 1, 2 \right.",)),
        (r"\boxed{\boxed{5}}", ("5",)),
        (r"\boxed 7$", ("7",)),
        (r"\fbox{7}", ("7",)),
    ],
)
def test_the_last_boxes_with_nothing_but_separators_between_are_the_answer(
    response: str, texts: tuple[str, ...]
) -> None:
    answer = final(response)
    assert answer is not None
    assert (answer.found, answer.texts) == (Found.BOX, texts)


@each(
    "response",
    [
        r"\boxed{5",
        r"\boxed{}",
        r"\boxed{5} or \boxed{",
        r"\boxed{5} or \boxed{ }",
        "<answer>5",
        "<think>5",
        "",
        " \n",
        "####",
    ],
)
def test_an_answer_that_was_begun_and_not_ended_is_none(response: str) -> None:
    assert final(response) is None


@each(
    ("response", "texts"),
    [
        ("The answer is 5. I checked 7 times.", ("5",)),
        ("The final answer is $x = 5$. I hope it is correct.", ("x = 5",)),
        ("Answer: 41 was wrong.\nAnswer: 42", ("42",)),
        ("**Answer:** 12", ("12",)),
        ("The answer is:\n\n$$5$$\n\nas 3+2=5.", ("5",)),
        ("#### 1,080", ("1,080",)),
        ("La respuesta es 5.", ("5",)),
        ("Réponse: il reste 220 $ pour 12 mois.", ("220",)),
        ("la réponse est (35 + 70 = 105).", ("(35 + 70 = 105)",)),
        ("Die Antwort lautet 5, nicht 6", ("5",)),
        ("答案：每份应该是 (\\frac{2}{5}) 吨。", ("(\\frac{2}{5})",)),
        ("最终答案是：**5** 个", ("5",)),
        ("정답은 5입니다.", ("5",)),
        ("Ответ: 5", ("5",)),
        ("The answers are 3 and the answer is $3$, $5$, and $7$.", ("3", "5", "7")),
        ("The answer is Evelyn.", ("Evelyn",)),
    ],
)
def test_without_a_box_the_last_answer_phrase_counts(response: str, texts: tuple[str, ...]) -> None:
    answer = final(response)
    assert answer is not None
    assert (answer.found, answer.texts) == (Found.PHRASE, texts)


@each(
    ("response", "texts"),
    [
        ("Haley总共有99颗弹珠。", ("99",)),
        ("the number is not 10 which is 1,000.99€", ("1000.99",)),
        ("**73**", ("**73**",)),
        ("so it is **73**.", ("73",)),
        ("100 * 0,30 = 30 $. Le coût est donc de 100 - 30 = 70", ("100 - 30 = 70",)),
        ("how many $? just about 1$", ("1",)),
        ("$1$ and $2$, so $3$ and $4$", ("3", "4")),
        ("AZYUK2A", ("AZYUK2A",)),
        ("x = 2 and x = 3, I think", ("x = 2", "x = 3")),
    ],
)
def test_without_any_sign_the_last_formula_or_number_counts(response: str, texts: tuple[str, ...]) -> None:
    answer = final(response)
    assert answer is not None
    assert (answer.found, answer.texts) == (Found.TEXT, texts)


@each("response", ["I am not able to say how this could ever be done", "The answer is $\\frac{1}{", "Answer $\n9\n$"])
def test_prose_and_a_formula_that_broke_off_hold_no_answer(response: str) -> None:
    assert final(response) is None


def test_a_final_answer_behind_a_box_replaces_it_and_other_prose_does_not() -> None:
    replaced = final(r"\boxed{5}. No, the final answer is $6$.")
    kept = final(r"\boxed{5}. I hope the final answer is correct.")
    assert replaced == Final(found=Found.PHRASE, texts=("6",))
    assert kept == Final(found=Found.BOX, texts=("5",))


@each(
    ("reference", "texts"),
    [(r"\boxed{x = 1", ("x = 1",)), ("4, 10, -2", ("4, 10, -2",)), ("xy = 1", ("xy = 1",)), ("a\n#### 72", ("72",))],
)
def test_a_reference_is_read_as_meant(reference: str, texts: tuple[str, ...]) -> None:
    answer = final_of_reference(reference)
    assert answer is not None
    assert answer.texts == texts


@each(
    ("token", "plain"),
    [("1,000", "1000"), ("0,111", "0.111"), ("2,74", "2.74"), ("1 000", "1000"), ("1.000,99", "1000.99"), (".5", ".5")],
)
def test_numbers_of_running_text_get_a_decimal_point(token: str, plain: str) -> None:
    assert plain_number(token) == plain


@each(
    ("text", "formula"),
    [
        ("2*x + 2", True),
        ("10, 4, -2", True),
        (r"\text{yes}", True),
        ("64 square feet", True),
        ("just 42", False),
        ("3只鸟", False),
    ],
)
def test_a_formula_holds_no_word_of_prose(text: str, formula: bool) -> None:
    assert looks_like_formula(text) is formula


def test_a_price_is_no_formula_between_dollar_signs() -> None:
    assert last_formulas("It costs $5, no, $6") == ("$6",)
    assert first_formulas("it costs $5 and not $6") == ("$5",)


@each("text", ["It is 24, not 25", "not 25 but 24", "It isn't $25$: it is $24$", "24 cm^2 rather than 25"])
def test_a_number_that_the_text_rules_out_is_passed_over(text: str) -> None:
    assert last_formulas(text) == ("24",)


def test_an_answer_in_json_is_read() -> None:
    said = final('{"reasoning": "5 + 3", "final_answer": "8"}')
    assert said is not None
    assert said.texts == ("8",)
