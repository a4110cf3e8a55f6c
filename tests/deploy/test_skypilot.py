"""SkyPilot's schemas take the task, its commands are ones that there are, and they end on every node with the run."""

import json
import os
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
# Stands in for Ray: a head is there from its start to its end, and a node stays until it is ended itself.
RAY = """#!/bin/bash
echo "$@" >> "$HOME/asked"
case "$*" in
  *--head*) trap 'rm "$HOME/head"; exit 0' TERM; touch "$HOME/head";;
  start*) trap 'rm "$HOME/node"; exit 0' TERM; touch "$HOME/node";;
  health-check*) test -e "$HOME/head"; exit;;
esac
while :; do sleep 10; done
"""
# Stands in for a run on two nodes, which ends with the status that a file has.
WINNOW = """#!/bin/bash
until [ -e "$HOME/node" ]; do sleep 10; done
exit "$(cat "$HOME/status")"
"""
SLEEP = """#!/bin/sh
exec /bin/sleep 0.02
"""


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with what stands in for Ray, winnow and long waits."""
    for name, text in (("ray", RAY), ("winnow", WINNOW), ("sleep", SLEEP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def task_on(folder: Path, rank: int) -> "subprocess.Popen[str]":
    """Starts the commands of one node."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    node = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": str(rank), "RAY_AUTH_TOKEN": "0123"}
    return subprocess.Popen(
        ["timeout", "60", "bash", "-c", TASK["run"]],
        cwd=folder,
        env=ours | TASK["envs"] | node | {"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )


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
    (line,) = [command.split("||")[0] for command in commands if command.startswith("winnow ")]
    read, rest = cli._parser().parse_known_args(shlex.split(line)[1:])
    assert (str(read.resume), rest) == ("auto", [])
    assert 'run.folder="$RUN_FOLDER"' in line
    assert TASK["envs"]["RUN_FOLDER"].startswith("s3://")
    assert (ROOT / TASK["envs"]["RUN"]).is_file()


@pytest.mark.parametrize(("status", "told"), [(0, 0), (1, 1), (143, 143), (2, 0), (3, 0)])
def test_every_node_ends_with_the_run_and_a_mistake_is_no_reason_for_new_machines(
    commands: Path, status: int, told: int
) -> None:
    (commands / "status").write_text(str(status))
    first, other = task_on(commands, 0), task_on(commands, 1)
    said = [task.communicate(timeout=90)[1] for task in (first, other)]
    assert (first.returncode, other.returncode) == (told, 0)
    assert (f"FAILED with status {status}" in said[0]) is (status != told)
    assert not (commands / "head").exists()  # both were ended, and not by a command that ends SkyPilot's Ray too
    assert not (commands / "node").exists()
    assert "stop" not in [line.split()[0] for line in (commands / "asked").read_text().splitlines()]


def test_a_node_ends_where_no_head_comes(commands: Path) -> None:
    node = task_on(commands, 1)
    said = node.communicate(timeout=90)[1]
    assert node.returncode == 1
    assert "no head at 10.0.0.1:6379" in said


def test_rays_dashboard_has_another_port_than_skypilots_own() -> None:
    assert "8266" not in TASK["run"]  # SkyPilot's, which `ray start` would find taken
