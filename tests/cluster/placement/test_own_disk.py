"""A Ray cluster of two nodes on this machine, the second of which has a disk of its own under a folder of the first."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.placement.sight import NodeFiles
from cluster.preparing.copies import copies_of, with_copies
from cluster.preparing.folders import held

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).parent / "ray"
PRIVATE = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The two nodes."""

    first: str  # id of this machine's
    second: str
    root: Path  # the file system as the second one sees it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of which `own` is another disk on the second node, with the local copies in it."""
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "own/cache"))
    return tmp_path


@pytest.fixture
def nodes(folder: Path, own_ray: None) -> Iterator[Nodes]:
    if subprocess.run([*PRIVATE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a mount name space")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    address = ray.get_runtime_context().gcs_address
    start = f"{RAY} start --address={address} --num-cpus=1 --block --disable-usage-stats"
    command = [*PRIVATE, f"mount -t tmpfs none {folder}/own && exec {start}"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    second = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **silent)
    try:
        until = time.monotonic() + 60
        while len(living := [node["NodeID"] for node in ray.nodes() if node["Alive"]]) < 2:
            assert time.monotonic() < until
            time.sleep(0.2)
        first = ray.get_runtime_context().get_node_id()
        (other,) = set(living) - {first}
        yield Nodes(first=first, second=other, root=Path(f"/proc/{second.pid}/root"))
    finally:
        second.terminate()
        second.wait(timeout=60)
        ray.shutdown()


class Prepared:
    """What is looked at of a prepared run."""

    def __init__(self, model: str, folder: Path) -> None:
        named = config_of({"model": {"path": model}, "data": {"path": "/d.jsonl"}})
        self.copies, self.folder = tuple(copies_of(named)), folder
        self.config, _ = with_copies(named, str)


def model_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w" * 1000)
    return folder


def test_a_node_says_what_it_does_not_see_and_fetches_what_has_an_address(nodes: Nodes, folder: Path) -> None:
    places = {nodes.first: ["learner-rank-0", "filter"], nodes.second: ["learner-rank-1", "generator-0"]}
    hidden, run = model_in(folder / "own/model"), folder / "own/run"
    run.mkdir()
    with held(run), pytest.raises(ConfigError) as refusal:
        NodeFiles(prepared(str(hidden), run)).check(places)
    assert nodes.second[:8] in str(refusal.value)
    assert nodes.first[:8] not in str(refusal.value)
    assert f"there is no {hidden} (model.path)" in str(refusal.value)
    assert f"the run folder {run} is not the one that the driver sees" in str(refusal.value)

    shared = prepared(f"file://{model_in(folder / 'model')}", folder)
    copy = nodes.root / shared.config.model.path.lstrip("/")
    assert not copy.exists()
    with held(folder):
        NodeFiles(shared).check(places)
    assert (copy / "model.safetensors").read_bytes() == b"w" * 1000


def prepared(model: str, folder: Path) -> Any:
    return Prepared(model, folder)
