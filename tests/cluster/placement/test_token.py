"""What is said of a cluster that asks nobody for a token. The answers are those of Ray's dashboard."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.placement.token import keep_token, warn_without_token


@pytest.fixture
def dashboard(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that gives one answer to everything; its HOST:PORT."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(request.param.encode())

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("dashboard", "warns"),
    [
        ('{"authentication_mode": "disabled"}', True),
        ('{"authentication_mode": "token"}', False),
        ("Internal Server Error", False),
        ("[]", False),
    ],
    indirect=["dashboard"],
)
def test_a_cluster_without_a_token_is_warned_of(dashboard: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    warn_without_token(dashboard)
    assert ("asks nobody for a token" in caplog.text) == warns


def test_a_dashboard_that_is_not_there_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    warn_without_token("127.0.0.1:9")
    warn_without_token("")
    assert caplog.text == ""


def test_nobody_but_its_owner_reads_the_token(tmp_path: Path) -> None:
    file = tmp_path / ".ray" / "auth_token"
    keep_token(file)
    token = file.read_text()
    assert len(bytes.fromhex(token)) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)  # as Ray makes it
    keep_token(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == token


def test_a_home_that_cannot_be_written_is_left_to_ray(tmp_path: Path) -> None:
    (tmp_path / ".ray").write_text("")  # where a folder would have to be
    keep_token(tmp_path / ".ray" / "auth_token")
