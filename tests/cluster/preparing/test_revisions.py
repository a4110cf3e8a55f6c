"""Models and data of the Hub by its real client, from a server on this machine: which commit is read, and kept."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.config.errors import ConfigError
from cluster.preparing.revisions import REVISIONS, fixed, read_revisions, write_revisions
from cluster.preparing.storage import copy_of
from tests.hub import Hub, hub

# One process for all tests, as the client reads its environment when it is imported. A line is a try of a run.
CHILD = """
import json, os, sys
from pathlib import Path
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.preparing.copies import revisions_of, with_copies
from cluster.preparing.revisions import read_revisions, write_revisions

for line in sys.stdin:
    asked, said = json.loads(line), []
    folder, os.environ["WINNOW_CACHE"] = Path(asked["folder"]), asked["cache"]
    try:
        config, copies = with_copies(config_of(asked["tree"]), said.append, read_revisions(folder))
        write_revisions(folder, revisions_of(copies))
        answer = {"config": config.model_dump(mode="json"), "said": said}
    except ConfigError as refused:
        answer = {"refused": str(refused)}
    print(json.dumps(answer), flush=True)
"""
SUMS = "hf://datasets/me/sums"
GONE = "0" * 40  # a commit


def environment(hub: Hub) -> dict[str, str]:
    """With which the real client asks a hub on this machine."""
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return env | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


class Machine:
    """Where runs are tried."""

    def __init__(self, hub: Hub, child: "subprocess.Popen[str]", folder: Path) -> None:
        self.hub, self.folder, self._child = hub, folder, child
        self.cache = folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        """Of a process here."""
        return environment(self.hub) | {"WINNOW_CACHE": str(self.cache)}

    def run(self, name: str = "run", **sections: Any) -> dict[str, Any]:
        """A try of the run of this name."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        tree = {"model": {"path": "/m"}, "data": {"path": f"{SUMS}/train-*.jsonl"}} | sections
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(
            json.dumps({"folder": str(folder), "cache": str(self.cache), "tree": tree}),
            file=self._child.stdin,
            flush=True,
        )
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer

    def data(self, name: str = "run", **sections: Any) -> list[str]:
        """What it reads as its data."""
        answer = self.run(name, **sections)
        path = Path(answer["config"]["data"]["path"])
        return [file.read_text() for file in sorted(path.parent.glob(path.name))]

    def revisions(self, name: str = "run") -> dict[str, str]:
        return read_revisions(self.folder / name)


@pytest.fixture(scope="module")
def _child() -> Iterator[tuple[Hub, "subprocess.Popen[str]"]]:
    with hub() as found:
        command, pipe = [sys.executable, "-c", CHILD], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment(found), text=True) as child:
            yield found, child
            assert child.stdin is not None
            child.stdin.close()


@pytest.fixture
def machine(_child: tuple[Hub, "subprocess.Popen[str]"], tmp_path: Path) -> Machine:
    found, child = _child
    found.branches.clear()
    found.commits.clear()
    found.asked.clear()
    return Machine(found, child, tmp_path)


def test_a_run_reads_the_commit_that_it_began_with_though_its_branch_moves_on(machine: Machine) -> None:
    first = machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"1", "train-1.jsonl": b"2", "test.jsonl": b"3"})
    assert machine.data() == ["1", "2"]
    assert machine.revisions() == {f"{SUMS}/train-*.jsonl": f"{SUMS}@{first}/train-*.jsonl"}
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"4"})
    assert machine.data("another") == ["4"]
    assert machine.data() == ["1", "2"]
    machine.cache = machine.cache / "of another machine"
    assert machine.data() == ["1", "2"]


def test_a_commit_or_branch_in_the_address_is_what_is_read(machine: Machine) -> None:
    first = machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"1"})
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"2"}, branch="next")
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"3"})
    assert machine.data(data={"path": f"{SUMS}@{first}/train-0.jsonl"}) == ["1"]
    assert not machine.revisions()  # there is nothing to keep
    assert machine.data(data={"path": f"{SUMS}@next/train-0.jsonl"}) == ["2"]
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"4"}, branch="next")
    assert machine.data(data={"path": f"{SUMS}@next/train-0.jsonl"}) == ["2"]
    assert machine.data(data={"path": f"{SUMS}/train-0.jsonl"}) == ["3"]  # another address, as when a setting changes
    assert len(machine.revisions()) == 2


def test_models_and_several_files_have_their_commits_and_copies_side_by_side(machine: Machine) -> None:
    one = machine.hub.commit("me/tiny", {"config.json": b"{}", "model.safetensors": b"1", "model.bin": b"never"})
    machine.hub.commit("datasets/me/sums", {"a/train.jsonl": b"1", "b/test.jsonl": b"2"})
    path = {f"{SUMS}/a/train.jsonl": 1.0, "/here.jsonl": 2.0}
    answer = machine.run(model={"path": "hf://me/tiny"}, data={"path": path}, eval={"path": f"{SUMS}/b"})
    model = Path(answer["config"]["model"]["path"])
    assert sorted(file.name for file in model.iterdir()) == ["config.json", "model.safetensors"]
    assert model.name == "tiny"  # no @, which is what some programs take for a revision
    assert sorted(answer["config"]["data"]["path"].values()) == [1.0, 2.0]
    assert list(machine.revisions()) == ["hf://me/tiny", f"{SUMS}/a/train.jsonl", f"{SUMS}/b"]
    assert f"hf://me/tiny@{one} (model.path): 2 files, " in answer["said"][0]
    two = machine.hub.commit("me/tiny", {"config.json": b"{}", "model.safetensors": b"22"})
    other = machine.run("another", model={"path": "hf://me/tiny"}, data={"path": "/here.jsonl"})
    assert one != two
    assert (Path(other["config"]["model"]["path"]) / "model.safetensors").read_bytes() == b"22"
    assert (model / "model.safetensors").read_bytes() == b"1"


