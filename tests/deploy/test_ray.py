"""Ray's own parser takes the file for its cluster launcher, and the file says what the pages say."""

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/ray/aws.yaml"
CONFIG = yaml.safe_load(FILE.read_text(encoding="utf-8"))
NODES = CONFIG["available_node_types"]
WITH_GPUS = ("gpu", "spot")


def prepared(config: Any) -> Any:
    """What `ray up` makes of a file before it asks the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    made = prepare_config(copy.deepcopy(config))
    validate_config(made)
    return made


def test_rays_schema_takes_the_file_and_refuses_a_misspelt_key() -> None:
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler/ray-schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(CONFIG, schema)
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        jsonschema.validate(CONFIG | {"idle_timeout_minute": 1}, schema)


@pytest.mark.ray
def test_rays_own_parser_takes_the_file_and_adds_no_command_of_its_own() -> None:
    made = prepared(CONFIG)
    for name in ("head_setup_commands", "worker_setup_commands", "initialization_commands"):
        assert made[name] == CONFIG.get(name, [])
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert made[name] == CONFIG[name]
    assert {name: node["max_workers"] for name, node in made["available_node_types"].items()} == {
        "head": 0,
        "gpu": 1,
        "spot": 4,
        "cpu": 4,
    }


def test_the_bound_of_the_whole_leaves_room_for_every_type() -> None:
    assert sum(node.get("max_workers", 0) for node in NODES.values()) <= CONFIG["max_workers"]


def test_nodes_that_go_are_spot_and_say_so_in_the_label_that_generators_ask_for() -> None:
    spot = [name for name, node in NODES.items() if "InstanceMarketOptions" in node["node_config"]]
    assert spot == ["spot"]
    assert [name for name, node in NODES.items() if node.get("labels", {}).get("ray.io/market-type") == "spot"] == spot
    assert NODES["spot"]["min_workers"] == 0


def test_only_nodes_with_gpus_show_them_to_their_containers() -> None:
    shown = [name for name, node in NODES.items() if "NVIDIA_VISIBLE_DEVICES=all" in str(node.get("docker", {}))]
    assert tuple(shown) == WITH_GPUS
    assert "NVIDIA_VISIBLE_DEVICES=" not in re.sub(r"^#.*", "", dockerfile(), flags=re.M)


def test_the_containers_let_the_sandbox_work_and_have_the_token_in_the_home_of_the_image() -> None:
    options = CONFIG["docker"]["run_options"]
    assert "--security-opt seccomp=unconfined" in options
    assert "--security-opt apparmor=unconfined" in options
    (home,) = re.findall(r"^ENV HOME=(\S+)", dockerfile(), re.M)
    assert list(CONFIG["file_mounts"]) == [f"{home}/.ray/auth_token"]
    assert re.search(r"^ +RAY_AUTH_MODE=token\b", dockerfile(), re.M)


def dockerfile() -> str:
    return (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
