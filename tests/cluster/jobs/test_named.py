"""What travels with a run, by its settings."""

import re
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.jobs.named import Named, names_a_file, on_nodes, travelling
from tests.project.reference import ROOT

REWARD = "def reward(response, reference, prompt):\n    return True\n"
OTHERS = {"folder", "name", "drop", "algorithm"}  # what is written, and names of something in a file


def run(**sections: object) -> RunConfig:
    return config_of({"model": {"path": "/models/m"}, "data": {"path": "/data/d.jsonl"}, **sections})


def found(folder: Path, **sections: object) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in travelling(run(**sections), folder)]


def test_relative_paths_travel_and_absolute_ones_and_addresses_do_not(tmp_path: Path) -> None:
    for name in ("grade.py", "a.jsonl", "b.jsonl", "held.jsonl"):
        (tmp_path / name).write_text(REWARD if name.endswith("py") else "{}")
    (tmp_path / "tiny").mkdir()
    assert found(tmp_path) == []
    assert found(tmp_path, model={"path": "s3://bucket/m"}, data={"path": "hf://datasets/d"}) == []
    assert found(tmp_path, model={"path": "tiny"}, eval={"path": "held.jsonl"}) == ["tiny", "held.jsonl"]
    assert found(tmp_path, data={"path": {"a.jsonl": 3, "/data/c.jsonl": 1}}) == ["a.jsonl"]
    assert found(tmp_path, data={"path": "tiny/../a.jsonl"}) == ["a.jsonl"]
    assert found(tmp_path, data={"path": "[ab].jsonl"}) == ["a.jsonl", "b.jsonl"]
    assert found(tmp_path, reward={"name": "own", "own": {"file": "grade.py"}}) == ["grade.py"]
    assert found(tmp_path, reward={"name": "mine", "mine": {"kind": "own", "file": "grade.py"}}) == ["grade.py"]


def test_a_pattern_names_no_file_of_keys(tmp_path: Path) -> None:
    for name in ("data/a.jsonl", "data/.env", ".ssh/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert found(tmp_path, data={"path": "data/*"}) == ["data/a.jsonl"]
    assert found(tmp_path, data={"path": "*/*"}) == ["data/a.jsonl"]
    assert found(tmp_path, data={"path": "data/.env"}) == ["data/.env"]


def test_a_chat_template_may_be_a_file_or_a_name(tmp_path: Path) -> None:
    assert found(tmp_path, data={"path": "/d", "chat_template": "tool_use"}) == []
    (tmp_path / "mine.jinja").write_text("")
    assert found(tmp_path, data={"path": "/d", "chat_template": "mine.jinja"}) == ["mine.jinja"]


def test_what_is_missing_or_outside_is_refused_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path = 'no\.jsonl' would travel .* no such file"):
        found(tmp_path, data={"path": "no.jsonl"})
    with pytest.raises(ConfigError, match=r"eval\.path = '\.\./x\.jsonl' lies outside"):
        found(tmp_path, eval={"path": "../x.jsonl"})
    with pytest.raises(ConfigError, match=r"data\.path = '\*\.jsonl'"):
        found(tmp_path, data={"path": "*.jsonl"})


def test_an_address_is_one_here_where_it_is_one_for_the_run(tmp_path: Path) -> None:
    assert found(tmp_path, model={"path": "S3://bucket/m"}) == []
    with pytest.raises(ConfigError, match=r"model\.path = 's3:/bucket/m' would travel .* no such file"):
        found(tmp_path, model={"path": "s3:/bucket/m"})


def test_an_absolute_path_into_the_folder_is_noticed(tmp_path: Path) -> None:
    inside = str(tmp_path / "a.jsonl")
    assert on_nodes(run(data={"path": inside}), tmp_path) == [Named(setting="data.path", value=inside)]


def test_a_setting_whose_description_speaks_of_a_file_is_one_that_travels() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    speaking = set(re.findall(r"^\| `(\w+)` \| text[^|]*\|[^|]*\| [^|]*(?:file|folder)[^|]* \|$", page, re.M))
    assert {"path", "file", "chat_template"} <= speaking
    assert {name for name in speaking if not names_a_file(name)} == OTHERS
