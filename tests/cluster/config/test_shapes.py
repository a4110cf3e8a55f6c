"""A run file over another one: sections keep what it does not set, values are replaced, tables among them."""

from pathlib import Path

import pytest

from cluster.config.described import settings
from cluster.config.reading import layered, load_config
from cluster.config.shapes import kinds_of
from tests.tables import each

BASE = """
[model]
path = "m"
[data]
path = {"a.jsonl" = 1}
chat_arguments = {a = 1}
answer_column = {query = "SQL"}
[eval]
path = {one = "one.jsonl"}
[rollout.rounds]
size = 4
most = 3
[reward]
name = "sum"
[reward.sum]
weights = {exact = 0.5, format = 0.5}
[reward.safe]
kind = "judge"
path = "judge"
prompt = "few-shot"
[cluster]
env = {A = "1"}
nodes = {learner = {fast = 1}}
"""


@each(
    ("own", "section", "key", "value"),
    [
        ('[data.path]\n"b.jsonl" = 1', "data", "path", {"b.jsonl": 1}),
        ("[data.chat_arguments]\nb = 2", "data", "chat_arguments", {"b": 2}),
        ('[data.answer_column]\ndb = "db_id"', "data", "answer_column", {"db": "db_id"}),
        ('[eval.path.two]\npath = "two.jsonl"', "eval", "path", {"two": {"path": "two.jsonl"}}),
        ("[reward.sum.weights]\nexact = 1.0", "reward", "sum", {"weights": {"exact": 1.0}}),
        ('[reward.safe]\npath = "new"', "reward", "safe", {"kind": "judge", "path": "new", "prompt": "few-shot"}),
        ('[cluster.env]\nB = "2"', "cluster", "env", {"B": "2"}),
        ("[cluster.nodes.generator]\nfast = 1", "cluster", "nodes", {"generator": {"fast": 1}}),
        ("[rollout.rounds]\nmost = 5", "rollout", "rounds", {"size": 4, "most": 5}),
        ('[data]\nrows = ":5"', "data", "path", {"a.jsonl": 1}),
    ],
)
def test_a_table_that_is_a_value_is_replaced_and_a_section_is_added_to(
    own: str, section: str, key: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "base.toml").write_text(BASE)
    (folder / "own.toml").write_text(f'extends = "base.toml"\n{own}\n')
    (folder / "over.toml").write_text(own)
    assert layered({}, [folder / "own.toml"], ())[section][key] == value
    assert layered({}, [folder / "base.toml", folder / "over.toml"], ())[section][key] == value


def test_a_run_file_that_names_other_data_trains_on_no_other(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[model]\npath = "m"\n[data.path]\n"a.jsonl" = 1\n')
    (tmp_path / "own.toml").write_text('extends = "base.toml"\n[data.path]\n"b.jsonl" = 1\n')
    assert load_config(tmp_path / "own.toml").data.path == {"b.jsonl": 1.0}


def test_every_setting_has_a_kind() -> None:
    known = {str, bool, int, float, tuple, dict}
    for section, _, key, _ in settings():
        found = kinds_of([*section.split("."), key])
        assert found, (section, key)
        assert found <= known, (section, key, found)


@each(
    ("name", "kinds"),
    [
        ("rollout.rounds", {dict}),
        ("reward.total", {dict}),
        ("reward.total.weights", {dict}),
        ("data.path", {str, dict}),
        ("eval.path.math500.answer_column", {str, tuple, dict}),
        ("cluster.nodes.learner.fast", {str, float}),
        ("data.chat_arguments.x", {bool, int, float, str}),
        ("data.chat", {bool}),
        ("objective.std_ddof", {int}),
        ("no.such", set()),
    ],
)
def test_what_a_setting_may_be_is_found_by_its_name(name: str, kinds: set[type]) -> None:
    assert kinds_of(name.split(".")) == kinds