def test_a_copy_of_a_commit_is_not_asked_for_again_unless_something_of_it_is_gone(machine: Machine) -> None:
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"1", "train-1.jsonl": b"2"})
    machine.data()
    machine.hub.asked.clear()
    answer = machine.run()
    assert machine.hub.asked == []  # as on a machine without a network
    assert "2 files there from before" in answer["said"][0]
    path = Path(answer["config"]["data"]["path"])
    (path.parent / "train-1.jsonl").write_text("cut short")
    assert machine.data() == ["1", "2"]
    assert machine.hub.asked


def test_a_commit_that_is_gone_and_what_is_not_there_are_refused_with_their_names(machine: Machine) -> None:
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": b"2"})
    (machine.folder / "run").mkdir()
    write_revisions(machine.folder / "run", {f"{SUMS}/train-*.jsonl": f"{SUMS}@{GONE}/train-*.jsonl"})
    refused = machine.run()["refused"]
    assert refused == (
        f"data.path: there is nothing at {SUMS}@{GONE}/train-*.jsonl. This is the commit that {SUMS}/train-*.jsonl led "
        "to when the run began, and it goes on with no other"
    )
    assert machine.data("another") == ["2"]
    for address, why in (
        ("hf://datasets/me/none/x.jsonl", "repository not found"),
        (f"{SUMS}@gone/x.jsonl", "revision not found"),
    ):
        refused = machine.run("third", data={"path": address})["refused"]
        assert refused.startswith(f"data.path: {address} cannot be read: FileNotFoundError: ")
        assert why in refused
        assert "HF_TOKEN" in refused
    assert machine.run("third", data={"path": f"{SUMS}/x.jsonl"})["refused"].startswith("data.path: there is nothing")


def test_the_file_is_added_to_and_damage_is_named(tmp_path: Path) -> None:
    write_revisions(tmp_path, {})
    assert not (tmp_path / REVISIONS).exists()
    write_revisions(tmp_path, {"hf://a/b": "hf://a/b@1"})
    write_revisions(tmp_path, {"hf://a/c": "hf://a/c@2"})
    assert read_revisions(tmp_path) == {"hf://a/b": "hf://a/b@1", "hf://a/c": "hf://a/c@2"}
    for damaged in ("[]", "{"):
        (tmp_path / REVISIONS).write_text(damaged)
        with pytest.raises(ConfigError, match=r"revisions\.json is damaged"):
            read_revisions(tmp_path)


def test_what_is_at_other_addresses_and_in_buckets_has_no_commit() -> None:
    for address in ("s3://bucket/m", "hf://buckets/me/mine/x.jsonl", f"hf://me/tiny@{'a' * 40}/config.json"):
        assert fixed(address) == address


def test_copies_of_two_commits_never_share_a_place() -> None:
    one, two = (copy_of(f"hf://me/tiny@{letter * 40}") for letter in "ab")
    assert one != two
    assert {one.name, two.name} == {"tiny"}
    assert copy_of("s3://me/tiny@home") != copy_of("s3://me/tiny")


@pytest.mark.slow
def test_winnow_train_keeps_the_commits_of_the_run_that_it_begins_again_and_adds_others(machine: Machine) -> None:
    """The try ends before Ray starts: there is no room for so many generators."""
    from learner.models.tiny import write_tiny_model

    def rows(count: int) -> bytes:
        return "".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(count)).encode()

    write_tiny_model(machine.folder / "tiny", alphabet="0123456789+=", seed=0)
    machine.hub.commit("me/tiny", {file.name: file.read_bytes() for file in (machine.folder / "tiny").iterdir()})
    first = machine.hub.commit("datasets/me/sums", {"train-0.jsonl": rows(3)})
    machine.run()
    machine.hub.commit("datasets/me/sums", {"train-0.jsonl": rows(5)})
    (machine.folder / "run/lock").touch()  # as a run leaves its folder that was killed before its first checkpoint
    file = machine.folder / "run.toml"
    file.write_text(f'model.path = "hf://me/tiny"\ndata.path = "{SUMS}/train-*.jsonl"\nrollout.max_new_tokens = 8\n')
    words = [str(file), f"run.folder={machine.folder}", "run.name=run", "cluster.generators=999", "--resume", "auto"]
    ended = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "train", *words],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "there is no room for" in ended.stderr
    assert f"{SUMS}@{first}/train-*.jsonl (data.path): 1 file" in ended.stdout
    assert machine.revisions()[f"{SUMS}/train-*.jsonl"] == f"{SUMS}@{first}/train-*.jsonl"
    assert set(machine.revisions()) == {"hf://me/tiny", f"{SUMS}/train-*.jsonl"}
