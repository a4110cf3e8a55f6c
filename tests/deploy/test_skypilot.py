"""SkyPilot's schemas take the task, and its commands are ones that there are."""

import json
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster import cli

ROOT = Path(__file__).parents[2]
TASK = yaml.safe_load((ROOT / "deploy/skypilot/train.yaml").read_text(encoding="utf-8"))
SCHEMAS = json.loads((ROOT / "tests/data/schemas/skypilot.json").read_text(encoding="utf-8"))["$defs"]


def test_the_schemas_take_the_task_and_refuse_a_misspelt_key() -> None:
    jsonschema.validate(TASK, SCHEMAS["task"])
    jsonschema.validate(TASK["resources"], SCHEMAS["resources"])
    with pytest.raises(jsonschema.ValidationError, match="num_node"):
        jsonschema.validate(TASK | {"num_node": 2}, SCHEMAS["task"])
    with pytest.raises(jsonschema.ValidationError, match="accelerator"):
        jsonschema.validate(TASK["resources"] | {"accelerator": "H100:8"}, SCHEMAS["resources"])


@pytest.mark.parametrize("part", ["setup", "run"])
def test_bash_can_read_the_commands(part: str) -> None:
    assert subprocess.run(["bash", "-n"], input=TASK[part], text=True, check=False).returncode == 0


def test_the_token_is_a_secret_that_stands_in_no_file() -> None:
    assert TASK["secrets"] == {"RAY_AUTH_TOKEN": None}
    assert "RAY_AUTH_MODE=token" in TASK["run"]


def test_the_run_goes_on_where_the_last_machines_were_taken_away() -> None:
    commands = TASK["run"].replace("\\\n", "").splitlines()
    (line,) = [command for command in commands if command.startswith("winnow ")]
    read, rest = cli._parser().parse_known_args(shlex.split(line)[1:])
    assert (str(read.resume), rest) == ("auto", [])
    assert 'run.folder="$RUN_FOLDER"' in line
    assert TASK["envs"]["RUN_FOLDER"].startswith("s3://")
    assert (ROOT / TASK["envs"]["RUN"]).is_file()
