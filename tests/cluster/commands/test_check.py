import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.commands.check import check_data
from cluster.config.errors import ConfigError
from cluster.config.reading import grading_config
from cluster.preparing.graders import Graders
from learner.models.tiny import write_tiny_model
from tests.rewards.models.test_models import write
from tests.tables import each
from tests.tokenizers import NO_SYSTEM

Row = dict[str, Any]
ASKED: list[Row] = [{"prompt": "1+1=", "answer": "2"}, {"prompt": "2+2=", "answer": "4"}]


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    with Graders(1) as made:
        yield made


def checked(folder: Path, graders: Graders, rows: list[Row | str], *settings: str) -> tuple[int, str]:
    file = folder / "data.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    said: list[str] = []
    bad = check_data(grading_config(settings, str(file)), said.append, graders)
    return bad, "\n".join(said).replace(f"{folder}/", "")


def test_good_data_says_how_much_there_is(tmp_path: Path, graders: Graders) -> None:
    bad, said = checked(tmp_path, graders, [{"prompt": "1+1", "answer": "2"}, {"prompt": "2+2", "answer": 4}])
    assert bad == 0
    assert said == (
        "data.jsonl: 2 rows\nreferences that responses can be graded against: 2 of 2\n"
        "  data.jsonl:1: number expects '2' for '1+1'\n  data.jsonl:2: number expects '4' for '2+2'\n"
        "references graded as responses: 2 correct"
    )


def test_every_bad_row_is_named_by_its_line(tmp_path: Path, graders: Graders) -> None:
    rows = [{"prompt": "a", "answer": "two"}, "", {"prompt": "b"}, {"prompt": "c", "answer": "3"}]
    bad, said = checked(tmp_path, graders, rows)
    assert bad == 2
    assert "data.jsonl:3 has no text in column 'answer' (columns there: prompt)" in said
    assert "data.jsonl:1 cannot be graded against: the reference 'two' holds no number" in said
    assert "references that responses can be graded against: 1 of 2" in said


def test_rows_may_name_their_reward_and_an_unknown_one_is_named(tmp_path: Path, graders: Graders) -> None:
    rows = [
        {"prompt": "a", "answer": "(B)", "kind": "choice"},
        {"prompt": "b", "answer": "7", "kind": "nmber"},
        {"prompt": "c", "answer": "no letters", "kind": "choice"},
    ]
    bad, said = checked(tmp_path, graders, rows, "data.reward_column=kind")
    assert bad == 2
    assert "data.jsonl:2 asks for the reward 'nmber'; there are exact, choice" in said
    assert "data.jsonl:3 cannot be graded against: " in said


def test_messages_that_a_reward_model_refuses_are_bad_rows(tmp_path: Path, graders: Graders) -> None:
    write(tmp_path / "scorer", "whole")
    (tmp_path / "scorer/chat_template.jinja").write_text(NO_SYSTEM)
    turns = [{"role": role, "content": "q"} for role in ("system", "user", "assistant", "user")]
    rows: list[Row | str] = [{"prompt": turns}, {"prompt": turns[1:]}, {"prompt": "q", "s": "x"}]
    settings = ("reward.name=model", f"reward.model.path={tmp_path}/scorer", "data.answer_column=")
    bad, said = checked(tmp_path, graders, rows, *settings, "data.system_column=s")
    assert bad == 2
    refused = "has messages that the reward model's chat template refuses"
    assert f"data.jsonl:1 {refused} (system, user, assistant, user, assistant): System role not supported" in said
    assert f"data.jsonl:3 {refused} (system, user, assistant): " in said
    assert "references that responses can be graded against: 1 of 1" in said


def test_several_columns_become_one_reference(tmp_path: Path, graders: Graders) -> None:
    rows = [
        {"text": "add", "test_list": ["assert add(1, 2) == 3"], "test_setup_code": "import math"},
        {"text": "add", "test_list": ["assert add(1, 2"], "test_setup_code": ""},  # all but the first may be empty
    ]
    settings = ("data.prompt_column=text", 'data.answer_column=["test_list","test_setup_code"]', "reward.name=code")
    bad, said = checked(tmp_path, graders, rows, *settings)
    assert bad == 1
    assert "data.jsonl:2 cannot be graded against: " in said


def test_columns_that_no_row_has_are_a_mistake_of_the_settings(tmp_path: Path, graders: Graders) -> None:
    with pytest.raises(
        ConfigError, match=r"no row of .*data\.jsonl can be used: .*data\.jsonl:1 has no text .*Set data\.prompt_column"
    ):
        checked(tmp_path, graders, [{"question": "a", "answer": "1"}] * 3)


def test_a_line_that_is_no_json_is_one_of_the_bad_rows(tmp_path: Path, graders: Graders) -> None:
    bad, said = checked(tmp_path, graders, [{"prompt": "a", "answer": "1"}, "{", {"prompt": "b", "answer": "2"}])
    assert bad == 1
    assert "data.jsonl: 2 rows" in said
    assert "data.jsonl:2 is not JSON" in said


