"""Loggers: each real client in its offline mode where its package is installed, and those that fail or hang."""

import importlib.util
import json
import logging
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest

from actors.secrets import HIDDEN
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG
from cluster.reporting import following
from cluster.reporting.clients import Client, LoggedRun, MLflow
from cluster.reporting.following import follow
from cluster.reporting.loggers import FOLDER, LoggerProcess, Loggers, check_loggers
from cluster.reporting.metric_table import METRICS
from cluster.reporting.outputs import MetricsWriter

LINE = dict.fromkeys(METRICS, 0.5) | {"accuracy": None, "bottleneck": "train", "dropped": {"deadline": 1}}
SETTINGS = """
[run]
name = "run"
note = "a note"
[learner]
lr = 1e-6
[data.path]
"/d/train-*.jsonl" = 1
"s3://b/x.parquet" = 2
"""
SECRET = "correct horse battery"
# As a client says where it was sent, with the password that it was given.
REFUSED = f"API request to https://me:{SECRET}@host failed: {SECRET} is no password"
NUMBERS = {name for name in METRICS if LINE[name] is not None}


def write(folder: Path, *steps: int) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(LINE | {"step": step}) + "\n" for step in steps)


class Recorded:
    """A client that keeps what it gets, and fails as often as it is told."""

    def __init__(self, failures: int = 0, failure: str = "no network\nand more") -> None:
        self.id, self.steps, self.names, self.closed = "", [], set(), False
        self.runs: list[LoggedRun] = []
        self._failures, self._failure = failures, failure

    def __call__(self, run: LoggedRun) -> "Recorded":
        self.runs.append(run)
        self.id = run.id
        return self

    def log(self, numbers: Mapping[str, float]) -> None:
        if self._failures:
            self._failures -= 1
            raise ConnectionError(self._failure)
        self.names |= set(numbers)
        self.steps.append(int(numbers["step"]))

    def close(self) -> None:
        self.closed = True


def followed(
    folder: Path,
    client: Callable[[LoggedRun], Client],
    step: int = 0,
    looks: Iterator[Callable[[], Any]] | None = None,
    config: Mapping[str, Any] = MappingProxyType({}),
) -> list[float]:
    """Follows a run to its end, with something done before each look at it; gives how long each wait was to be."""
    (folder / FOLDER).mkdir(exist_ok=True)
    waited: list[float] = []

    def waits(seconds: float) -> bool:
        waited.append(seconds)
        before = next(looks, None) if looks is not None else None
        return before is None or before() is True

    run = LoggedRun(id="", known=False, name="run", folder=folder, config=config, step=step)
    follow(folder, "wandb", run, waits, client)
    return waited


def kept(folder: Path, name: str = "wandb") -> dict[str, Any]:
    return json.loads((folder / FOLDER / f"{name}.json").read_text())


def test_a_logger_gets_every_number_of_every_step_under_its_name_once(tmp_path: Path) -> None:
    client = Recorded()
    write(tmp_path, 1)
    followed(tmp_path, client, looks=iter([lambda: write(tmp_path, 2, 3), lambda: None]))
    assert client.steps == [1, 2, 3]
    assert client.names == NUMBERS
    assert client.closed


def test_a_logger_gets_the_accuracy_of_an_evaluation_that_was_over_later_than_its_step_once(tmp_path: Path) -> None:
    class Accuracies(Recorded):
        def log(self, numbers: Mapping[str, float]) -> None:
            super().log(numbers)
            if len(numbers) == 2:
                told.append((numbers["step"], numbers["eval_accuracy"]))

    told: list[tuple[float, float]] = []

    def evaluated(*lines: tuple[int, int, float]) -> None:
        with (tmp_path / "evals.jsonl").open("a") as file:
            for step, evaluators, accuracy in lines:
                file.write(json.dumps({"step": step, "evaluators": evaluators, "accuracy": accuracy}) + "\n")

    write(tmp_path, 1, 2)
    evaluated((0, 1, 0.25), (1, 0, 0.5))  # the latter stands in the line of its step
    client = Accuracies(failures=1)
    followed(tmp_path, client, looks=iter([lambda: None, lambda: evaluated((2, 2, 0.75)), lambda: None]))
    assert told == [(0, 0.25), (2, 0.75)]
    assert client.steps == [1, 2, 0, 2]
    followed(tmp_path, Accuracies(), step=2)
    assert told == [(0, 0.25), (2, 0.75)]
    followed(tmp_path, Accuracies(), step=1)  # the run was rewound, and step 2 comes again
    assert told == [(0, 0.25), (2, 0.75), (2, 0.75)]


