import codecs
import datetime
import gzip
import json
import logging
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.data.files import BadRow, read_files
from actors.data.messages import Message
from actors.data.prompts import load_prompts
from actors.data.reading import read_data, read_worked
from actors.errors import DataError
from actors.settings import DataSettings
from rewards.answers.reference import several
from tests.tables import each
from tests.tokenizers import chatty, letters

ROWS = [{"prompt": "1+1", "answer": 2}, {"prompt": "2+2", "answer": "4", "more": [1]}]
ASKED = [("1+1", "2"), ("2+2", "4")]
LINES = "\n".join(map(json.dumps, ROWS)) + "\n"


def damaged(content: bytes) -> bytes:
    """The same with wrong bytes in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 9]) + content[middle + 9 :]


def rows_in(path: Path | str, **data: Any) -> list[tuple[Any, str]]:
    found = read_data(DataSettings(path=str(path), **data), "number")
    return [(row.prompt, row.reference) for rows in found.values() for row in rows]


def test_without_an_answer_column_nothing_answers_and_where_it_is_missing_the_error_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "Say something kind."}\n{"prompt": "And to me?", "answer": "no"}\n')
    assert rows_in(path, answer_column="") == [("Say something kind.", ""), ("And to me?", "")]
    advice = r"columns there: prompt\)\. Name the column that answers in data\.answer_column, or \"\" where no reward"
    with pytest.raises(DataError, match=advice):
        rows_in(path)


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@each(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.ndjson", LINES.encode()),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.json", LINES.encode()),
        ("A.JSONL", LINES.encode()),
        ("a.jsonl", LINES.replace("\n", "\r\n\r\n").encode()),
        ("a.jsonl", codecs.BOM_UTF8 + LINES.encode()),
        ("a.json", codecs.BOM_UTF8 + json.dumps(ROWS).encode()),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.jsonl", LINES.encode("utf-32")),
        ("a.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode())),
        ("a.csv", b"prompt,answer\r\n1+1,2\r\n2+2,4\r\n"),
        ("a.jsonl", json.dumps(ROWS, indent=1).encode()),
        ("a.jsonl", b"\n" + json.dumps(ROWS).encode()),
        ("a.csv", codecs.BOM_UTF8 + b"prompt,answer\n1+1,2\n2+2,4"),
        ("a.tsv", b"prompt\tanswer\n1+1\t2\n2+2\t4\n"),
        ("a.csv.gz", gzip.compress(b"answer,prompt\n2,1+1\n4,2+2\n")),
    ],
)
def test_rows_are_the_same_however_they_are_stored(tmp_path_factory: Any, name: str, content: bytes) -> None:
    file = tmp_path_factory.mktemp("rows") / name
    file.write_bytes(content)
    assert rows_in(file) == ASKED


def test_a_text_in_a_table_may_have_lines_and_commas_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,answer\n"a,\nb ""c""",2\n')
    assert rows_in(tmp_path / "a.csv") == [('a,\nb "c"', "2")]


