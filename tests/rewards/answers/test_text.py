<end_of_turn>
<start_of_turn>user
And 9?

@each(
    ("reference", "response", "right"),
    [
        ('-5', 'The answer is −5.', True),
        ('5', 'The answer is −5.', False),
        ('-5', 'The answer is –5.', True),
        ('5', 'The answer is –5.', False),
        ('-5', 'The answer is ‐5.', True),
        ('5', 'The answer is ‐5.', False),
        ('-5', 'The answer is ‑5.', True),
        ('5', 'The answer is ‑5.', False),
        ('-5', 'The answer is ‒5.', True),
        ('5', 'The answer is ‒5.', False),
        ('-5', 'The answer is ﹣5.', True),
        ('5', 'The answer is ﹣5.', False),
        ('-5', 'The answer is －5.', True),
        ('5', 'The answer is －5.', False),
        ('120', 'so it is 120.[/INST]', True),
        ('14', '### Step 2: Multiply\nSo she has 14.', True),
        ('2', '### Step 2: Multiply\nSo she has 14.', False),
        ('14', '#### Step 2: Multiply\nSo she has 14.', True),
        ('14', '#### 2. Multiply\nSo she has 14.', True),
        ('14', '# Solution 1\n14', True),
        ('72', '#### 72', True),
        ('72', '####72', True),
        ('72', 'Reason\n#### $72', True),
        ('72', '## Answer\n72', True),
        ('3', 'The answer is 3 1/2.', False),
        ('3.5', 'The answer is 3 1/2.', True),
        ('7/2', 'The answer is $3\\frac{1}{2}$.', True),
        ('1', 'The answer is $\\frac{1}{2}$.', False),
        ('0.5', 'The answer is $\\frac{1}{2}$.', True),
        ('5', 'The answer is 5 or 6', False),
        ('6', 'It is 5 or 6.', False),
        ('6', 'The answer is 5 or 6', False),
        ('5', '\\boxed{5 \\text{ or } 6}', False),
        ('10', 'The answer is 10:30', False),
        ('30', 'The answer is 10:30', False),
        ('30', 'at 10:30', False),
        ('14', 'at 10:30 she had 14', True),
        ('1/3', '\\boxed{10:30}', False),
        ('2', 'The answer is $\\sqrt{2}$', False),
        ('2', 'The answer is $2^3$', False),
        ('3', 'The answer is $2^3$', False),
        ('8', 'The answer is $2^3$', True),
        ('5', 'The answer is 5!', True),
        ('1000', 'The answer is 1{,}000', True),
        ('2500', 'The answer is $2.5\\times 10^3$', True),
        ('2.5', 'The answer is $2.5\\times 10^3$', False),
        ('5', 'The answer is 5 and 6', False),
        ('5', 'Answer: 5-6', False),
        ('5', 'between 5 and 6', False),
        ('1000000', 'The answer is 1,000,000.', True),
        ('3', '### 3 apples\nTotal: 4', False),
        ('0.5', 'The answer is ½', True),
        ('3.5', 'The answer is 3½', True),
        ('5', 'the answer is 5, 6', False),
        ('3', 'the answer is x_3', False),
        ('12', 'answer: 12 apples', True),
        ('-7', 'Answer: −7', True),
    ],
)
def test_a_number_is_read_whole_and_a_part_of_something_else_is_none(reference: str, response: str, right: bool) -> None:
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
