from dataclasses import replace
from pathlib import Path

import pytest

from rewards import Budget, Case, ChatMessage, Outcome, RewardResult
from rewards.own import OwnSettings, check_own, own, own_group

CASE = Case(response="a", reference="b", prompt="c")


def settings(folder: Path, body: str) -> OwnSettings:
    file = folder / "mine.py"
    file.write_text(f"from rewards import *\ndef reward(response, reference, prompt):\n    {body}\n")
    return OwnSettings(file=str(file))


@pytest.mark.parametrize(
    ("body", "outcome", "reward"),
    [
        ("return True", Outcome.CORRECT, 1.0),
        ("return False", Outcome.WRONG, 0.0),
        ("return 0.25", Outcome.WRONG, 0.25),
        ("import numpy; return numpy.float32(0.75)", Outcome.CORRECT, 0.75),
        ("import numpy; return numpy.float64(0.25)", Outcome.WRONG, 0.25),
        ("import numpy; return numpy.bool_(True)", Outcome.CORRECT, 1.0),
        ("import numpy; return numpy.int64(0)", Outcome.WRONG, 0.0),
        ("import numpy; return numpy.array(1.0)", Outcome.CORRECT, 1.0),
        ("import fractions; return fractions.Fraction(3, 4)", Outcome.CORRECT, 0.75),
        ("import decimal; return decimal.Decimal('0.5')", Outcome.WRONG, 0.5),
        ("return (response, reference, prompt) == ('a', 'b', 'c')", Outcome.CORRECT, 1.0),
    ],
)
def test_a_truth_value_or_a_number_becomes_a_result(tmp_path: Path, body: str, outcome: Outcome, reward: float) -> None:
    said = own(CASE, settings(tmp_path, body))
    assert (said.outcome, said.reward) == (outcome, reward)


def test_a_result_is_taken_as_it_is(tmp_path: Path) -> None:
    said = own(CASE, settings(tmp_path, "return RewardResult(outcome=Outcome.UNPARSABLE, why='mumbled')"))
    assert said == RewardResult(outcome=Outcome.UNPARSABLE, why="mumbled")


@pytest.mark.parametrize(
    "body",
    [
        *(
            "return 7",
            "return -0.1",
            "return float('nan')",
            "return float('inf')",
            "return 'good'",
            "return None",
            "pass",
        ),
        *("return [1.0]", "return '1'", "return 1j", "return {'score': 1}", "return 10**400", "return 'x' * 10**6"),
        *("import decimal; return decimal.Decimal('nan')", "import numpy; return numpy.array([1.0, 0.0])"),
        *("import numpy; return numpy.float32('nan')", "return (1.0, 'why')"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, body: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"reward\(\) of .*mine\.py gave") as raised:
        own(CASE, settings(tmp_path, body))
    assert len(str(raised.value)) < 600


def test_a_file_that_cannot_serve_is_named_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for file, message in (
        ("", "file must be a Python file with a function reward or reward_group, got ''"),
        (str(tmp_path / "none.py"), "there is no file"),
        (str(tmp_path / "empty.py"), "defines no function reward"),
    ):
        with pytest.raises(ValueError, match=message):
            check_own(OwnSettings(file=file))


def test_a_file_may_compare_siblings_instead(tmp_path: Path) -> None:
    file = tmp_path / "group.py"
    file.write_text("def reward_group(responses, reference, prompt):\n    return [len(responses) == 1]\n")
    check_own(OwnSettings(file=str(file)))
    assert own(CASE, OwnSettings(file=str(file))).outcome is Outcome.CORRECT
    results = own_group([CASE], OwnSettings(file=str(file)), Budget())
    assert [result.reward for result in results] == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import json\nimport no_such_module\n",
            "line 2: ModuleNotFoundError: No module named 'no_such_module'. Mend it, or",
        ),
        ("def reward(:\n", "line 1: SyntaxError"),
        ("x = 1\ndef f():\n    return {}['a']\n\nf()\n", "line 3: KeyError: 'a'. Mend it$"),
        ("raise ValueError('expected [/verdict]')\n", r"line 1: ValueError: expected \[/verdict\]"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("reward = 1\n", "defines no function reward"),
        ("def reward(reference, prompt):\n    return 1\n", "which does not take response by name"),
        ("def reward(prompt, reference, response, /):\n    return 1\n", "which does not take response by name"),
        (
            "def reward(completion, answer):\n    return 1\n",
            r"no completion, answer to give it \(here completion is resp",
        ),
        (
            "def reward(prompt, response, gold):\n    return 1\n",
            r"reward\(prompt, response, gold\), and there is no gold",
        ),
        ("def reward_group(prompt, response, reference):\n    return []\n", "here response is responses"),
        (
            "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1\n"
            "reward = compute_score\n",
            r"define reward\(response, reference, prompt\), in any order: .* no data_source, solution_str, "
            r"ground_truth to give it \(here solution_str is response, ground_truth is reference\)",
        ),
        (
            "def reward_group(prompts, completions, answer):\n    return []\n",
            "here prompts is prompt, completions is responses",
        ),
        ("def reward_group(completions, solution, **more):\n    return []\n", "no completions, solution to give it"),
        (
            "async def reward(response, reference, prompt):\n    return 1\n",
            "async def reward, and nobody awaits it",
        ),
        ("async def reward_group(responses):\n    return []\n", "async def reward_group"),
    ],
)
def test_a_file_that_does_not_load_is_one_message_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        check_own(OwnSettings(file=str(file)))
    assert str(raised.value).startswith("file must")
    said = RewardResult(outcome=Outcome.ERROR, why=str(raised.value))
    assert own(CASE, OwnSettings(file=str(file))) == said
    assert own_group([CASE, CASE], OwnSettings(file=str(file)), Budget()) == [said, said]


GIVEN = "('a', 'b', 'c')"


@pytest.mark.parametrize(
    "text",
    [
        f"def reward(prompt, response, reference):\n    return (response, reference, prompt) == {GIVEN}\n",
        f"def reward(response, prompt, reference, strict=True):\n    return (response, reference, prompt) == {GIVEN}\n",
        f"def reward(*, reference, prompt, response):\n    return (response, reference, prompt) == {GIVEN}\n",
        "def reward(response, extra='', *, prompt):\n    return (response, extra, prompt) == ('a', '', 'c')\n",
        "def reward(reference, response):\n    return (response, reference) == ('a', 'b')\n",
        "def reward(prompt, **others):\n    return (prompt, others) == ('c', {'response': 'a', 'reference': 'b'})\n",
        f"def reward(said, gold, question):\n    return (said, gold, question) == {GIVEN}\n",
        f"def reward(completion, ground_truth, text):\n    return (completion, ground_truth, text) == {GIVEN}\n",
        f"reward = lambda *given: given == {GIVEN}\n",
        f"import functools\nreward = functools.partial(lambda right, *given: given == right, {GIVEN})\n",
    ],
)
def test_parameters_are_given_what_they_are_named_after(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    said = own(CASE, OwnSettings(file=str(tmp_path / "mine.py")))
    assert said.outcome is Outcome.CORRECT, said.why


SAID = (ChatMessage("system", "s"), ChatMessage("user", "q"))
TOLD = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]


@pytest.mark.parametrize(
    ("signature", "given"),
    [
        ("response, reference, prompt, messages", TOLD),
        ("response, messages", TOLD),
        ("said, gold, question, *, messages=None", TOLD),
        ("messages, response", TOLD),
        ("response, reference, messages", "c"),  # three parameters are given what they always were
        ("response, reference, prompt, more=None, messages=None, /", None),
    ],
)
def test_a_parameter_for_messages_is_given_them_where_it_is_beside_the_others(
    tmp_path: Path, signature: str, given: object
) -> None:
    (tmp_path / "mine.py").write_text(f"def reward({signature}):\n    return messages == {given!r}\n")
    said = own(replace(CASE, messages=SAID), OwnSettings(file=str(tmp_path / "mine.py")))
    assert said.outcome is Outcome.CORRECT, said.why


def test_the_messages_of_a_prompt_of_one_are_the_users_and_siblings_share_them(tmp_path: Path) -> None:
    text = "def reward_group(responses, messages):\n    return [messages == [{'role': 'user', 'content': 'c'}]] * 2\n"
    (tmp_path / "mine.py").write_text(text)
    results = own_group([CASE, CASE], OwnSettings(file=str(tmp_path / "mine.py")), Budget())
    assert [result.reward for result in results] == [1.0, 1.0]


def test_the_parameters_of_reward_group_may_stand_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def reward_group(prompt, responses):\n    return [r == 'a' and prompt == 'c' for r in responses]\n"
    )
    results = own_group([CASE, CASE], OwnSettings(file=str(tmp_path / "mine.py")), Budget())
    assert [result.reward for result in results] == [1.0, 1.0]


def test_a_file_that_has_no_reward_group_after_all_grades_siblings_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("reward_group = None\ndef reward(response):\n    return response == 'a'\n")
    results = own_group([CASE, CASE], OwnSettings(file=str(tmp_path / "mine.py")), Budget())
    assert [result.reward for result in results] == [1.0, 1.0]


def test_the_score_of_a_table_is_to_be_returned_alone(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"gave \{'score': 1\}: .* a RewardResult\. Return its score alone"):
        own(CASE, settings(tmp_path, "return {'score': 1}"))


def test_a_file_is_run_once_though_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "counting.py"
    file.write_text(
        f"with open({str(tmp_path / 'runs')!r}, 'a') as runs:\n    runs.write('x')\nimport no_such_module\n"
    )
    for _ in range(3):
        assert "no_such_module" in own(CASE, OwnSettings(file=str(file))).why
    assert (tmp_path / "runs").read_text() == "x"


def test_a_file_may_hold_classes_and_import_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("HALF = 0.5\n")
    file = tmp_path / "classes.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom beside_mine import HALF\n"
        "@dataclass\nclass Score:\n    value: float\n"
        "def reward(response, reference, prompt='', *rest, **more):\n    return Score(HALF).value\n"
    )
    assert own(CASE, OwnSettings(file=str(file))).reward == 0.5


def test_grades_of_siblings_may_be_an_array(tmp_path: Path) -> None:
    file = tmp_path / "array.py"
    file.write_text(
        "import numpy\ndef reward_group(responses, reference, prompt):\n    return numpy.array([1.0, 0.25])\n"
    )
    results = own_group([CASE, CASE], OwnSettings(file=str(file)), Budget())
    assert [result.reward for result in results] == [1.0, 0.25]


def test_a_file_that_is_named_from_the_folder_of_the_run_has_its_lines_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("relative.py").write_text("\nimport no_such_module\n")
    with pytest.raises(ValueError, match=r"relative\.py, line 2: ModuleNotFoundError"):
        check_own(OwnSettings(file="relative.py"))