@each(
    ("name", "text", "found"),
    [
        ("a.csv", 'prompt,answer\n5" pipe,2\nsay "hi",3\n', [('5" pipe', "2"), ('say "hi"', "3")]),
        ("a.csv", 'prompt,answer\r\n"a, b\r\nc",2\r\n\r\n"d","3"', [("a, b\r\nc", "2"), ("d", "3")]),
        ("a.csv", 'prompt,answer\n"Hello, you\n1, 2?",3\n', [("Hello, you\n1, 2?", "3")]),
        ("a.csv", 'prompt,answer\n"""Hi"" \\n, he said",2\n', [('"Hi" \\n, he said', "2")]),
        ("a.tsv", 'prompt\tanswer\n"if a:\n\tb"\t2\n', [("if a:\n\tb", "2")]),
        ("a.tsv", 'prompt\tanswer\nwho is "he"?\t2\n', [('who is "he"?', "2")]),
    ],
)
def test_quotes_of_a_table_are_taken_as_its_rules_say(
    tmp_path_factory: Any, name: str, text: str, found: list[tuple[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("quotes") / name
    file.write_bytes(text.encode())
    assert rows_in(file) == found


@each(
    ("name", "text", "problem"),
    [
        (
            "a.csv",
            'prompt,answer\n1,2\n"He said \\"hi\\" to 3",2\n',
            r"a\.csv:3 has a cell in quotes, and on line 3 text",
        ),
        ("a.csv", 'prompt,answer\n"four,2\n3,4\n"x",3\n', r"a\.csv:2 has a cell in quotes, and on line 4 text behind"),
        ("a.csv", 'prompt,answer\n1,2\n"four,2\n3,4\n', r"a\.csv:3 begins a cell in quotes that has no end\. Put such"),
        ("a.tsv", 'prompt\tanswer\n"Four" and 1?\t5\n', r"a\.tsv:2 has a cell in quotes, and on line 2 text behind"),
        (
            "a.tsv",
            'prompt\tanswer\n"Four and 1?\t5\n2\t2\nLast "\t3\n',
            r"a\.tsv:2 begins a cell in quotes that ends on line 4, and every one of these lines looks like a row",
        ),
    ],
)
def test_a_stray_quote_in_a_table_swallows_no_row(tmp_path_factory: Any, name: str, text: str, problem: str) -> None:
    file = tmp_path_factory.mktemp("quotes") / name
    file.write_text(text)
    with pytest.raises(DataError, match=problem):
        rows_in(file)


def test_parquet_folders_and_patterns_are_read_in_order(tmp_path: Path) -> None:
    for number in (2, 1):
        parquet(tmp_path / f"train-{number}.parquet", [{"prompt": f"{number}", "answer": number}])
    parquet(tmp_path / "test-1.parquet", [{"prompt": "t", "answer": 0}])
    (tmp_path / "README.md").write_text("about")
    assert rows_in(tmp_path / "train-1.parquet") == [("1", "1")]
    assert rows_in(f"{tmp_path}/train-*.parquet") == [("1", "1"), ("2", "2")]
    assert [prompt for prompt, _ in rows_in(tmp_path)] == ["t", "1", "2"]


@each(
    ("name", "content", "problem"),
    [
        (
            "a.jsonl",
            b'{"prompt": "1+1", "answer": "2"}\n{"answer": "2"}\n',
            r"a\.jsonl:2 has no text in column 'prompt'",
        ),
        (
            "a.jsonl",
            b'{"prompt": "1", "answer": "2"}\n\n{"prompt": "", "answer": "2"}',
            r"a\.jsonl:3 has no text in col",
        ),
        ("a.jsonl", b'{"prompt": "1+1", "answer": null}', r"a\.jsonl:1 has no text in column 'answer'"),
        ("a.jsonl", b'{"prompt": "1+1", "answer": NaN}', r"a\.jsonl:1 has in column 'answer' nan, which is no value"),
        ("a.jsonl", b'{"prompt": "1+1", "answer": Infinity}', r"has in column 'answer' inf, which is no value"),
        (
            "a.jsonl",
            b'{"prompt": "1 \\ud83d", "answer": "2"}',
            r"a\.jsonl:1 has in column 'prompt' half of a character",
        ),
        ("a.jsonl", b'{"prompt": \n', r"a\.jsonl:1 is not JSON: .* at column"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1 is list, expected an object"),
        ("a.jsonl", b"\n", r"holds no rows"),
        ("a.jsonl", b"", r"holds no rows"),
        ("a.csv", b"", r"holds no rows"),
        ("a.json", b"[]", r"holds no rows"),
        ("a.json", b'[{"prompt": "1"', r"a\.json:1 is not JSON"),
        ("a.jsonl", '{"prompt": "caf\u00e9", "answer": "2"}'.encode("latin-1"), r"a\.jsonl:1 is not UTF-8 \(byte 0xe9"),
        ("a.jsonl", codecs.BOM_UTF16_LE + b"\x00\xd8x", r"begins as UTF-16 and is not"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1 is nested too deeply"),
        ("a.jsonl", b'{"a": ' * 100_000, r"a\.jsonl:1 is nested too deeply"),
        ("a.json", b"[" * 100_000, r"a\.json cannot be read: "),
        ("a.jsonl", b'{"prompt": "1", "answer": ' + b"9" * 5000 + b"}", r"a\.jsonl:1 cannot be read: .*number as text"),
        ("a.parquet", b"PAR1 and then nothing", r"cannot be read as Parquet: .*copy it again"),
        ("a.parquet", b"", r"cannot be read as Parquet"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "1", "answer": "2"}' * 99)[:-20], r"a\.jsonl\.gz cannot be read: "),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz cannot be read: "),
        ("a.jsonl", b'{"prompt": "  ", "answer": "2"}', r"a\.jsonl:1 has no text in column 'prompt'"),
        ("a.jsonl", b'{"prompt": "1+1", "answer": " \\n"}', r"a\.jsonl:1 has no text in column 'answer'"),
        ("a.jsonl", b'{"prompt": [], "answer": "2"}', r"object or a list that is no chat messages: '\[\]'"),
        ("a.jsonl", b'{"prompt": {"a": 1}, "answer": "2"}', r"that is no chat messages: .* behind a dot"),
        ("a.jsonl", b'{"prompt": [{"role": "user", "content": " "}], "answer": "2"}', "a user's message without text"),
        ("a.json", b'{\n"prompt": "1",\n"answer": "2"\n}', r"a\.json holds one object; give an array of rows"),
        ("a.jsonl", codecs.BOM_UTF32_LE + b"\x00\xd8\x00\x00", r"begins as UTF-32 and is not"),
        ("a.csv", b"prompt,prompt,answer\n1,2,3\n", r"a\.csv:1 names the column 'prompt' more than once"),
        ("a.jsonl.gz", damaged(gzip.compress(LINES.encode() * 50)), r"a\.jsonl\.gz cannot be read: "),
        ("a.jsonl", gzip.compress(LINES.encode()), r"a\.jsonl is compressed with gzip: .*\.gz"),
        ("a.jsonl", b"PAR1 and more", r"a\.jsonl is Parquet: give it a name"),
        ("a.csv", b"PK\x03\x04 and more", r"a\.csv is a zip archive or a spreadsheet"),
        ("a.json", b"\x28\xb5\x2f\xfd", r"a\.json is compressed with zstd"),
        ("a.jsonl", b"<!DOCTYPE html>\n<html>", r"a\.jsonl is a page of HTML"),
        ("a.jsonl", LINES.encode("utf-16-le"), r"a\.jsonl is UTF-16 or UTF-32 without its byte order mark"),
        ("a.jsonl", LINES.encode("utf-16-be"), r"a\.jsonl is UTF-16 or UTF-32 without its byte order mark"),
        ("a.jsonl", b'[{"prompt": "1"},\n{"prompt"\n', r"a\.jsonl:3 is not JSON"),
        (
            "a.jsonl",
            b'{"prompt": "[{\'role\': \'user\' \'content\': 3}]", "answer": "2"}',
            r"a\.jsonl:1 holds a text that begins as chat messages and cannot be read",
        ),
        (
            "a.jsonl",
            b'{"prompt": [{"role": "\\udcff", "content": "a"}], "answer": "2"}',
            r"a\.jsonl:1 holds a message 1 whose role is '\\udcff'",
        ),
        (
            "a.jsonl",
            b'{"prompt": [{"role": "user", "content": "\\ud800"}], "answer": "2"}',
            r"a\.jsonl:1 has in column 'prompt' half of a character",
        ),
        ("a.csv", b"prompt,answer\n1,2,3\n", r"a\.csv:2 has 3 cells under 2 names"),
        ("a.txt", b"1+1", r"a\.txt must be one of \.jsonl"),
        *[
            (
                name,
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
                "pointer of Git LFS .*git lfs",
            )
            for name in ("a.jsonl", "a.parquet", "a.jsonl.gz", "a.csv", "a.json")
        ],
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(
    tmp_path_factory: Any, name: str, content: bytes, problem: str
) -> None:
    file = tmp_path_factory.mktemp("bad") / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        rows_in(file)


def test_columns_of_parquet_that_are_maps_are_reached_and_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    maps = pa.array([[("a", "2")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"prompt": ["1+1"], "answer": maps}), tmp_path / "map.parquet")
    assert rows_in(tmp_path / "map.parquet", answer_column="answer.a") == [("1+1", "2")]
    twice = pa.Table.from_arrays([pa.array(["1"])] * 3, names=["prompt", "answer", "answer"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice\.parquet names the column 'answer' more than once"):
        rows_in(tmp_path / "twice.parquet")


@each(
    "cell",
    [
        [{"role": "User", "content": "1+1"}],
        '[{"role": "user", "content": "1+1"}]',
        ' [{"content": "1+1", "role": "user"}]\n',
        "[{'role': 'user', 'content': '1+1'}]",
        '[{"from": "HUMAN", "value": "1+1"}]',
    ],
)
def test_chat_messages_are_read_however_they_are_written(tmp_path: Path, cell: Any) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": cell, "answer": "2"}))
    assert rows_in(tmp_path / "a.jsonl") == [((Message("user", "1+1"),), "2")]


def test_a_column_of_system_messages_that_no_row_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "1", "answer": "2"}\n{"prompt": "1", "answer": "2", "sys": "\\ud800"}'
    )
    with pytest.raises(
        DataError, match=r"no row of .* has a column 'system' \(data\.system_column; columns there: pro"
    ):
        rows_in(tmp_path / "a.jsonl", system_column="system")
    with pytest.raises(DataError, match=r"a\.jsonl:2 has in column 'sys' half of a character"):
        rows_in(tmp_path / "a.jsonl", system_column="sys")


def test_a_place_in_a_list_is_counted_from_its_end_with_a_minus(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "1+1", "turns": [{"v": "1"}, {"v": "2"}]}')
    assert rows_in(tmp_path / "a.jsonl", answer_column="turns.-1.v") == [("1+1", "2")]
    with pytest.raises(DataError, match=r"has no text in column 'turns\.-3\.v'"):
        rows_in(tmp_path / "a.jsonl", answer_column="turns.-3.v")


def test_an_address_is_no_file() -> None:
    with pytest.raises(DataError, match=r"is an address and no file: download it"):
        rows_in("https://example.org/train.jsonl")


def test_paths_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no data file .*b\.jsonl"):
        rows_in(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match=r"the folder .* holds no data file"):
        rows_in(tmp_path)
    with pytest.raises(DataError, match=r"no file matches .*\*\.jsonl"):
        rows_in(tmp_path / "*.jsonl")


def test_hidden_files_and_what_is_said_about_data_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(LINES)
    for name in ("._train.json", ".cache.jsonl", "dataset_infos.json", "state.json"):
        (tmp_path / name).write_text("\0\x05 no rows")
    assert rows_in(tmp_path) == rows_in(f"{tmp_path}/*.json") == ASKED


def test_a_folder_of_hugging_face_says_where_its_data_is_or_how_to_write_it(tmp_path: Path) -> None:
    def folder(*files: str) -> Path:
        top = tmp_path / str(len(list(tmp_path.iterdir())))
        for file in files:
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            (top / file).write_text("{}")
        return top

    saved = ("data-00000-of-00001.arrow", "dataset_info.json", "state.json")
    with pytest.raises(
        DataError, match=r"holds what save_to_disk .*load_from_disk\('.*'\)\.to_parquet\('data\.parquet'\)"
    ):
        rows_in(folder(*saved))
    splits = [f"{split}/{name}" for split in ("test", "train") for name in saved]
    with pytest.raises(
        DataError, match=r"the splits test, train as save_to_disk .*\['train'\]\.to_parquet\('train\.parquet'"
    ):
        rows_in(folder("dataset_dict.json", *splits))
    repository = folder("README.md", "dataset_infos.json", ".cache/a.json", "data/train-0.parquet")
    with pytest.raises(DataError, match=r"no data file itself, and there are some in \S*/data: give .*/data/train-\*"):
        rows_in(repository)
    with pytest.raises(DataError, match=r"holds no data file \("):
        rows_in(folder("README.md", ".cache/a.json"))


def test_a_cut_parquet_file_is_named(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", [{"prompt": str(n), "answer": n} for n in range(5000)]).read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
            rows_in(tmp_path / "cut.parquet")


def test_bad_rows_can_be_collected_and_the_others_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "1", "answer": "2"}\n{\n{"prompt": "3"}\n[]\n{"prompt": "5", "answer": "6"}\n')
    bad: list[BadRow] = []
    found = read_data(DataSettings(path=str(file)), "number", bad.append)
    assert [row.reference for row in found[str(file)]] == ["2", "6"]
    assert sorted(row.place.rpartition(":")[2] for row in bad) == ["2", "3", "4"]


@each(
    ("cells", "column", "reference"),
    [
        ({"reward_model": {"ground_truth": "34", "style": "rule"}}, "reward_model.ground_truth", "34"),
        ({"a.b": "flat", "a": {"b": "deep"}}, "a.b", "flat"),
        ({"a": {"b": {"c": 5}}}, "a.b.c", "5"),
        ({"answers": ["x", "y"]}, "answers.1", "y"),
        ({"answer": Decimal("1.50")}, "answer", "1.50"),
        ({"answer": b"bytes"}, "answer", "bytes"),
        ({"answer": datetime.datetime(2024, 1, 2, 3, 4)}, "answer", "2024-01-02T03:04:00"),
        ({"answer": datetime.date(2024, 1, 2)}, "answer", "2024-01-02"),
        ({"answer": True}, "answer", "True"),
        ({"answer": {"when": datetime.date(2024, 1, 2), "n": 1}}, "answer", '{"when": "2024-01-02", "n": 1}'),
        ({"answer": ["é", None]}, "answer", '["é", null]'),
    ],
)
def test_an_answer_is_reached_and_written_out(
    tmp_path_factory: Any, cells: dict[str, Any], column: str, reference: str
) -> None:
    file = parquet(tmp_path_factory.mktemp("nested") / "a.parquet", [{"prompt": "p"} | cells])
    assert rows_in(file, answer_column=column) == [("p", reference)]


def test_times_finer_or_later_than_pythons_spoil_no_row(tmp_path: Path) -> None:
    when = pa.array([{"at": 1, "in": [5]}], pa.struct([("at", pa.timestamp("ns")), ("in", pa.list_(pa.time64("ns")))]))
    table = pa.table({"prompt": ["p"], "answer": ["1"], "seen": when})
    pq.write_table(table, tmp_path / "fine.parquet")
    assert rows_in(tmp_path / "fine.parquet") == [("p", "1")]
    late = pa.array([{"at": 2**42}], pa.struct([("at", pa.timestamp("s"))]))
    pq.write_table(pa.table({"prompt": ["p"], "answer": ["1"], "seen": late}), tmp_path / "late.parquet")
    with pytest.raises(DataError, match=r"late\.parquet cannot be read as Parquet"):
        rows_in(tmp_path / "late.parquet")


@each(
    ("columns", "reference"),
    [
        (("SQL", "db_id"), {"SQL": "SELECT 1", "db_id": "shop"}),
        ({"query": "SQL", "db_name": "db_id"}, {"query": "SELECT 1", "db_name": "shop"}),
        (("meta.tests", "SQL"), {"tests": ["a"], "SQL": "SELECT 1"}),
        (("meta.tests", "more.tests"), {"meta.tests": ["a"], "more.tests": "b"}),
    ],
)
def test_several_columns_become_one_object_and_may_be_renamed(
    tmp_path_factory: Any, columns: Any, reference: dict[str, Any]
) -> None:
    file = tmp_path_factory.mktemp("columns") / "a.jsonl"
    file.write_text(
        json.dumps(
            {"question": "q", "SQL": "SELECT 1", "db_id": "shop", "meta": {"tests": ["a"]}, "more": {"tests": "b"}}
        )
    )
    ((asked, found),) = rows_in(file, prompt_column="question", answer_column=columns)
    assert (asked, json.loads(found)) == ("q", reference)


def test_an_answer_that_is_no_text_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    bad = [{"ground_truth": "3", "style": "v2"}, '{"ground_truth": 3}', [1, 2], ["a", None], [{"value": "5"}], []]
    good = ['["a", "b"]', ["3"], [3], "{3, 4}", "[1, 2]", 3, "{}", ["a", "b"]]
    file.write_text("\n".join(json.dumps({"prompt": "p", "answer": answer}) for answer in [*bad, *good]))
    (rows,) = read_data(DataSettings(path=str(file)), "number").values()
    said = [row.no_text for row in rows]
    assert all('behind a dot, such as "answer.ground_truth"' in one for one in said[:2])
    assert said[0].startswith("it has the parts ground_truth, style: name one of them in data.answer_column")
    assert [one.partition(":")[0] for one in said[2:6]] == ["it is a list that holds more than texts"] * 3 + [
        "it is a list of nothing"
    ]
    assert said[6:] == [""] * len(good)
    assert [row.reference for row in rows[6:10]] == ['["a", "b"]', '["3"]', '["3"]', "{3, 4}"]
    assert rows[-1].reference == several(["a", "b"])


def test_of_an_answer_of_several_columns_all_but_the_first_may_be_null_or_missing(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"inputs": ["1"], "fn_name": "f"}, {"inputs": ["2"], "fn_name": None}, {"inputs": ["3"]}]
    rows += [{"inputs": ["4"], "fn_name": math.nan}]
    file.write_text("\n".join(json.dumps({"prompt": "p"} | row) for row in rows))
    found = [json.loads(text)["fn_name"] for _, text in rows_in(file, answer_column=["inputs", "fn_name"])]
    assert found == ["f", "", "", ""]
    assert len(rows_in(file, rows="1:", answer_column=["inputs", "fn_name"])) == 3
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no text in column 'outputs'"):
        rows_in(file, answer_column=["outputs", "inputs"])
    with pytest.raises(
        DataError, match=r"no row of .* has a column 'fname' \(data\.answer_column; columns there: prom"
    ):
        rows_in(file, answer_column=["inputs", "fname"])
    file.write_text(json.dumps({"prompt": "p", "inputs": ["1"], "more": {"fn_name": None}, "text": '{"a": null}'}))
    assert rows_in(file, answer_column=["inputs", "more.fn_name", "text.a"])


def test_dots_reach_into_json_text(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    row = {"prompt": "p", "info": json.dumps({"ground_truth": "42", "tests": json.dumps(["a", {"b": "7"}])})}
    file.write_text(json.dumps(row))
    assert rows_in(file, answer_column="info.ground_truth") == [("p", "42")]
    assert rows_in(file, answer_column="info.tests.1.b") == [("p", "7")]
    with pytest.raises(DataError, match=r"'info\.truth' \(columns there: prompt, info\.ground_truth, info\.tests\)"):
        rows_in(file, answer_column="info.truth")


def test_chat_messages_are_not_joined_with_other_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    asked = {"context": "c", "prompt": [{"role": "user", "content": "q"}], "answer": "1"}
    file.write_text(json.dumps(asked))
    with pytest.raises(DataError, match=r"chat messages in column 'prompt', which cannot .*'prompt\.-1\.content'"):
        rows_in(file, prompt_column=["context", "prompt"])
    assert rows_in(file, prompt_column=["context", "prompt.-1.content"]) == [("c\n\nq", "1")]


def test_chat_messages_are_read_from_parquet_with_their_system_messages(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1"}]
    file = parquet(tmp_path / "a.parquet", [{"prompt": messages, "answer": "2", "say": "of the row"}])
    (row,) = read_data(DataSettings(path=str(file), system_column="say"), "number")[str(file)]
    assert (row.prompt, row.system) == ((Message("system", "s"), Message("user", "1+1")), "of the row")


@each(
    ("rows", "kept"),
    [("", [0, 1, 2, 3, 4]), ("1:3", [1, 2]), (":-2", [0, 1, 2]), ("-2:", [3, 4]), ("3:", [3, 4])],
)
def test_rows_are_a_slice_of_the_file(tmp_path_factory: Any, rows: str, kept: list[int]) -> None:
    file = tmp_path_factory.mktemp("slices") / "a.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": str(n), "answer": n}) for n in range(5)))
    assert [int(prompt) for prompt, _ in rows_in(file, rows=rows)] == kept


def test_a_slice_of_nothing_is_refused_and_so_is_what_is_no_slice(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES)
    with pytest.raises(DataError, match=r"holds no rows in data\.rows = '7:'"):
        rows_in(tmp_path / "a.jsonl", rows="7:")
    with pytest.raises(ValueError, match="must be start:end"):
        DataSettings(rows="7")


def test_worked_answers_are_read_with_chat_messages(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"prompt": [{"role": "user", "content": "1+1"}], "response": "2"}))
    (row,) = read_worked(str(file), "prompt", "response")
    assert (row.prompt, row.response) == ((Message("user", "1+1"),), "2")
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no text in column 'answer'"):
        read_worked(str(file), "prompt", "answer")


@each(
    ("tools", "prompt_column", "warnings"),
    [
        ([{"name": "f"}], "prompt", 1),
        ('[{"name": "f"}]', "prompt", 1),
        ("[]", "prompt", 0),
        ([], "prompt", 0),
        ("a hammer", "prompt", 0),
        (["a hammer"], ["prompt", "tools"], 0),
    ],
)
def test_functions_that_are_not_read_are_spoken_of_once_for_each_file(
    tmp_path_factory: Any, caplog: pytest.LogCaptureFixture, tools: Any, prompt_column: Any, warnings: int
) -> None:
    caplog.clear()
    file = tmp_path_factory.mktemp("tools") / "a.jsonl"
    file.write_text(2 * (json.dumps({"prompt": "1+1", "answer": "2", "tools": tools}) + "\n"))
    with caplog.at_level(logging.WARNING, "winnow"):
        for _ in range(2):
            rows_in(file, prompt_column=prompt_column)
    assert len([line for line in caplog.messages if "has a column 'tools', which is not read" in line]) == warnings


def test_prompts_that_are_too_long_are_left_out_up_to_the_stated_share(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": "x" * size, "answer": "1"}) for size in (3, 4, 50, 5)))
    loaded = load_prompts(DataSettings(path=str(file), too_long_share=0.25), "number", letters(), 10)
    assert ([one.tokens.size for one in loaded.prompts], loaded.left_out) == ([3, 4, 5], 1)
    with pytest.raises(DataError, match=r"1 of 4 prompts .* longer than the 10 tokens .*the longest has 50"):
        load_prompts(DataSettings(path=str(file), too_long_share=0.2), "number", letters(), 10)


def test_a_prompt_keeps_its_messages_with_the_system_message_that_the_policy_sees(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    said = [{"role": "system", "content": "own"}, {"role": "user", "content": "q"}]
    rows = [{"prompt": said, "s": "row"}, {"prompt": said[1:], "s": "row"}, {"prompt": "q", "s": None}]
    file.write_text("\n".join(json.dumps(row | {"answer": "1"}) for row in rows))
    data = DataSettings(path=str(file), system_column="s", system="run")
    loaded = load_prompts(data, "number", chatty(), 99)
    assert [one.messages for one in loaded.prompts] == [
        (("system", system), ("user", "q")) for system in ("own", "row", "run")
    ]
    plain = load_prompts(DataSettings(path=str(file), rows="2:"), "number", chatty(), 99)
    assert [(one.question, one.messages) for one in plain.prompts] == [("q", ())]


def test_prompts_of_several_paths_keep_their_order_and_weights(tmp_path: Path) -> None:
    weights = {}
    for name, count, weight in (("a", 3, 3.0), ("b", 2, 1.0)):
        (tmp_path / f"{name}.jsonl").write_text(
            "\n".join(json.dumps({"prompt": f"{name}{n}", "answer": "1"}) for n in range(count))
        )
        weights[str(tmp_path / f"{name}.jsonl")] = weight
    loaded = load_prompts(DataSettings(path=weights), "number", letters(bos=True), 10, before=(7,))
    assert [one.text for one in loaded.prompts] == ["a0", "a1", "a2", "b0", "b1"]
    assert [one.id for one in loaded.prompts] == ["0", "1", "2", "3", "4"]
    assert loaded.shares == ((3, 3.0), (2, 1.0))
    assert {tuple(one.tokens[:2]) for one in loaded.prompts} == {(7, 0)}
    assert all(one.tokens.dtype == np.int32 for one in loaded.prompts)


def test_every_tried_file_is_read_or_named(tmp_path: Path) -> None:
    tried = Path(__file__).parents[4] / "shared" / "data" / "tried"
    if not tried.is_dir():
        pytest.skip("the tried files are not there")
    expected: dict[str, tuple[dict[str, Any], str | int]] = {
        "bird.jsonl": ({"prompt_column": "question", "answer_column": {"query": "SQL", "db_name": "db_id"}}, 1),
        "chat.jsonl": ({}, 2),
        "dapo.parquet": ({"answer_column": "reward_model.ground_truth"}, 1),
        "empty.jsonl": ({}, "holds no rows"),
        "latin1.jsonl": ({}, "latin1.jsonl:1 is not UTF-8"),
        "lfs.parquet": ({}, "pointer of Git LFS"),
        "nan.jsonl": ({}, "nan.jsonl:1 has in column 'answer' nan"),
        "surrogate.jsonl": ({}, "surrogate.jsonl:1 has in column 'prompt' half of a character"),
    }
    for name, (data, wanted) in expected.items():
        if isinstance(wanted, int):
            assert len(rows_in(tried / name, **data)) >= wanted
        else:
            with pytest.raises(DataError, match=wanted):
                rows_in(tried / name, **data)
    assert len(list(read_files(str(tried / "struct_time.parquet")))) > 0


def test_a_prompt_of_several_columns_is_joined_by_blank_lines_and_options_get_letters(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [
        {"body": "Two pears.", "question": "How many?", "options": ["one", "two"], "answer": "B"},
        {"body": "", "question": "Which?", "options": None, "answer": "A"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rows_in(file, prompt_column=["body", "question", "options"])
    assert [asked for asked, _ in found] == ["Two pears.\n\nHow many?\n\nA. one\nB. two", "Which?"]
