"""The run file that `winnow init` writes trains as it stands."""

import csv
import json
import string
import tomllib
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.reading import load_config
from tests.runs import Runs, metrics_of, responses_of

pytestmark = pytest.mark.ray


def write_data(file: Path) -> None:
    """A spreadsheet that asks in two columns and shows how an answer is found. It has one digit, as random text ends
    with now and then."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "instruction", "input", "output"])
        for number in range(120):
            left = number % 10
            worked = f"{number} - {number - left} lost = {left} pens\n#### {left}"
            rows.writerow([number, "What is left?", f"{number} pens, {number - left} of them lost", worked])


def test_a_run_file_of_init_trains_as_it_stands(runs: Runs, tmp_path: Path) -> None:
    from learner.models.tiny import write_tiny_model

    model, data, file = tmp_path / "model", tmp_path / "pens.csv", tmp_path / "pens.toml"
    write_tiny_model(model, alphabet=string.printable, seed=0)
    write_data(data)
    assert main(["init", str(model), str(data), "-o", str(file)]) == 0
    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    assert (tree["data"]["prompt_column"], tree["reward"]["name"]) == (["instruction", "input"], "number")
    assert tree["rollout"]["max_new_tokens"] == 64  # twice the worked answers, rounded up
    folder = runs.train(load_config(file, ["run.steps=2", f"run.folder={tmp_path}"]))
    lines, rows = metrics_of(folder), responses_of(folder)
    groups, siblings = tree["rollout"]["groups_per_step"], tree["rollout"]["group_size"]
    assert [line["groups_trained"] for line in lines] == [groups, 2 * groups]
    assert all(line["tokens_trained"] > 0 and line["grad_norm"] > 0 for line in lines)
    assert sum(row["rejected"] == "" for row in rows) == 2 * groups * siblings
    assert {row["rejected"] for row in rows} >= {"", "all_wrong"}
    assert "####" in rows[0]["prompt"]
    evals = [json.loads(line) for line in (folder / "evals.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in evals] == [0, 2]
