"""What a person reads, and which exit status a script gets, when a run ends before its last step."""

import shlex
import signal
from pathlib import Path

import pytest

from actors.errors import ActorDied, Starved, Stopped
from cluster import cli
from cluster.running import train
from cluster.running.ending import how_to_go_on, telling_how_to_go_on
from cluster.running.signals import JOB, Terminated

RUN_FILE = '[world]\nname = "addition"\n'


def checkpoint(run: Path, step: int, *, complete: bool = True) -> Path:
    folder = run / f"checkpoints/step-{step}"
    (folder / "state").mkdir(parents=True)
    (folder / "state/run.json").touch()
    if complete:
        (folder / "complete").touch()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with a complete checkpoint and a newer one that was cut short."""
    checkpoint(tmp_path / "run", 9)
    checkpoint(tmp_path / "run", 10)
    checkpoint(tmp_path / "run", 11, complete=False)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("end", "status", "sentence"),
    [
        (Stopped("the checkpoint is complete", signal.SIGINT), 130, "stopped as asked: the checkpoint is complete"),
        (Stopped("the checkpoint is complete", signal.SIGTERM), 143, "stopped as asked: the checkpoint is complete"),
        (Stopped("the checkpoint is complete", signal.SIGHUP), 129, "stopped as asked: the checkpoint is complete"),
        (KeyboardInterrupt(), 130, "interrupted; metrics and trajectories so far are kept"),
        (Terminated(signal.SIGTERM), 143, "ended by SIGTERM; metrics"),
        (Terminated(signal.SIGHUP), 129, "ended by SIGHUP; metrics"),
        (ActorDied("learner-rank-0 has died: …"), 1, "failed: learner-rank-0 has died"),
        (OSError(5, "Input/output error", "metrics.jsonl"), 1, "failed: Input/output error: metrics.jsonl"),
        (Starved("64 groups in a row"), 3, "stopped, with a checkpoint: 64 groups in a row"),
    ],
)
def test_each_end_has_its_sentence_its_exit_status_and_the_way_on(
    run: Path,
    end: BaseException,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def ends(config: object) -> Path:
        with telling_how_to_go_on(run):
            raise end

    monkeypatch.setattr(train, "train", ends)
    (run / "run.toml").write_text(RUN_FILE)
    assert cli.main(["train", str(run / "run.toml")]) == status
    said = capfd.readouterr().err
    assert said.startswith(f"winnow: {sentence}")
    if not isinstance(end, Stopped):  # which says it itself
        assert f"\nThe checkpoint {run}/checkpoints/step-10 is complete; what goes on from it: winnow train" in said
        assert said.rstrip().endswith(f"--resume {run}")


def test_a_run_without_a_complete_checkpoint_is_told_so(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3, complete=False)
    assert how_to_go_on(tmp_path) == "no checkpoint is complete, so there is nothing to go on from"


def test_a_job_goes_on_as_a_job(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    assert how_to_go_on(run).endswith(f"what goes on from it: winnow train --resume {run}")
    monkeypatch.setenv(JOB, "{}")
    assert how_to_go_on(run).endswith(f"what goes on from it: winnow submit --resume {run}")


def test_the_way_on_can_be_typed(tmp_path: Path) -> None:
    checkpoint(tmp_path / "my run", 1)
    words = shlex.split(how_to_go_on(tmp_path / "my run").partition("from it: ")[2])
    assert words[1:] == ["train", "--resume", str(tmp_path / "my run")]