@each(
    ("answer", "settings", "said"),
    [
        (
            {"ground_truth": "3", "style": "v2"},
            (),
            'one of them in data.answer_column behind a dot, such as "answer.ground',
        ),
        (
            '{"ground_truth": 3}',
            ("reward.name=math",),
            "has an answer that math cannot compare with: it has the parts ground_truth",
        ),
        ([3, 4], ("reward.name=exact",), "compare with: it is a list that holds more than texts: give a list of texts"),
        (
            {"ground_truth": "3"},
            ("reward.name=sum", "reward.sum.weights={math = 0.9, format = 0.1}"),
            "has an answer that sum cannot compare with",
        ),
        ("None", ("reward.name=math",), "cannot be graded against: "),
        ({"test_list": ["x = 1"]}, ("reward.name=code",), "cannot be graded against: "),
        ({"test_list": ["assert True"]}, ("reward.name=code",), "call nothing that a response could define"),
    ],
)
def test_a_reference_that_teaches_nothing_is_a_bad_row(
    tmp_path: Path, graders: Graders, answer: object, settings: tuple[str, ...], said: str
) -> None:
    bad, text = checked(tmp_path, graders, [{"prompt": "a", "answer": answer}], *settings)
    assert bad == 1
    assert said in text


def test_of_a_list_of_answers_any_is_right(tmp_path: Path, graders: Graders) -> None:
    rows = [{"prompt": "Which city?", "answer": {"target": ["Paris", "City of Paris"]}}]
    bad, said = checked(tmp_path, graders, rows, "reward.name=exact", "data.answer_column=answer.target")
    assert bad == 0
    assert "exact expects any of 2 answers, the first 'Paris', for 'Which city?'" in said
    assert "references graded as responses: 1 correct" in said


def test_an_own_reward_that_likes_empty_responses_is_mentioned(tmp_path: Path, graders: Graders) -> None:
    (tmp_path / "mine.py").write_text("def reward(response, reference, prompt):\n    return len(response) < 5\n")
    settings = (f"reward.own.file={tmp_path}/mine.py", "reward.name=own")
    bad, said = checked(tmp_path, graders, [{"prompt": "a", "answer": "1"}], *settings)
    assert bad == 0
    assert "own finds an empty response right for 1 of 1 references" in said


@each(
    ("name", "text", "said"),
    [
        ("minus", "def reward(response, reference, prompt):\n    return -1\n", "gave -1: expected a number from 0"),
        ("verl", "def reward(response):\n    return {'score': 1.0}\n", "Return its score alone"),
        (
            "line",
            "def reward(response):\n    return unknown\n",
            "NameError: name 'unknown' is not defined (line.py, line 2)",
        ),
        (
            "group",
            "def reward_group(responses):\n    return [2.0] * len(responses)\n",
            "reward_group() of group.py gave 2.0",
        ),
    ],
)
def test_an_own_reward_that_gives_no_verdict_at_all_is_refused(
    tmp_path: Path, graders: Graders, name: str, text: str, said: str
) -> None:
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        checked(tmp_path, graders, ASKED, "reward.name=own", f"reward.own.file={file}")
    told = str(refused.value).replace(f"{tmp_path}/", "")
    assert told.startswith("reward.own.file must give verdicts, and gave none on any of ")
    assert said in told
    assert "\n" not in told
    assert told.endswith(". Without model.path, prompts have no chat template around them")


@each(
    ("name", "text", "said"),
    [
        (
            "words",
            "def reward(response):\n    return response.split()[-1] == ''\n",
            "IndexError: list index out of range",
        ),
        ("minus", "def reward(response):\n    return 1 if 'boxed' in response else -1\n", "gave -1: expected a number"),
        (
            "group",
            "def reward_group(responses):\n    return [bool(r.split()[0]) for r in responses]\n",
            "on 6 of 10 resp",
        ),
    ],
)
def test_an_own_reward_that_fails_on_some_responses_is_a_warning(
    tmp_path: Path, graders: Graders, name: str, text: str, said: str
) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    settings = ["reward.name=sum", "reward.sum.weights={number=1,own=1}", f"reward.own.file={tmp_path}/{name}.py"]
    bad, told = checked(tmp_path, graders, ASKED, *settings)
    assert bad == 0
    assert "warning: reward.own.file gave no verdict on " in told
    assert said in told


def test_repeated_prompts_are_counted_and_those_with_another_answer_named(tmp_path: Path, graders: Graders) -> None:
    rows: list[Row | str] = [{"prompt": p, "answer": a} for p, a in (("a", "1"), ("b", "2"), ("a", "1"), ("b", "3"))]
    bad, said = checked(tmp_path, graders, rows)
    assert bad == 0
    assert "prompts that came before: 2 of 4" in said
    assert "so that one of two is wrong: 1, first data.jsonl:2 and data.jsonl:4" in said


