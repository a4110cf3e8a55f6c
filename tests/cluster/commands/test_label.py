import json
from pathlib import Path
from typing import Any

import pytest

from actors.data.files import FileRow
from actors.data.rendering import Renderer
from cluster.cli import main
from cluster.commands.label import _steps
from cluster.config.reading import grading_config
from cluster.preparing.models import load_tokenizer
from learner.models.tiny import write_tiny_model
from tests.tables import each

GOOD = {"prompt": "1+1=", "steps": ["1", "2"], "reference": "2"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet="0123456789+=", seed=0)
    return folder


def labelled(folder: Path, model: Path, rows: list[dict[str, Any]], *settings: str) -> int:
    (folder / "steps.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = ["--out", str(folder / "labels.jsonl")]
    return main(["label", str(folder / "steps.jsonl"), f"model.path={model}", *settings, *out])


@each(
    ("row", "said"),
    [
        ({"steps": None}, "has no 'steps' (columns there: prompt, steps, reference)"),
        ({"steps": "1"}, "has '1' in column 'steps', expected a list of texts"),
        ({"steps": []}, "has '[]' in column 'steps', expected a list of texts"),
        ({"steps": ["1", 2]}, "in column 'steps', expected a list of texts"),
        ({"steps": ["\ud800"]}, "half of a character"),
        ({"steps": ["1" * 2048]}, "has 4 + 2048 tokens, and the model holds 1 to 2047"),
        ({"prompt": "\u65e5"}, "has 0 + 2 tokens, and the model holds 1 to 2047"),
        ({"prompt": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}, "cannot be rendered: "),
        ({"reference": ""}, "has no text in column 'reference'"),
        ({"reference": None}, "and the reward 'number' compares with one: add the column"),
        ({"reward": "nmber"}, "asks for the reward 'nmber'; there are"),
    ],
)
def test_a_row_that_cannot_be_labelled_is_named_before_anything_starts(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], said: str
) -> None:
    assert labelled(tmp_path, model, [GOOD | row]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"winnow: no row of {tmp_path}/steps.jsonl can be labelled: {tmp_path}/steps.jsonl:1 ")
    assert said in err
    assert not (tmp_path / "labels.jsonl").exists()


def test_rewards_of_completions_are_given_the_messages_of_the_row(tmp_path: Path, model: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    settings = [f"model.path={model}", f"data.chat_template={tmp_path}/chat.jinja", "data.system=2+"]
    config, tokenizer = grading_config(settings), load_tokenizer(model)
    row = FileRow(place="a:1", cells=GOOD)
    found = _steps(row, config, Renderer(config.data, tokenizer), tokenizer)
    assert found.question.case.messages == (("system", "2+"), ("user", "1+1="))


def test_what_cannot_be_used_is_one_message_before_anything_starts(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labelled(tmp_path, model, [GOOD | {"reference": None}], "reward.name=own") == 2  # which needs no reference
    assert labelled(tmp_path, tmp_path / "none", [GOOD]) == 2
    assert labelled(tmp_path, model, [GOOD], f"data.chat_template={tmp_path}/none.jinja") == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("winnow: reward.own.file must be a Python file")
    assert second.startswith("winnow: there is no model folder")
    assert "is no file with a chat template" in third
    out = tmp_path / "steps.jsonl"
    assert main(["label", str(out), f"model.path={model}", "--out", str(out)]) == 2
    assert "is the file that is read" in capsys.readouterr().err
    assert json.loads(out.read_text()) == GOOD
