import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.data.chooser import Chooser
from actors.data.prompts import load_prompts, render
from actors.data.reading import read_rows
from actors.data.source import PromptSource
from actors.errors import DataError
from actors.settings import DataSettings
from actors.types import PromptVisit, Summary
from tests.builders import prompt, summary


class Letters:
    """A tokenizer of single characters."""

    chat_template = None

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> dict[str, list]:
        if isinstance(text, list):
            return {"input_ids": [[ord(letter) for letter in one] for one in text]}
        return {"input_ids": [ord(letter) for letter in text]}


class Chatty(Letters):
    chat_template = "some"

    def apply_chat_template(self, messages: list[dict], tokenize: bool, add_generation_prompt: bool) -> str:
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_every_pass_deals_every_prompt_once_in_an_order_of_its_own() -> None:
    source = PromptSource([prompt(str(number)) for number in range(7)], seed=1)
    dealt = source.take(5) + source.take(9)
    assert Counter(one.id for one, _ in dealt) == {str(number): 2 for number in range(7)}
    assert [visit for _, visit in dealt] == [0] * 7 + [1] * 7
    assert [one.id for one, _ in dealt[:7]] != [one.id for one, _ in dealt[7:]]


def test_a_source_goes_on_where_another_stopped() -> None:
    prompts = [prompt(str(number)) for number in range(5)]
    whole = [one.id for one, _ in PromptSource(prompts, seed=2).take(12)]
    first = PromptSource(prompts, seed=2)
    ids = [one.id for one, _ in first.take(4)]
    following = PromptSource(prompts, seed=2)
    following.restore(first.save())
    ids += [one.id for one, _ in following.take(8)]
    assert ids == whole


def test_prompts_of_interrupted_groups_are_dealt_again_first_with_their_visits() -> None:
    prompts = [prompt(str(number)) for number in range(3)]
    first, following = PromptSource(prompts, seed=2), PromptSource(prompts, seed=2)
    dealt = first.take(5)
    interrupted = [PromptVisit(prompt_id=one.id, visit=visit) for one, visit in (dealt[1], dealt[4])]
    following.restore(first.save(), interrupted)
    (again,) = following.take(1)
    assert (again[0].id, again[1]) == (dealt[1][0].id, 0)
    third = PromptSource(prompts, seed=2)
    third.restore(following.save())  # before the second of them was dealt again
    names = [(one.id, visit) for one, visit in third.take(3)]
    assert names == [(dealt[4][0].id, 1), *((one.id, visit) for one, visit in first.take(2))]


def test_a_source_with_a_chooser_goes_on_with_what_the_other_one_had_seen() -> None:
    prompts = [prompt(str(number)) for number in range(16)]
    first, following = (PromptSource(prompts, seed=3, chooser=Chooser(group_size=4)) for _ in range(2))
    for step in range(3):
        for number, (one, _) in enumerate(first.take(4)):
            first.graded(replace(graded(one.id, 1.0, 1.0 if number % 2 else -1.0), oldest_version=step))
    following.restore(first.save())
    assert following.save() == first.save()
    for _ in range(4):
        assert [(one.id, visit) for one, visit in following.take(4)] == [(o.id, v) for o, v in first.take(4)]
    json.dumps(asdict(first.save()))  # plain values


def graded(prompt_id: str, *scores: float) -> Summary:
    return replace(summary(scores), prompt_id=prompt_id, oldest_version=0)


def test_a_chooser_deals_the_likely_mixed_of_the_prompts_that_come_next() -> None:
    prompts = [prompt(str(number)) for number in range(8)]
    plain = PromptSource(prompts, seed=3)
    passes = [[one.id for one, _ in plain.take(8)] for _ in range(2)]
    source = PromptSource(prompts, seed=3, chooser=Chooser(group_size=4))
    assert [one.id for one, _ in source.take(2)] == passes[0][:2]  # nothing is known of any
    for name in passes[0][:2]:
        source.graded(graded(name, 1.0, 1.0, 1.0, 1.0))
    for name in passes[0][4:6]:
        source.graded(graded(name, 1.0, -1.0, 1.0, -1.0))
    source.graded(graded(passes[0][7]))  # without a verdict nothing is learned
    dealt = source.take(2)
    assert [one.id for one, _ in dealt] == [name for name in passes[1] if name in passes[0][4:6]]
    assert [visit for _, visit in dealt] == [1, 1]  # so a prompt that comes again is sampled anew
    assert source.save().position == 16
    assert len({one.id for one, _ in source.take(8)}) == 8  # where all are wanted, none is passed over


def test_jsonl_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "1+1", "answer": 2}, {"prompt": "2+2", "answer": "4", "more": [1]}]
    expected = [{"prompt": "1+1", "answer": "2"}, {"prompt": "2+2", "answer": "4"}]
    assert read_rows(write(tmp_path / "a.jsonl", rows), ("prompt", "answer")) == expected
    table = pa.Table.from_pylist([{k: str(v) for k, v in row.items()} for row in expected])
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet", ("prompt", "answer")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "1+1", "answer": "2"}\n{"answer": "2"}\n', r"a\.jsonl:2 has no text in column 'prompt'"),
        ('{"prompt": "1+1", "answer": "2"}\n\n{"prompt": "", "answer": "2"}\n', r"a\.jsonl:3 has no text in column"),
        ('{"prompt": \n', r"a\.jsonl:1 is not JSON"),
        ("[1]\n", r"a\.jsonl:1 is list, expected an object"),
        ("\n", r"holds no rows"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / "a.jsonl", ("prompt", "answer"))


def test_a_missing_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no data file .*b\.jsonl"):
        read_rows(tmp_path / "b.jsonl", ("prompt",))
    (tmp_path / "c.csv").touch()
    with pytest.raises(DataError, match=r"c\.csv must be a \.jsonl or \.parquet file"):
        read_rows(tmp_path / "c.csv", ("prompt",))


def test_prompts_that_are_too_long_are_left_out_up_to_the_stated_share(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "x" * size, "answer": "1"} for size in (3, 4, 50, 5)])
    prompts, left_out = load_prompts(DataSettings(path=str(path), too_long_share=0.25), "number", Letters(), 10)
    assert ([one.tokens.size for one in prompts], left_out) == ([3, 4, 5], 1)
    with pytest.raises(DataError, match=r"1 of 4 prompts .* longer than the 10 tokens .*the longest has 50"):
        load_prompts(DataSettings(path=str(path), too_long_share=0.2), "number", Letters(), 10)


def test_template_and_chat_template_stand_around_the_prompt() -> None:
    data = DataSettings(template="Q: {prompt}\nA:", system="Be brief.")
    assert render("1+1", data, Letters()) == "Q: 1+1\nA:"
    assert render("1+1", data, Chatty()) == "<system>Be brief.<user>Q: 1+1\nA:<assistant>"
    assert render("1+1", data.model_copy(update={"chat": False}), Chatty()) == "Q: 1+1\nA:"
