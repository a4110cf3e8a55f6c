"""`winnow eval --reward-model`: figures by hand, and the command on a model of known scores."""

import json
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.evaluating.reward_model import best_of_values, rank_values
from tests.rewards.models.test_models import set_by_hand, write
from tests.tokenizers import NO_SYSTEM


def test_the_figures_of_rewardmath_by_hand() -> None:
    assert rank_values([0.8], [0.9, 0.2, 0.1]) == (0.0, 0.5, pytest.approx(2 / 3))
    assert rank_values([0.8], [0.8, 0.2]) == (0.0, 0.5, 0.5)  # of equal scores the rejected one comes first
    assert rank_values([0.9, 0.3], [0.5]) == (0.0, 1.0, 0.5)  # the lowest chosen one must be above all
    assert rank_values([0.9], [0.5, 0.1]) == (1.0, 1.0, 1.0)


def test_best_of_k_takes_the_highest_and_of_equal_ones_a_wrong_one() -> None:
    assert best_of_values([True, False], [2.0, 1.0]) == [0.5, 1.0]
    assert best_of_values([True, False], [1.0, 1.0]) == [0.5, 0.0]
    assert best_of_values([False, True, False], [3.0, 2.0, 1.0]) == pytest.approx([1 / 3, 1 / 3, 0.0])


def test_the_command_ranks_chosen_and_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary, network = write(tmp_path / "model", "whole")
    set_by_hand(tmp_path / "model", vocabulary, network, {"a": [2.0], "b": [1.0], "c": [-1.0]})
    rows = [
        {"prompt": "Q", "chosen": "ca", "rejected": ["b", "c"]},
        {"prompt": "Q", "chosen": "b", "rejected": ["a", "c", ""][:2]},
    ]
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", "--reward-model", str(tmp_path / "model"), str(file), "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert {name: figure["value"] for name, figure in figures.items()} == {
        "accuracy": 0.5,
        "mean reciprocal rank": 0.75,
        "pairs": 0.75,
    }
    assert "mean reciprocal rank" in capsys.readouterr().out


def test_the_command_reads_the_messages_of_rows_and_says_what_the_chat_template_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary, network = write(tmp_path / "model", "whole")
    set_by_hand(tmp_path / "model", vocabulary, network, {"a": [2.0], "b": [-1.0]})
    # The response is what is scored, but where the first message is no system message.
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if messages[0].role != 'system' %}b{% endif %}"
    (tmp_path / "model/chat_template.jinja").write_text(template)
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    file.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n')
    command = ["eval", "--reward-model", str(tmp_path / "model"), str(file), "--out", str(out)]
    found = []
    for settings in ([], ["data.system=S"]):
        assert main([*command, *settings]) == 0
        found.append(json.loads(out.read_text())["figures"]["accuracy"]["value"])
    assert found == [0.0, 1.0]
    write(tmp_path / "other", "whole")
    (tmp_path / "other/chat_template.jinja").write_text(NO_SYSTEM)
    assert main(["eval", "--reward-model", str(tmp_path / "other"), str(file), "data.system=S"]) == 2
    problem = (
        "--reward-model: a row has messages that the reward model's chat template refuses (system, user, assistant)"
    )
    assert problem in capsys.readouterr().err


def test_a_folder_without_a_reward_model_and_rows_of_steps_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "Q", "steps": ["a"], "labels": [1]}\n')
    assert main(["eval", "--reward-model", str(tmp_path / "none"), str(file)]) == 2
    assert "there is no model folder" in capsys.readouterr().err
    write(tmp_path / "model", "tokens")
    assert main(["eval", "--reward-model", str(tmp_path / "model"), str(file)]) == 2
    assert "labelled steps" in capsys.readouterr().err