def run_file(folder: Path, **files: list[Row]) -> Path:
    """A run file on a tiny model and these files; where one is left out, it is not there."""
    write_tiny_model(folder / "model", alphabet="0123456789+=,", seed=0)
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "run.toml").write_text(
        f'model.path = "{folder}/model"\ndata.path = "{folder}/prompts.jsonl"\n'
        f'eval = {{ every = 1, path = "{folder}/heldout.jsonl" }}\n'
        f'warmup = {{ updates = 1, path = "{folder}/worked.jsonl" }}\nrollout.max_new_tokens = 16\n'
    )
    return folder / "run.toml"


def test_prompts_without_answers_are_for_rewards_that_compare_with_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Say something kind."}\n')
    assert main(["check", str(file), 'data.answer_column=""', "reward.name=format"]) == 0
    said = capsys.readouterr().out
    assert "references that responses can be graded against: 1 of 1" in said
    assert "format expects no given answer for 'Say something kind.'" in said
    assert main(["check", str(file), 'data.answer_column=""', "reward.name=number"]) == 2
    refused = """prompts.jsonl:1 has no reference (answer_column = ""), and the reward 'number' compares with"""
    assert refused in capsys.readouterr().out


def test_control_tokens_are_no_letters_that_the_tokenizer_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run_file(tmp_path, prompts=ASKED, heldout=ASKED, worked=[{"prompt": "1+1=", "response": "1+1+0=2"}])
    template = "{% for m in messages %}<q0>{{ m.content }}{% endfor %}<q1>"
    (tmp_path / "template.jinja").write_text(template)
    assert main(["check", str(file), f"data.chat_template={tmp_path}/template.jinja", "data.chat=true"]) == 0
    said = capsys.readouterr().out
    assert "<q0>1+1=<q1>" in said
    assert "does not know" not in said


def test_a_run_file_is_checked_with_its_held_out_prompts_and_worked_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worked = [{"prompt": "1+1=", "response": "1+1+0=2#2"}]
    file = run_file(tmp_path, prompts=ASKED, heldout=ASKED[1:], worked=worked)
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().out
    assert "held-out prompts that are trained on, too: 1 of 1" in said
    assert (
        "characters of worked answers that the tokenizer does not know, and no response can hold: '#' (in 1 of 1)"
        in said
    )
    (tmp_path / "worked.jsonl").write_text('{"prompt": "1+1="}\n{"prompt": "1+1=", "response": "2"}')
    assert main(["check", str(file)]) == 2
    assert "worked.jsonl:1 has no text in column 'response'" in capsys.readouterr().out
    (tmp_path / "heldout.jsonl").unlink()
    assert main(["check", str(file)]) == 2
    assert "there is no data file" in capsys.readouterr().err


def test_prompts_that_a_run_refuses_are_bad_rows_and_those_that_hold_an_answer_are_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "1+1=", "answer": "2"}, {"prompt": "\u65e5\u672c", "answer": "2"}]
    rows += [{"prompt": "1" * 2040, "answer": "2"}]
    file = run_file(tmp_path, prompts=rows)
    settings = ["eval.every=0", "warmup.updates=0", "eval.path=", "warmup.path="]
    assert main(["check", str(file), *settings]) == 2
    said = capsys.readouterr().out
    assert "prompts.jsonl:2 is no token of the tokenizer, which knows no character of" in said
    assert "prompts.jsonl:3 has 2040 tokens and leaves no room for a response: more such rows than" in said
    chat = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": chat, "answer": "2"}))
    (tmp_path / "chat.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert main(["check", str(file), *settings, f"data.chat_template={tmp_path}/chat.jinja"]) == 0
    assert "continues (does it hold the answer?): 1, first" in capsys.readouterr().out


def test_files_that_a_run_does_not_use_yet_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run_file(tmp_path, prompts=[{"prompt": "1+1=", "answer": "2"}], worked=[{"prompt": "1", "response": "2"}])
    assert main(["check", str(file), "eval.every=0"]) == 2
    assert "there is no data file" in capsys.readouterr().err
    assert main(["check", str(file), "eval.every=0", "eval.path=", "warmup.updates=0", "warmup.path=none.jsonl"]) == 2
    assert "there is no data file none.jsonl" in capsys.readouterr().err


def test_the_command_ends_with_the_status_of_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "a", "answer": "two"}')
    assert main(["check", str(file)]) == 2
    assert f"{file}:1 cannot be graded against: the reference 'two' holds no number" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "none.jsonl")]) == 2
    assert "there is no data file" in capsys.readouterr().err


def test_with_an_environment_references_are_its_own_to_read(tmp_path: Path, graders: Graders) -> None:
    rows: list[Row | str] = [{"prompt": "1+1"}, {"prompt": "a", "answer": "two, and how to get there"}]
    (tmp_path / "play.py").write_text("async def play(task, talk):\n    return 1.0\n")
    environment = f"rollout.environment={tmp_path / 'play.py'}"
    bad, said = checked(tmp_path, graders, rows, environment, 'data.answer_column="prompt"')
    assert bad == 0
    assert "references are the environment's to read: none is tried on a reward" in said
