"""What is said of a cluster that asks nobody for a token. The answers are those of Ray's dashboard."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from cluster.placement.token import warn_without_token


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
