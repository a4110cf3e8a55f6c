"""The copy of a run folder at an address, whose checkpoints are complete there when they are complete here."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest

from cluster.cli import main
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.config.run_files import LOCK
from cluster.preparing import storage
from cluster.preparing.folders import make_run_folder
from cluster.preparing.storage import base_of, copy_of
from cluster.running import mirror as mirrors
from cluster.running.attempts import BEFORE_ALL
from cluster.running.checkpoints import complete_checkpoints, newest_checkpoint, prune
from cluster.running.mirror import CopyLost, Mirror, brought_here, is_taken, mirrored, names_at, newest_in
from cluster.running.resume import find_started
from cluster.running.rewinding import rewind
from tests.s3 import s3_bucket

ADDRESS = "memory://runs/demo"
MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mirrors, "FIRST_WAIT", 0.0)
    yield
    MEMORY.store.clear()


def newest_at(address: str) -> int | None:
    return newest_in(names_at(address))


def put(folder: Path, name: str, text: str = "x") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def checkpoint(folder: Path, step: int, text: str = "w", *, complete: bool = True) -> None:
    put(folder, f"checkpoints/step-{step}/model.safetensors", text)
    put(folder, f"checkpoints/step-{step}/state/run.json", text)
    if complete:
        put(folder, f"checkpoints/step-{step}/complete", "")


@pytest.fixture
def folder() -> Path:
    """Of a run with a checkpoint."""
    made = copy_of(ADDRESS)
    put(made, "config.toml")
    put(made, LOCK)
    put(made, "metrics.jsonl", '{"step": 1}\n{"step": 2}\n')
    put(made, "trajectories/step-1/groups.parquet")
    checkpoint(made, 2)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def mirror(folder: Path, said: list[str]) -> Mirror:
    return Mirror(folder, ADDRESS, said.append)


def there() -> dict[str, str]:
    return {path.removeprefix("/runs/demo/"): file.getvalue().decode() for path, file in MEMORY.store.items()}


def test_the_address_holds_what_the_folder_holds(mirror: Mirror, folder: Path) -> None:
    mirror.bring()
    assert set(there()) == {
        "config.toml",
        "metrics.jsonl",
        "trajectories/step-1/groups.parquet",
        *(f"checkpoints/step-2/{name}" for name in ("model.safetensors", "state/run.json", "complete")),
    }
    put(folder, "metrics.jsonl", '{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    checkpoint(folder, 3)
    mirror.bring()
    assert there()["metrics.jsonl"].count("step") == 3
    assert newest_at(ADDRESS) == 3


def test_a_checkpoint_in_the_making_waits_and_one_that_is_pruned_goes(mirror: Mirror, folder: Path) -> None:
    checkpoint(folder, 4, complete=False)
    mirror.bring()
    assert not [name for name in there() if "step-4" in name]
    checkpoint(folder, 4)
    prune(folder, 1)
    mirror.bring()
    assert {name.split("/")[1] for name in there() if name.startswith("checkpoints")} == {"step-4"}


def test_a_marker_comes_last_and_goes_first(mirror: Mirror, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete: list[bool] = []

    def watched(system: object, local: Path, path: str) -> None:
        complete.append("checkpoints/step-2/complete" in there())
        storage.upload(system, local, path)  # type: ignore[arg-type]

    monkeypatch.setattr(mirrors, "upload", watched)
    mirror.bring()
    assert complete == [False] * 6
    complete.clear()
    checkpoint(folder, 2, "trained anew")
    mirror.bring()
    assert complete == [False] * 3
    assert there()["checkpoints/step-2/model.safetensors"] == "trained anew"
    assert newest_at(ADDRESS) == 2


def test_a_checkpoint_that_goes_while_it_is_brought_is_not_complete_there(
    mirror: Mirror, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned_meanwhile(system: object, local: Path, path: str) -> None:
        if local.name == "run.json":
            local.unlink()
        storage.upload(system, local, path)  # type: ignore[arg-type]

    monkeypatch.setattr(mirrors, "upload", pruned_meanwhile)
    mirror.bring()
    assert "checkpoints/step-2/model.safetensors" in there()
    assert newest_at(ADDRESS) is None


def test_what_is_brought_here_goes_on_and_what_was_undone_does_not_count(mirror: Mirror, folder: Path) -> None:
    checkpoint(folder, 4)
    put(folder, "metrics.jsonl", "".join(f'{{"step": {step}}}\n' for step in (1, 2, 3, 4)))
    put(folder, "trajectories/step-4/groups.parquet")
    mirror.bring()
    os.rename(folder, folder.with_name("of another machine"))
    assert brought_here(f"{ADDRESS}/checkpoints/step-2", str) == folder / "checkpoints/step-2"
    assert list(complete_checkpoints(folder)) == [2, 4]
    rewind(folder, 2)
    Mirror(folder, ADDRESS, str).bring()
    assert newest_at(ADDRESS) == 2
    assert there()["metrics.jsonl"].count("step") == 2
    assert "trajectories/step-4/groups.parquet" not in there()
    assert "undone/1/trajectories/step-4/groups.parquet" in there()


def test_only_what_changed_is_brought_again_also_by_another_process(mirror: Mirror, folder: Path) -> None:
    mirror.bring()
    MEMORY.store["/runs/demo/config.toml"].seek(0)
    before = {path: id(file) for path, file in MEMORY.store.items()}
    put(folder, "evals.jsonl")
    Mirror(folder, ADDRESS, str).bring()
    assert {path for path, file in MEMORY.store.items() if before.get(path) != id(file)} == {"/runs/demo/evals.jsonl"}


def test_a_folder_that_is_newer_here_is_left_and_an_older_one_is_kept_beside(mirror: Mirror, folder: Path) -> None:
    mirror.bring()
    checkpoint(folder, 3)
    assert newest_checkpoint(brought_here(ADDRESS, str)) == folder / "checkpoints/step-3"
    mirror.bring()
    (folder / "checkpoints/step-3/complete").unlink()
    put(folder, "mine")
    assert newest_checkpoint(brought_here(ADDRESS, str)) == folder / "checkpoints/step-3"
    assert not (folder / "mine").exists()
    assert (folder.with_name("demo.replaced-1") / "mine").is_file()


def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run with a complete checkpoint at memory://runs/none"):
        brought_here("memory://runs/none", str)


def broken(*words: object) -> None:
    raise ConnectionError("no network")


def test_an_address_that_fails_is_said_once_and_caught_up_with(
    mirror: Mirror, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "upload", broken)
    monkeypatch.setattr(mirrors, "EVERY_SECONDS", 0.01)
    tried = threading.Event()
    monkeypatch.setattr(mirrors, "upload", lambda *words: (tried.set(), broken())[0])
    mirror.start()
    assert tried.wait(30)
    monkeypatch.setattr(mirrors, "upload", storage.upload)
    mirror.finish()
    assert said == [
        f"the copy of the run at {ADDRESS} is behind: ConnectionError: no network. It is tried again",
        f"the copy of the run at {ADDRESS} has caught up",
        f"the run is at {ADDRESS}, too",
    ]


def run_at(address: str) -> RunConfig:
    return config_of({"world": {"name": "addition"}, "run": {"folder": address, "name": "demo"}})


def test_a_run_whose_last_files_cannot_be_brought_ends_with_that(
    folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run_at("memory://runs").run
    monkeypatch.setattr(mirrors, "upload", broken)
    with (
        pytest.raises(CopyLost, match=r"no network.*winnow train --resume"),
        mirrored(folder, settings, said.append) as go,
    ):
        go()
    failed = ValueError("the run's own")
    with suppress(ValueError), mirrored(folder, settings, said.append) as go:
        go()
        raise failed
    assert "no network" in failed.__notes__[0]


def test_a_run_that_is_interrupted_ends_at_once_and_says_what_brings_the_rest(
    folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uploading, forever = threading.Event(), threading.Event()
    monkeypatch.setattr(mirrors, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(mirrors, "LEAVE_SECONDS", 0.01)
    monkeypatch.setattr(mirrors, "upload", lambda *words: (uploading.set(), forever.wait(60)))
    hurried = KeyboardInterrupt()
    try:
        with suppress(KeyboardInterrupt), mirrored(folder, run_at("memory://runs").run, said.append) as go:
            go()
            assert uploading.wait(30)
            raise hurried
        assert not forever.is_set()
        assert hurried.__notes__ == [
            f"the copy of the run at {ADDRESS} is behind the run folder, as it was ended at once; going on from "
            f"{folder} brings the rest"
        ]
    finally:
        forever.set()


def test_an_interrupt_while_the_last_files_are_brought_ends_that(
    folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def interrupted(*words: object) -> None:
        tries.append(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(mirrors, "upload", interrupted)
    with (
        pytest.raises(KeyboardInterrupt) as end,
        mirrored(folder, run_at("memory://runs").run, said.append) as go,
    ):
        go()
    assert len(tries) == 1
    assert "brings the rest" in end.value.__notes__[0]


def test_an_address_that_is_gone_is_not_taken_for_a_file_that_is(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*words: object) -> None:
        raise FileNotFoundError("no such bucket")

    monkeypatch.setattr(mirrors, "upload", gone)
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        mirror.bring()


def test_a_run_that_never_began_leaves_nothing_at_the_address(folder: Path, said: list[str]) -> None:
    with pytest.raises(ConfigError), mirrored(folder, run_at("memory://runs").run, said.append):
        raise ConfigError("the cluster is too small")
    with mirrored(folder, run_at("runs").run, said.append) as go:
        go()
    assert there() == {}


def test_a_name_that_is_taken_at_the_address_gets_a_number(mirror: Mirror, tmp_path: Path) -> None:
    mirror.bring()
    settings = run_at("memory://runs").run
    made = make_run_folder("demo", tmp_path / "elsewhere", lambda name: is_taken(settings, name))
    assert made.name == "demo-2"
    assert base_of(settings) / "demo" == copy_of(ADDRESS)


def test_resume_auto_begins_where_no_checkpoint_is_complete_at_the_address(mirror: Mirror, folder: Path) -> None:
    (folder / "checkpoints/step-2/complete").unlink()
    mirror.bring()
    os.rename(folder, folder.with_name("of another machine"))
    assert find_started(run_at("memory://runs")) == (folder, None)


def test_a_try_without_a_checkpoint_is_moved_to_undone_at_the_address_too(mirror: Mirror, folder: Path) -> None:
    mirror.bring()
    MEMORY.rm("/runs/demo/checkpoints/step-2/complete")  # as if the machine was lost before it came
    before = there()
    os.rename(folder, folder.with_name("of another machine"))
    find_started(run_at("memory://runs"))
    rewind(folder, BEFORE_ALL)
    Mirror(folder, ADDRESS, str).bring()
    moved = {"metrics.jsonl", "trajectories/step-1/groups.parquet"}
    moved |= {f"checkpoints/step-2/{name}" for name in ("model.safetensors", "state/run.json")}
    assert {f"undone/1/{name}": before[name] for name in moved} | {"config.toml": "x", "metrics.jsonl": ""} == there()


def test_a_folder_is_left_where_the_address_has_what_came_from_it_and_fetched_where_another_wrote_there(
    mirror: Mirror, folder: Path
) -> None:
    (folder / "checkpoints/step-2/complete").unlink()
    mirror.bring()
    put(folder, "metrics.jsonl", '{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    find_started(run_at("memory://runs"))
    assert (folder / "metrics.jsonl").read_text().count("step") == 3
    MEMORY.pipe("/runs/demo/trajectories/step-4/groups.parquet", b"of another machine")
    find_started(run_at("memory://runs"))
    assert (folder / "trajectories/step-4/groups.parquet").is_file()
    assert (folder.with_name("demo.replaced-1") / "metrics.jsonl").read_text().count("step") == 3


def test_what_others_put_at_the_address_stays(mirror: Mirror, folder: Path) -> None:
    MEMORY.pipe("/runs/demo/mine", b"x")
    MEMORY.pipe("/runs/demo/metrics.jsonl", b"older")
    mirror.bring()
    assert there()["mine"] == "x"
    assert there()["metrics.jsonl"].count("step") == 2
    (folder / "metrics.jsonl").unlink()
    mirror.bring()
    assert set(there()) & {"mine", "metrics.jsonl"} == {"mine"}


def test_an_address_that_holds_something_else_than_a_run_is_refused() -> None:
    MEMORY.pipe("/runs/demo/photo.png", b"x")
    with pytest.raises(ConfigError, match="memory://runs/demo is there, and not the folder of a run"):
        find_started(run_at("memory://runs"))


@pytest.mark.parametrize("address", ["hf://datasets/me/runs", "https://host/runs"])
def test_an_address_that_cannot_be_written_to_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"run.folder must be a folder, or the address of one that can be written to"):
        run_at(address)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the server's packages
def test_a_run_in_s3_is_brought_there_and_back(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    with s3_bucket(monkeypatch) as bucket:
        address = f"s3://{bucket}/runs/demo"
        folder = copy_of(address)
        put(folder, "metrics.jsonl", '{"step": 2}\n')
        checkpoint(folder, 2)
        assert newest_at(address) is None
        mirror = Mirror(folder, address, said.append).start()
        mirror.finish()
        assert said == [f"the run is at {address}, too"]
        assert newest_at(address) == 2
        os.rename(folder, folder.with_name("of another machine"))
        assert newest_checkpoint(brought_here(address, str)) == folder / "checkpoints/step-2"
        (folder / "checkpoints/step-2/complete").unlink()
        checkpoint(folder, 3)
        Mirror(folder, address, str).bring()
        assert newest_at(address) == 3


def test_the_command_line_goes_on_from_an_address(
    mirror: Mirror, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", "memory://runs/none"]) == 2
    assert "there is no run with a complete checkpoint at memory://runs/none" in capsys.readouterr().err
    (folder / "config.toml").write_text('[world]\nname = "addition"\n[run]\nfolder = "memory://runs"\nname = "demo"\n')
    mirror.bring()
    os.rename(folder, folder.with_name("of another machine"))
    assert main(["train", "--resume", ADDRESS]) == 2  # what stands for the state of a run here is none
    shown = capsys.readouterr()
    assert "fetched in" in shown.out
    assert f"{folder}/checkpoints/step-2/state" in shown.err
