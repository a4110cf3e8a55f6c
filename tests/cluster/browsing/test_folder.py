"""Which folders are runs, and what a person is told of others; where the page listens."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.browsing import serve
from cluster.browsing.folder import run_folder
from cluster.browsing.serve import Place, listening
from cluster.config.errors import ConfigError
from cluster.reporting.terminal import plain
from tests.cluster.browsing.made import group_of_texts, write_run

ROOT = Path(__file__).parents[3]


def test_a_run_is_known_by_its_folder_and_by_what_lies_in_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", {1: [(group_of_texts(["a"], [1.0]), "")]})
    (run / "checkpoints/step-1").mkdir(parents=True)
    for given in (run, run / "trajectories", run / "trajectories/step-1", run / "checkpoints/step-1"):
        found = run_folder(str(given))
        assert found.path.resolve() == run
        assert found.setting("learner", "algorithm") == "grpo"


def test_a_copy_without_settings_or_with_broken_ones_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["a"], [1.0]), "")]}, config="")
    assert run_folder(str(run)).settings == {}
    (run / "config.toml").write_text("learner = 3\n[")
    assert run_folder(str(run)).setting("learner", "algorithm") is None
    (run / "config.toml").write_text("learner = 3")
    assert run_folder(str(run)).setting("learner", "algorithm") is None


def test_what_is_no_run_is_said_with_what_is_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "several" / name, {1: [(group_of_texts(["a"], [1.0]), "")]})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "several/a/trajectories").rename(tmp_path / "moved")
    for given, said in {
        "nowhere": "there is no folder",
        "file.txt": "is a file",
        "empty": "is not the folder of a run: it holds neither",
        "several": "holds 1 runs",
        "moved": "put it into a folder as trajectories/",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(said)):
            run_folder(str(tmp_path / given))
    with pytest.raises(ConfigError, match="copy the run here first"):
        run_folder("s3://bucket/run")


def test_a_port_that_is_taken_is_said_and_else_the_next_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(Place(host="127.0.0.1", port=0, browser=False)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"port {port} of 127.0.0.1 cannot be had .*--port 0"),
            listening(Place(host="127.0.0.1", port=port, browser=False)),
        ):
            pass
        monkeypatch.setattr("cluster.browsing.serve.PORT", port)
        with listening(Place(host="127.0.0.1", port=None, browser=False)) as other:
            assert port < other.getsockname()[1] < port + 20


def test_a_host_that_is_unknown_is_said() -> None:
    with (
        pytest.raises(ConfigError, match=r"--host no\.such\.invalid: this machine does not know that name"),
        listening(Place(host="no.such.invalid", port=0, browser=False)),
    ):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "node7", "::1"])
def test_the_url_is_printed_with_its_token(host: str) -> None:
    url = serve._url(host, 8642, "a" * 32)
    assert url.endswith(f":8642/?access={'a' * 32}")
    assert plain(url) == url


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)])
def test_only_loopback_is_this_machine_alone(host: str, own: bool) -> None:
    assert serve._is_loopback(host) is own


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", {1: [(group_of_texts(["a"], [1.0]), "")]})
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-W", "error", "-m", "cluster.cli", "rollouts", str(run), "--port", "0", "--no-browser"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PATH": "", "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = re.match(r"http://127\.0\.0\.1:(\d+)/ ", process.stdout.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1]))) as asked:
            asked.sendall(b"GET /api/run HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert asked.recv(15) == b"HTTP/1.1 200 OK"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []
