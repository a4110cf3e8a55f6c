"""What nodes are asked about the files that they read and the run folder that they write into."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from cluster.config.reading import config_of
from cluster.placement import sight
from cluster.placement.sight import NodeFiles, NodePath, RunFolder, Sight, look, read_on_nodes
from cluster.preparing.copies import Copy
from cluster.preparing.folders import held
from cluster.preparing.storage import Part, copy_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sight, "PAUSE", 0.001)


def test_a_node_without_a_path_says_so_with_its_setting(tmp_path: Path) -> None:
    there, missing = (NodePath(setting="model.path", path=str(path)) for path in (tmp_path, tmp_path / "no"))
    assert look([there], None).problems == ()
    (problem,) = look([there, missing], None).problems
    assert problem.startswith(f"there is no {tmp_path / 'no'} (model.path): ")
    assert "s3://" in problem


def test_a_node_fetches_what_it_lacks_once_and_says_how_long_it_took(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/config.json").write_text("{}")
    address = f"file://{tmp_path}/there"
    one = NodePath(setting="model.path", path=str(copy_of(address)), address=address)
    assert look([one], None).fetched[0].startswith(f"{address}: 1 file, ")
    assert look([one], None).fetched == (f"{address}: 1 file there from before",)
    gone = NodePath(setting="model.path", path=str(tmp_path / "x"), address=f"file://{tmp_path}/gone")
    assert look([gone], None).problems == (f"model.path: there is nothing at file://{tmp_path}/gone",)


def test_a_run_folder_that_is_another_one_on_a_node_is_refused(tmp_path: Path) -> None:
    with held(tmp_path):
        holder = (tmp_path / "lock").read_text()
    assert look([], RunFolder(path=str(tmp_path), holder=holder)).problems == ()
    for wrong in (
        RunFolder(path=str(tmp_path), holder="process 1 on elsewhere\n"),
        RunFolder(path="/no", holder=holder),
    ):
        (problem,) = look([], wrong).problems
        assert problem.startswith(f"the run folder {wrong.path} is not the one that the driver sees")
        assert "all nodes share" in problem


def test_a_run_folder_that_a_file_system_shows_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    def shown(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 3:
            (tmp_path / "lock").write_text("process 1 on head\n")

    monkeypatch.setattr(sight.time, "sleep", shown)
    assert look([], RunFolder(path=str(tmp_path), holder="process 1 on head\n")).problems == ()
    assert paused == [0.0, sight.PAUSE, sight.PAUSE]
    assert look([], RunFolder(path=str(tmp_path), holder="process 2 on head\n")).problems
    assert len(paused) == 3 + sight.LOOKS


def test_all_that_actors_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def reward(prompt, response, reference): return 1.0")
    config = config_of(
        {
            "model": {"path": "/m"},
            "data": {"path": "/d.jsonl"},
            "warmup": {"updates": 3, "path": "/w.jsonl"},
            "reward": {"name": "own", "own": {"file": str(tmp_path / "mine.py")}},
        }
    )
    assert read_on_nodes(config) == {
        "model.path": "/m",
        "warmup.path": "/w.jsonl",
        "reward.own.file": str(tmp_path / "mine.py"),
    }


class Prepared:
    """What is looked at of a prepared run."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of({"model": {"path": "/copy"}, "data": {"path": "/d.jsonl"}})
        self.copies = (Copy(setting="model.path", address="s3://b/m", path="/copy", part=Part.MODEL),)
        self.folder = folder


class Asked:
    """Stands for Ray's tasks on nodes; keeps what each was asked. Without an answer they never end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Sight | RayError | None) -> None:
        self.asked: dict[str, tuple[list[NodePath], RunFolder | None]] = {}
        self.answer, self._node = answer, ""
        monkeypatch.setattr(sight.ray, "remote", lambda function: self)
        monkeypatch.setattr(sight, "NodeAffinitySchedulingStrategy", lambda node, soft: node)

    def options(self, *, num_cpus: int, scheduling_strategy: str) -> "Asked":
        self._node = scheduling_strategy
        return self

    def remote(self, paths: list[NodePath], folder: RunFolder | None) -> Any:
        self.asked[self._node] = (paths, folder)

        async def answer() -> Sight:
            while self.answer is None:
                await asyncio.sleep(1)
            if isinstance(self.answer, RayError):
                raise self.answer
            return self.answer

        return answer()


def test_each_node_is_asked_for_what_its_actors_read_and_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Asked(monkeypatch, Sight(problems=(), fetched=()))
    files = NodeFiles(Prepared(tmp_path))  # type: ignore[arg-type]
    ranks = ["learner-rank-0", "learner-rank-1"]
    places = {"a": ranks, "b": ["generator-0"], "c": ["verifier-0"], "d": ["filter"]}
    asyncio.run(files.furnish(places))
    assert {node: [(path.address, path.part) for path in paths] for node, (paths, _) in ray.asked.items()} == {
        "a": [("s3://b/m", Part.MODEL)],
        "b": [("s3://b/m", Part.CONFIG)],
        "d": [],
    }
    assert {node for node, (_, folder) in ray.asked.items() if folder} == {"a", "d"}
    ray.asked.clear()
    places = {"a": ["learner-rank-0"], "b": ["generator-0", "learner-rank-1"], "e": ["generator-1"]}
    asyncio.run(files.furnish(places))
    assert set(ray.asked) == {"b", "e"}  # only what is new: a node, or other actors on one


def test_a_run_that_began_on_one_node_has_others_fetch_when_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Asked(monkeypatch, Sight(problems=(), fetched=()))
    monkeypatch.setattr(sight, "living", lambda: {"head": {"NodeID": "a"}})
    files = NodeFiles(Prepared(tmp_path))  # type: ignore[arg-type]
    files.check({"a": ["learner-rank-0", "generator-0"]})
    asyncio.run(files.furnish({"a": ["learner-rank-0", "generator-0"]}))
    assert ray.asked == {}  # the driver has looked itself
    asyncio.run(files.furnish({"a": ["learner-rank-0"], "b": ["generator-0"]}))
    assert set(ray.asked) == {"b"}


def test_what_a_node_that_comes_later_lacks_is_said_and_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = Asked(monkeypatch, Sight(problems=("no such bucket",), fetched=()))
    files = NodeFiles(Prepared(tmp_path))  # type: ignore[arg-type]
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    assert caplog.text.count("on b: no such bucket") == 2
    ray.answer = Sight(problems=(), fetched=())
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    ray.asked.clear()
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    assert ray.asked == {}


@pytest.mark.parametrize("failure", [RayError("the node is gone"), None])
def test_a_look_that_fails_or_takes_too_long_is_said(
    failure: RayError | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = Asked(monkeypatch, failure)
    monkeypatch.setattr(sight, "FETCH_SECONDS", 0.01 if failure is None else 60.0)
    files = NodeFiles(Prepared(tmp_path))  # type: ignore[arg-type]
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    assert f"on b: {failure or 'models and data were not fetched within 0.01 s'}" in caplog.text
    ray.asked.clear()
    asyncio.run(files.furnish({"b": ["generator-1"]}))
    assert set(ray.asked) == {"b"}
