"""Stored groups: a former run's files come back as they were, a user's own dataset is tokenized, mistakes are named."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.arrow import SCHEMA, batch_of
from actors.data.stored import read_stored
from actors.errors import DataError
from actors.settings import DataSettings
from tests.builders import group
from tests.tokenizers import chatty


class Letters:
    """A tokenizer of single characters."""

    chat_template, eos_token_id = None, 0

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> dict[str, list]:
        if isinstance(text, list):
            return {"input_ids": [[ord(letter) for letter in one] for one in text]}
        return {"input_ids": [ord(letter) for letter in text]}


def write_run(folder: Path, *groups) -> DataSettings:
    """As the filter writes them: a file for each step, with a column more."""
    fields = SCHEMA.append(pa.field("rejected", pa.string(), False))
    for step, one in enumerate(groups, start=1):
        batch = batch_of(one)
        rows = pa.RecordBatch.from_arrays([*batch.columns, pa.array([""] * batch.num_rows)], schema=fields)
        (folder / f"step={step}").mkdir()
        pq.write_table(pa.Table.from_batches([rows]), folder / f"step={step}/groups.parquet")
    return DataSettings(stored=str(folder))


def write_table(folder: Path, **columns: list) -> DataSettings:
    pq.write_table(pa.table(columns), folder / "mine.parquet")
    return DataSettings(stored=str(folder / "mine.parquet"), template="Q: {prompt}")


def test_the_groups_of_a_run_come_back_with_their_numbers_but_without_its_versions(tmp_path: Path) -> None:
    first, second = group([1.0, -1.0], id=3), group([None, 1.0, 1.0], id=9)
    stored = read_stored(write_run(tmp_path, first, second), Letters(), seed=0)
    assert len(stored) == 2
    assert stored.recorded
    found = {one.prompt.id: one for one in (stored.deal(0), stored.deal(1))}
    for wanted in (first, second):
        one = found[wanted.prompt.id]
        assert one.verdicts == wanted.verdicts
        for a, b in zip(one.trajectories, wanted.trajectories, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
            np.testing.assert_array_equal(a.logprobs, b.logprobs)
            assert set(a.versions.tolist()) == {-1}


def test_every_group_is_dealt_once_before_any_comes_again_and_has_the_number_it_was_asked_for(tmp_path: Path) -> None:
    stored = read_stored(write_run(tmp_path, *(group([1.0], id=number) for number in range(5))), Letters(), seed=1)
    dealt = [stored.deal(number) for number in range(10)]
    assert sorted(one.prompt.id for one in dealt[:5]) == sorted(one.prompt.id for one in dealt[5:])
    assert len({one.prompt.id for one in dealt[:5]}) == 5
    again = read_stored(DataSettings(stored=str(tmp_path)), Letters(), seed=1)
    assert [again.deal(number).prompt.id for number in range(10)] == [one.prompt.id for one in dealt]


def test_stored_groups_go_on_where_another_reader_of_them_stopped(tmp_path: Path) -> None:
    data = write_run(tmp_path, *(group([1.0], id=number) for number in range(5)))
    first, following = (read_stored(data, Letters(), seed=1) for _ in range(2))
    dealt = [first.next().prompt.id for _ in range(7)]
    assert dealt == [first.deal(number).prompt.id for number in range(7)]
    following.restore(first.save())
    assert [following.next().prompt.id for _ in range(9)] == [first.next().prompt.id for _ in range(9)]


def test_files_of_older_runs_lack_questions_messages_and_spans_and_are_read_without(tmp_path: Path) -> None:
    data = write_run(tmp_path, group([1.0, -1.0], id=3))
    path = tmp_path / "step=1/groups.parquet"
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["question", "spans", "messages"]), path)
    one = read_stored(data, Letters(), seed=0).deal(0)
    assert (one.prompt.question, one.prompt.messages) == ("", ())
    assert [verdict.span_rewards for verdict in one.verdicts] == [(), ()]
    np.testing.assert_array_equal(one.trajectories[1].tokens, group([1.0, -1.0], id=3).trajectories[1].tokens)


def test_a_table_of_prompt_response_and_score_becomes_groups_by_prompt(tmp_path: Path) -> None:
    data = write_table(tmp_path, prompt=["a", "b", "a"], response=["x", "yy", "z"], score=[1.0, -1.0, 0.0])
    stored = read_stored(data, Letters(), seed=0)
    by_text = {one.prompt.text: one for one in (stored.deal(0), stored.deal(1))}
    assert [v.score for v in by_text["Q: a"].verdicts] == [1.0, 0.0]
    (only,) = by_text["Q: b"].trajectories
    assert only.tokens.tolist() == [ord(c) for c in "Q: byy"] + [0]
    assert only.sampled.tolist() == [False] * 4 + [True] * 3
    assert not only.recorded
    assert not stored.recorded
    assert stored.max_tokens == 7
    assert stored.largest_token == ord("z")
    assert [len(stored.with_siblings(count)) for count in (1, 2, 3)] == [2, 1, 0]


def test_a_control_token_is_put_in_front_unless_it_is_there(tmp_path: Path) -> None:
    stored = read_stored(write_run(tmp_path, group([1.0, -1.0])), Letters(), seed=0, before=[77])
    one = stored.deal(0)
    assert one.prompt.tokens.tolist() == [77, 1, 2, 3]
    assert one.trajectories[0].tokens[0] == 77
    assert not one.trajectories[0].sampled[0]
    assert read_stored(DataSettings(stored=str(tmp_path)), Letters(), seed=0, before=[1]).deal(0).prompt.tokens[0] == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["a"], "text": ["b"]}, r"has no column response, score \(columns there: prompt, text\)"),
        ({"prompt": ["a"], "response": [""], "score": [1.0]}, r"row 1 has no prompt, response or score"),
        ({"prompt": ["a"], "response": ["b"], "score": ["1.0"]}, r"row 1 has the score '1.0', and it must be a number"),
        ({"prompt": ["a"], "response": ["b"], "score": [math.nan]}, r"row 1 has the score nan, and it must be a"),
        ({"prompt": ["a"], "response": ["b"], "score": [[1.0]]}, r"row 1 has the score \[1.0\], and it must be a"),
        ({"prompt": ["a"], "response": [["b"]], "score": [1.0]}, r"row 1 has the response \['b'\]: give the text"),
        ({"prompt": ["a"], "response": [{"role": "user"}], "score": [1.0]}, r"row 1 has the response .*not messages"),
    ],
)
def test_what_is_wrong_with_a_dataset_is_named(columns: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_stored(write_table(tmp_path, **columns), Letters(), seed=0)


def test_a_dataset_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no stored dataset"):
        read_stored(DataSettings(stored=str(tmp_path / "none")), Letters(), seed=0)
    with pytest.raises(DataError, match=r"holds no \.parquet file"):
        read_stored(DataSettings(stored=str(tmp_path)), Letters(), seed=0)
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"half\.parquet \(data\.stored\) is not a whole Parquet file"):
        read_stored(DataSettings(stored=str(tmp_path)), Letters(), seed=0)


def test_the_unfinished_file_of_a_run_is_left_alone(tmp_path: Path) -> None:
    data = write_run(tmp_path, group([1.0, -1.0]))
    (tmp_path / "_groups.parquet.unfinished").write_bytes(b"half")
    assert len(read_stored(data, Letters(), seed=0)) == 1


def test_the_rows_of_other_files_have_their_own_system_messages(tmp_path: Path) -> None:
    columns = {"prompt": ["1", "1", "1"], "response": ["a", "b", "c"], "score": [1.0, 0.0, 1.0]}
    data = write_table(tmp_path, **columns, meta=[{"say": "x"}, {"say": "x"}, {"say": "y"}])
    chats = data.model_copy(update={"system_column": "meta.say", "template": "{prompt}"})
    stored = read_stored(chats, chatty(), seed=0)
    found = {group.prompt.text: len(group.trajectories) for group in (stored.deal(0), stored.deal(1))}
    behind = "<|im_end|>\n<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n"
    assert found == {f"<|im_start|>system\nx{behind}": 2, f"<|im_start|>system\ny{behind}": 1}
    write_table(tmp_path, **columns)
    with pytest.raises(DataError, match=r"has a system message in column 'meta\.say' \(data\.system_column\): give"):
        read_stored(chats, chatty(), seed=0)


def test_a_prompt_of_other_files_that_cannot_be_rendered_is_named_by_its_row(tmp_path: Path) -> None:
    asked = [[{"role": "critic", "content": "no"}, {"role": "user", "content": "1"}]]
    data = write_table(tmp_path, prompt=asked, response=["a"], score=[1.0])
    users = chatty("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}")
    with pytest.raises(DataError, match=r"mine\.parquet, row 1: the chat template leaves out the critic message"):
        read_stored(data, users, seed=0)