def test_a_line_that_is_not_whole_yet_waits(tmp_path: Path) -> None:
    client = Recorded()
    whole = json.dumps(LINE | {"step": 1}) + "\n"
    file = tmp_path / "metrics.jsonl"
    file.write_text(whole[:40])
    followed(tmp_path, client, looks=iter([lambda: None, lambda: file.write_text(whole) and None]))
    assert client.steps == [1]


def test_a_step_that_fails_is_tried_again_and_none_is_lost(tmp_path: Path) -> None:
    client = Recorded(failures=2)
    write(tmp_path, 1, 2)
    said: list[str] = []
    waited = followed(tmp_path, client, looks=iter([lambda: None, lambda: said.append(kept(tmp_path)["problem"])] * 2))
    assert client.steps == [1, 2]
    assert said[0] == "has a problem: ConnectionError: no network"
    assert waited[0] < waited[1] == following.RETRY_SECONDS
    assert kept(tmp_path)["problem"] == ""


def test_what_a_logger_keeps_of_a_failure_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    write(tmp_path, 1)
    followed(tmp_path, Recorded(failures=1, failure=REFUSED))
    said = kept(tmp_path)["problem"]
    assert said.endswith(f"API request to https://{HIDDEN}@host failed: {HIDDEN} is no password")


def test_a_run_is_known_by_its_id_from_when_the_logger_has_it(tmp_path: Path) -> None:
    class Killed(Recorded):
        def log(self, numbers: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    write(tmp_path, 1)
    first, again = Killed(), Recorded()
    with pytest.raises(KeyboardInterrupt):
        followed(tmp_path, first)
    followed(tmp_path, again)
    assert [(run.id, run.known) for run in again.runs] == [(first.id, True)]


def test_a_run_that_goes_on_is_the_same_run_there_and_tells_rewound_steps_again(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    first, again = Recorded(), Recorded()
    followed(tmp_path, first)
    (tmp_path / "metrics.jsonl").unlink()
    write(tmp_path, 1, 2, 3, 4)  # rewound to step 2, and trained again
    followed(tmp_path, again, step=2)
    assert again.steps == [3, 4]
    assert again.id == first.id
    assert [run.known for run in (*first.runs, *again.runs)] == [False, True]


def test_steps_that_a_logger_did_not_get_reach_it_when_the_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 1)
    followed(tmp_path, Recorded())
    write(tmp_path, 2, 3)
    again = Recorded()
    followed(tmp_path, again, step=3)
    assert again.steps == [2, 3]


def test_a_server_that_takes_no_parameter_has_one_run_with_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = mock.Mock(spec=["get_experiment_by_name", "create_run", "log_batch", "set_terminated"])
    server.create_run.return_value.info.run_id = "mine"
    taken = []

    def log_batch(run: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
        if params:
            raise ValueError("INVALID_PARAMETER_VALUE")
        taken.append(run)

    server.log_batch.side_effect = log_batch
    monkeypatch.setitem(sys.modules, "mlflow", mock.Mock(MlflowClient=lambda: server))
    monkeypatch.setitem(sys.modules, "mlflow.entities", mock.Mock())
    write(tmp_path, 1, 2)
    followed(tmp_path, MLflow, looks=iter([lambda: None] * 2), config={"run": {"name": "run"}})
    assert server.create_run.call_count == 1
    assert taken == ["mine", "mine"]
    assert kept(tmp_path) == {"id": "mine", "step": 2, "evaluated": -1, "problem": ""}
    assert "INVALID_PARAMETER_VALUE" in capsys.readouterr().err


def test_a_package_that_is_missing_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    check_loggers(["tensorboard"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"run.loggers names 'mlflow'.*pip install mlflow-skinny"):
        check_loggers(["tensorboard", "mlflow"])


def test_without_tensorboard_no_curves_are_written(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, "run", loggers=())
    writer.write(LINE | {"step": 1})
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run with one step."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG).write_text(SETTINGS)
    write(tmp_path / "run", 1)
    return tmp_path / "run"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a package `wandb` with this source before the installed one, for processes that start then."""

    def put(source: str) -> None:
        (tmp_path / "packages").mkdir()
        (tmp_path / "packages" / "wandb.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "packages")

    return put


def wait_for(ready: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_a_client_that_hangs_ends_with_the_run_and_is_named(
    folder: Path, package: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    package("import time\nprint('hangs', flush=True)\ntime.sleep(600)")
    process = LoggerProcess("wandb", folder, "run", 0)
    process.look(1)
    wait_for(lambda: "hangs" in (folder / FOLDER / "wandb.log").read_text())
    pid = process._process.pid
    process.ask_to_end()
    process.end(time.monotonic() + 0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert "the logger wandb has taken the steps up to 0 of 1" in caplog.text


@pytest.mark.slow
def test_a_client_that_fails_is_named_once_with_its_reason(
    folder: Path, package: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    package("class Settings:\n  def __init__(self, **more): pass\ndef init(**more): raise ValueError('no such key')")
    process = LoggerProcess("wandb", folder, "run", 0)
    process.look(1)
    wait_for((folder / FOLDER / "wandb.json").is_file)
    for step in (1, 2, 3):
        process.look(step)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the logger wandb has a problem: ValueError: no such key. It tries again" in caplog.text
    process.ask_to_end()
    process.end(time.monotonic() + 30)


@pytest.mark.slow
def test_what_a_client_prints_and_raises_lies_in_the_run_folder_without_secrets(
    folder: Path, package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    said = "import logging, os, sys\nprint('first', os.environ['WANDB_API_KEY'])\n"
    said += "logging.error('second %s', os.environ['WANDB_API_KEY'])\n"
    package(
        f"{said}class Settings:\n  def __init__(self, **more): pass\ndef init(**more): raise ValueError({REFUSED!r})"
    )
    process = LoggerProcess("wandb", folder, "run", 0)
    process.look(1)
    wait_for((folder / FOLDER / "wandb.json").is_file)
    process.ask_to_end()
    process.end(time.monotonic() + 30)
    printed = (folder / FOLDER / "wandb.log").read_text()
    for line in (f"first {HIDDEN}", f"second {HIDDEN}", f"ValueError: API request to https://{HIDDEN}@host failed"):
        assert line in printed
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert SECRET not in file.read_text(), file


def logged(folder: Path, name: str, *steps: int, after: int = 0) -> None:
    """Has a real client take these steps, in its own process."""
    loggers = Loggers([name], folder, "run", after)
    write(folder, *steps)
    loggers.look(max(steps, default=1))
    loggers.close(60)
    assert kept(folder, name) == {"id": kept(folder, name)["id"], "step": max(steps, default=1), "problem": ""}


def records(file: Path) -> Iterator[bytes]:
    """What an offline file of wandb holds: a log as LevelDB has it, in blocks of 32 KiB, behind a head of 7 bytes."""
    content, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # the whole record, or its last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_offline_has_the_steps_and_goes_on_under_its_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    logged(folder, "wandb", 2)
    logged(folder, "wandb", 3, after=2)
    ids, rows = set(), []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        for record in map(Record.FromString, records(file)):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                rows.append({item.key or item.nested_key[0]: item.value_json for item in record.history.item})
    assert [float(row["step"]) for row in rows] == [1, 2, 3]
    assert all(set(row) >= NUMBERS for row in rows)
    assert ids == {kept(folder)["id"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlflow's use of SQLAlchemy
def test_mlflow_with_a_database_has_the_steps_and_goes_on_in_the_same_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow-skinny sqlalchemy alembic")
    from mlflow import MlflowClient

    address = f"sqlite:///{folder.parent}/ml.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    logged(folder, "mlflow", 2)
    logged(folder, "mlflow", 3, after=2)
    client = MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("winnow").experiment_id])
    assert run.info.run_id == kept(folder, "mlflow")["id"]
    assert run.info.status == "FINISHED"
    assert run.data.params["learner.lr"] == "1e-06"
    assert run.data.params["data.path"] == "{'/d/train-*.jsonl': 1, 's3://b/x.parquet': 2}"
    assert set(run.data.metrics) == NUMBERS
    assert [one.step for one in client.get_metric_history(run.info.run_id, "entropy")] == [1, 2, 3]


@pytest.mark.slow
def test_trackio_local_has_the_steps_and_goes_on_in_the_same_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed: pip install trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(folder.parent / "trackio"))
    logged(folder, "trackio", 2)
    logged(folder, "trackio", 3, after=2)
    with closing(sqlite3.connect(folder.parent / "trackio" / "winnow.db")) as found:
        rows = found.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert [row[2] for row in rows] == [1, 2, 3]
    assert {row[1] for row in rows} == {f"run-{kept(folder, 'trackio')['id']}"}
    assert len({row[0] for row in rows}) == 1
    assert all(set(json.loads(row[3])) == NUMBERS - {"step"} for row in rows)
