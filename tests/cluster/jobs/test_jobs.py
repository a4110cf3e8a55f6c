"""Jobs are sent, followed, listed and stopped: against Ray's client as it answers."""

import re
import shlex
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

import cluster.jobs.client
import cluster.jobs.commands
from cluster.cli import main
from cluster.config.reading import load_config, load_run
from cluster.jobs.client import RECONNECTS, PatientClient
from tests.cluster.jobs.ray_double import FIRST, RayDouble, Script

RUN = """
run.name = "mine"
world.name = "addition"
reward.name = "own"
reward.own.file = "grade.py"
cluster.address = "head:6379"
"""
ADDRESS = "http://head:8265"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> RayDouble:
    double = RayDouble()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setattr(cluster.jobs.client, "PatientClient", lambda url: double)
    monkeypatch.setattr(cluster.jobs.commands, "reach", lambda dashboard: None)
    monkeypatch.setattr(cluster.jobs.client, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(cluster.jobs.client, "QUIET_SECONDS", 0.05)
    return double


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's, which is not the checkout: the current folder."""
    (tmp_path / "mine.toml").write_text(RUN)
    (tmp_path / "grade.py").write_text("def reward(response, reference, prompt):\n    return True\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal:
    """A person who answers at a terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: self.answers.pop(0))


def raising(error: Exception) -> Callable[..., None]:
    """What fails, however it is called."""

    def fail(*_: object) -> None:
        raise error

    return fail


def submit(*more: str) -> int:
    return main(["submit", "mine.toml", "run.folder=/shared/runs", "--address", ADDRESS, *more])


def test_a_run_is_sent_with_its_files_settings_and_time_to_stop(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {}

    def keep(**told: object) -> str:
        with zipfile.ZipFile(told["runtime_env"]["working_dir"]) as archive:
            archive.extractall(folder / "job")
        kept.update(told)
        return RayDouble.submit_job(ray, **told)

    monkeypatch.setattr(ray, "submit_job", keep)
    assert submit("run.steps=7", "--detach") == 0
    command = "exec python -m cluster.cli train .winnow/mine.toml --resume auto --retries 3"
    assert (kept["submission_id"], kept["entrypoint"]) == ("mine-1", command)
    assert kept["metadata"] == {"job_name": "mine", "winnow_run": "mine", "winnow_folder": "/shared/runs/mine"}
    assert kept["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "900"}
    assert (folder / "job/grade.py").is_file()
    assert (folder / "job/cluster/cli.py").is_file()
    config = load_config(folder / "job/.winnow/mine.toml")
    assert (config.run.steps, config.run.folder, config.cluster.address) == (7, "/shared/runs", "")
    said = capsys.readouterr().out
    assert "winnow's own code" in said
    assert f"winnow stop mine-1 --address {ADDRESS}" in said


def test_no_secret_of_this_machine_is_sent(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-token-of-this-user")
    monkeypatch.setenv("WANDB_API_KEY", "the-token-of-another-kind")
    (folder / "data").mkdir()
    for name in (".env", ".env.local", "data/.env", "data/credentials.json"):
        (folder / name).write_text("KEY=the-token-in-a-file")
    (folder / "data/a.jsonl").write_text('{"prompt": "1 + 1 =", "answer": "2"}')
    packed = []

    def keep(**told: object) -> str:
        packed.append(Path(told["runtime_env"]["working_dir"]).read_bytes())
        with zipfile.ZipFile(told["runtime_env"]["working_dir"]) as archive:
            packed.extend(archive.read(name) for name in archive.namelist())
        return RayDouble.submit_job(ray, **told)

    monkeypatch.setattr(ray, "submit_job", keep)
    assert submit("world.name=", "model.path=/m", "data.path=data") == 0
    said = capsys.readouterr().out
    assert "without .env, .env.local, data/.env, data/credentials.json" in said
    assert "the-token" not in str(ray.sent) + said
    assert not any(b"the-token" in piece for piece in packed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine.toml"], "run.folder = 'runs' would lie in the job's own folder"),
        (["mine.toml", "run.folder=/r", "run.stepps=3"], "unknown setting run.stepps"),
        (["mine.toml", "run.folder=/r", "reward.own.file=no.py"], "no.py"),
        (["mine.toml", "run.folder=/r", "--retries", "-1"], "--retries must be at least 0"),
        (["mine.toml", "run.folder=/r", "--lock", "no.txt"], "cannot read the lock file no.txt"),
        (["mine.toml", "run.folder=/r", "--lock", "x", "--python", "p"], "leave --python out"),
        (["--resume", "runs/mine"], "absolute path of a run on the cluster"),
        (["--resume", "/r/mine/checkpoints/step-3", "--retries", "2"], "whose newest checkpoint every try takes"),
        (["--resume", "/r/mine", "other.toml"], "--resume takes the settings of the run itself"),
        ([], "needs a run file"),
    ],
)
def test_a_mistake_is_said_before_anything_is_sent(
    words: list[str], said: str, ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *words]) == 2
    assert said in capsys.readouterr().err
    assert ray.sent == []


def test_a_file_where_winnows_own_travels_is_refused(
    ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "rewards").mkdir()
    (folder / "rewards/mine.py").write_text("")
    assert submit("--detach") == 0
    (folder / "rewards/table.py").write_text("")
    assert submit("--detach") == 2
    assert "rewards/table.py would lie where winnow's own rewards/table.py travels" in capsys.readouterr().err


def test_a_job_is_named_by_its_run_and_the_next_free_number(ray: RayDouble, folder: Path) -> None:
    for _ in range(2):
        assert submit("--detach") == 0
    ray.hidden.add("mine-3")
    assert submit("--detach") == 0
    for run in ("ünder way", "_-x", "日本"):
        assert submit("--detach", f'run.name="{run}"') == 0
    ids = ["mine-1", "mine-2", "mine-4", "nder-way-1", "x-1", "run-1"]
    assert [told["submission_id"] for told in ray.sent] == ids


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("status code 400: Job with submission_id {job} already exists.", "mine-1 to mine-20 that it does not list"),
        ("status code 500: the package already exists", "refused: status code 500: the package already exists"),
    ],
)
def test_a_cluster_that_takes_no_job_is_not_asked_for_ever(
    words: str, said: str, ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.refuses = words
    assert submit("--detach") == 1
    assert said in capsys.readouterr().err


def test_a_run_goes_on_by_its_folder_or_a_checkpoint(ray: RayDouble, folder: Path) -> None:
    assert main(["submit", "--resume", "/shared/runs/mine", "run.note=a b", "--retries", "5", "--detach"]) == 0
    assert main(["submit", "--resume", "/shared/runs/mine/checkpoints/step-4", "--detach"]) == 0
    lines = [shlex.split(told["entrypoint"].removeprefix("exec "))[3:] for told in ray.sent]
    assert lines[0] == ["train", "run.note=a b", "cluster.address=", "--resume", "/shared/runs/mine", "--retries", "5"]
    assert lines[1] == ["train", "cluster.address=", "--resume", "/shared/runs/mine/checkpoints/step-4"]
    assert {told["metadata"]["winnow_folder"] for told in ray.sent} == {"/shared/runs/mine"}
    assert [told["submission_id"] for told in ray.sent] == ["mine-1", "mine-2"]


def test_a_run_goes_on_where_it_is_sent_and_not_where_it_began(ray: RayDouble, folder: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.toml").write_text('world.name = "addition"\ncluster.address = "10.0.0.1:6379"\n')
    assert main(["submit", "--resume", str(begun), "cluster.address=10.0.0.2:6379", "--detach"]) == 0
    items = [word for word in shlex.split(ray.sent[0]["entrypoint"]) if "=" in word]
    assert load_run(begun, items)[1].cluster.address == ""


def test_the_options_of_an_address_stay_at_its_end(ray: RayDouble, folder: Path) -> None:
    assert submit("--detach", "run.folder=s3://b/runs?endpoint_override=h") == 0
    for run in ("runs/first?endpoint_override=h", "runs/first/checkpoints/step-4?endpoint_override=h/"):
        assert main(["submit", "--resume", f"s3://b/{run}", "--detach"]) == 0
    folders = [told["metadata"]["winnow_folder"].removeprefix("s3://b/runs/") for told in ray.sent]
    assert folders == [f"{name}?endpoint_override=h" for name in ("mine", "first")] + ["first?endpoint_override=h/"]
    assert [told["submission_id"] for told in ray.sent] == ["mine-1", "first-1", "first-2"]
    words = shlex.split(ray.sent[2]["entrypoint"])
    assert words[-2:] == ["--resume", "s3://b/runs/first/checkpoints/step-4?endpoint_override=h/"]


def test_a_command_that_is_printed_can_be_typed(
    ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [Script(status=JobStatus.STOPPED, exit_status=None), Script()]
    assert submit("run.folder=/shared/my runs") == 143
    assert submit("run.folder=/shared/my runs", "--detach") == 0
    assert main(["stop", "mine-2", "--address", ADDRESS]) == 0
    typed = [line.partition("It goes on with: ")[2] for line in capsys.readouterr().out.splitlines()]
    words = ["winnow", "submit", "--resume", "/shared/my runs/mine", "--address", ADDRESS]
    assert [shlex.split(line) for line in typed if line] == [words, words]


def test_a_lock_file_is_installed_from_the_jobs_folder(ray: RayDouble, folder: Path) -> None:
    for text in ("a==1 --hash=sha256:0\n", "a==2 --hash=sha256:1\n", "a==1 --hash=sha256:0\n"):
        (folder / "lock.txt").write_text(text)
        assert submit("--lock", "lock.txt", "--detach") == 0
    asked = [told["runtime_env"]["pip"] for told in ray.sent]
    assert {"--no-deps", "--require-hashes"} <= set(asked[0]["pip_install_options"])
    assert re.fullmatch(
        r"-r \$\{RAY_RUNTIME_ENV_CREATE_WORKING_DIR\}/\.winnow/requirements-[0-9a-f]{16}\.txt", asked[0]["packages"][0]
    )
    # Ray keeps environments by these words, not by what stands in the file.
    assert asked[0] == asked[2] != asked[1]


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (Script(), 0, "mine-1 has ended: the run is in /shared/runs/mine on the cluster"),
        (Script(status=JobStatus.FAILED, exit_status=3), 3, "mine-1 failed (status 3)"),
        (Script(status=JobStatus.FAILED, exit_status=127), 127, "no such interpreter on its path"),
        (
            Script(status=JobStatus.FAILED, exit_status=1, message="No module named 'cluster'"),
            1,
            "its interpreter lacks a package",
        ),
        (
            Script(status=JobStatus.FAILED, exit_status=None, message="runtime_env setup failed: pip"),
            1,
            "mine-1 failed: runtime_env setup failed: pip",
        ),
        (Script(status=JobStatus.STOPPED, exit_status=None), 143, "It goes on with: winnow submit --resume /shared"),
        (Script(lost_after=1), 0, "has ended"),
        (Script(lost_after=1, losses=RECONNECTS + 3), 0, "has ended"),
        (Script(silent_after=0, losses=RECONNECTS + 3), 0, "has ended"),
        (Script(silent_after=2, losses=2), 0, "has ended"),
    ],
)
def test_the_output_is_followed_to_its_end_once(
    script: Script, status: int, said: str, ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [script]
    assert submit() == status
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert printed.out.count("run folder: /shared/runs/mine") == printed.out.count("step 1/4") == 1


def test_at_ctrl_c_a_person_goes_on_leaves_or_stops(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [Script(interrupted_after=1) for _ in range(3)]
    Terminal(monkeypatch, "", "l", "s")
    assert submit() == 0
    assert capsys.readouterr().out.count("step 1/4") == 1
    assert submit() == 128 + signal.SIGINT
    assert "mine-2 goes on\n  follow     winnow logs mine-2" in capsys.readouterr().out
    assert ray.stopped == []
    assert submit() == 0
    said = capsys.readouterr().out
    assert ray.stopped == ["mine-3"]
    assert "the checkpoint step-2 is complete" in said
    assert f"It goes on with: winnow submit --resume /shared/runs/mine --address {ADDRESS}" in said


def test_without_a_terminal_ctrl_c_leaves_the_job(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [Script(interrupted_after=1)]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert submit() == 128 + signal.SIGINT
    assert "winnow stop mine-1" in capsys.readouterr().out
    assert ray.stopped == []


def test_runs_are_listed_and_stopped_by_their_ids(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "--address", ADDRESS]) == 0
    assert "no run was submitted" in capsys.readouterr().out
    assert submit() == submit("--detach") == 0
    capsys.readouterr()
    monkeypatch.setattr("time.time", lambda: FIRST / 1000 + 2 * 3600 + 60)
    assert main(["jobs", "--address", ADDRESS]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["job", "status", "step", "sent", "for", "run", "folder"]
    assert (lines[1][:3], lines[1][5:]) == (["mine-1", "succeeded", "-"], ["10", "min", "/shared/runs/mine"])
    assert (lines[2][:3], lines[2][5:]) == (["mine-2", "running", "1/4"], ["2", "h", "/shared/runs/mine"])
    with monkeypatch.context() as patch:
        patch.setattr(ray, "get_job_logs", raising(RuntimeError("status code 500: the node is gone")))
        assert main(["jobs"]) == 0
    assert "mine-2  running    -     " in capsys.readouterr().out
    assert main(["stop", "mine-2"]) == 0
    said = capsys.readouterr().out
    assert "the checkpoint step-2 is complete" in said
    assert "step 1/4" not in said
    assert main(["stop", "mine-1"]) == 0
    assert "mine-1 has ended already: succeeded" in capsys.readouterr().out
    assert ray.stopped == ["mine-2"]
    assert main(["stop", "mine-9"]) == main(["logs", "mine-9"]) == 2
    assert "there is no job 'mine-9' of winnow's" in capsys.readouterr().err


def test_output_that_nobody_can_read_any_more_is_given_up(
    ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [Script(lost_after=0, losses=1000)]
    assert submit() == 1
    assert "the output of mine-1 cannot be read any more: WebSocket connection closed" in capsys.readouterr().err
    assert ray.script_of["mine-1"].tails == RECONNECTS + 1


def test_a_job_that_has_ended_is_not_waited_for_where_its_output_ends_nowhere(
    ray: RayDouble, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.scripts = [Script(silent_after=1, losses=1000)]
    assert submit("--detach") == 0
    ray.details["mine-1"] = ray.details["mine-1"].model_copy(update={"status": JobStatus.SUCCEEDED})
    assert main(["logs", "mine-1"]) == 1
    assert "the output of mine-1 cannot be read any more: nothing came for 0.05 s" in capsys.readouterr().err


def test_a_dashboard_that_takes_a_question_and_never_answers_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {}

    def request(method: str, url: str, **told: object) -> None:
        asked.update(told)
        raise ConnectionError

    monkeypatch.setattr("requests.request", request)
    with pytest.raises(ConnectionError):
        PatientClient("http://127.0.0.1:1")
    assert asked["timeout"] == cluster.jobs.client.ANSWER_SECONDS


def test_a_wrong_token_and_a_cluster_that_is_gone_are_one_sentence(
    ray: RayDouble, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = AuthenticationError("Authentication failed: long text of Ray's")
    monkeypatch.setattr(ray, "list_jobs", raising(refusal))
    assert main(["jobs", "--address", ADDRESS]) == 2
    said = capsys.readouterr().err
    assert "is not that of the cluster. Set RAY_AUTH_TOKEN to the cluster's" in said
    assert "long text" not in said
    monkeypatch.setattr(ray, "list_jobs", raising(ConnectionError("refused")))
    assert main(["jobs", "--address", ADDRESS]) == 1
    assert "does not answer: refused" in capsys.readouterr().err
