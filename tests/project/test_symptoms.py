"""The pages by symptom are true: figures are what the command prints, and the way to grade stored responses works."""

import json
import re
import shlex
from pathlib import Path

import pytest

from actors.data.files import read_files
from cluster.commands.plan import plan_on
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config
from cluster.placement.imagined import ImaginedCluster
from tests.project.plans import MODEL
from tests.run_folders import graded_group, run_folder

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_settings_do_to_a_ranks_memory_is_what_the_plan_counts() -> None:
    rows = re.findall(r"^\| (?:`([^`]*=[^`]*)`|\(as it is\)) \| (?:refused: )?([\d.]+) \|", page("memory"), re.M)
    assert len(rows) == 7
    base = [f"model.path={ROOT / MODEL}", "data.path=train.jsonl"]
    for settings, said in rows[1:3]:  # each takes seconds
        config = load_config(ROOT / "deploy/runs/7b-8gpus.toml", [*base, *shlex.split(settings)])
        try:
            found = re.findall(r"^  at most +([\d.]+)", plan_on(config, ImaginedCluster.of("8x80")), re.M)
        except ConfigError as refusal:
            found = re.findall(r"needs about ([\d.]+) GiB", str(refusal))
        assert found == [said], settings


def test_stored_responses_become_cases_to_grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = graded_group(1, "2+2=", ["correct", "wrong"], prompt="2+2=", response="it is 4")
    run_folder(tmp_path / "runs/NAME", 1, groups={1: [group]})
    monkeypatch.chdir(tmp_path)
    (source,) = [
        code for code in re.findall(r"^```python\n(.*?)^```", page("verdicts"), re.S | re.M) if "cases" in code
    ]
    exec(source, {})
    cases = [dict(row.cells) for row in read_files(str(tmp_path / "cases.jsonl"))]
    assert cases == [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert [case["before"] for case in cases] == ["correct", "wrong"]
    assert {"prompt", "response", "reference", "because"} <= set(cases[0])
