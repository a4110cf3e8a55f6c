"""The run file that `winnow init` writes trains as it stands."""

import csv
import string
import tomllib
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.reading import load_config
from tests.runs import Runs, metrics_of, responses_of

pytestmark = pytest.mark.ray


def write_data(file: Path) -> None:
    """A spreadsheet that asks in two columns. Its answers have one digit, as random text ends with now and then."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "instruction", "input", "output"])
        rows.writerows([n, "What is left?", f"{n} pens, of which {n - n % 10} are lost", n % 10] for n in range(120))


def test_a_run_file_of_init_trains_as_it_stands(runs: Runs, tmp_path: Path) -> None:
    from learner.models.tiny import write_tiny_model

    model, data, file = tmp_path / "model", tmp_path / "pens.csv", tmp_path / "pens.toml"
    write_tiny_model(model, alphabet=string.printable, seed=0)
    write_data(data)
    assert main(["init", str(model), str(data), "-o", str(file)]) == 0
    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    assert (tree["data"]["prompt_column"], tree["reward"]["name"]) == (["instruction", "input"], "number")
    folder = runs.train(load_config(file, ["run.steps=2", f"run.folder={tmp_path}"]))
    lines, rows = metrics_of(folder), responses_of(folder)
    groups, siblings = tree["rollout"]["groups_per_step"], tree["rollout"]["group_size"]
    assert [line["groups_trained"] for line in lines] == [groups, 2 * groups]
    assert all(line["tokens_trained"] > 0 and line["grad_norm"] > 0 for line in lines)
    assert sum(row["rejected"] == "" for row in rows) == 2 * groups * siblings
    assert {row["rejected"] for row in rows} >= {"", "all_wrong"}
    assert "####" in rows[0]["prompt"]
    assert len((folder / "evals.jsonl").read_text(encoding="utf-8").splitlines()) == 1  # before the first step
