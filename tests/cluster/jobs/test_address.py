"""The address that jobs are sent to, and the token that it may want."""

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.jobs.address import VARIABLES, named_dashboard, reach
from cluster.placement.token import MODE, TOKEN, TOKEN_FILE


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without a token, and without addresses in the environment."""
    for name in (*VARIABLES, TOKEN, TOKEN_FILE, "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(MODE, "token")  # what the test sets is taken back
    monkeypatch.delenv(MODE)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("head", "http://head:8265"),
        ("head:8266", "http://head:8266"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.example.org/prefix", "https://ray.example.org/prefix"),
        ("[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_an_address_becomes_that_of_the_dashboard(given: str, url: str) -> None:
    assert named_dashboard(given).url == url


def test_the_command_line_goes_before_rays_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "one:1")
    assert (named_dashboard("").url, named_dashboard("").option) == ("http://one:1", "")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://two:2")
    assert named_dashboard("").url == "http://two:2"
    named = named_dashboard("three:3")
    assert (named.url, named.option) == ("http://three:3", " --address three:3")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ray://head:10001", "--address http://head:8265"),
        ("gcs://head", "another kind of address"),
        ("http://head:port", "is no address"),
        ("http://:8265", "names no host"),
    ],
)
def test_another_kind_of_address_is_refused_with_the_right_one(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        named_dashboard(given)


def test_a_dashboard_that_asks_for_nothing_is_given_nothing() -> None:
    with server(200, json.dumps({"ray_version": "2.60.0"}).encode()) as url:
        reach(named_dashboard(url))
    assert MODE not in os.environ


def test_a_token_is_used_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with server(401, b"Unauthorized") as url:
        with pytest.raises(ConfigError, match="asks for a token, and there is none here: set RAY_AUTH_TOKEN"):
            reach(named_dashboard(url))
        monkeypatch.setenv(MODE, "disabled")
        with pytest.raises(ConfigError, match="RAY_AUTH_MODE=disabled has none sent"):
            reach(named_dashboard(url))
        monkeypatch.delenv(MODE)
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text("t")
        reach(named_dashboard(url))
    assert os.environ[MODE] == "token"


def test_nothing_and_something_else_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .* \(--address\): Connection refused"):
        reach(named_dashboard(f"127.0.0.1:{free}"))
    for status, body in ((404, b""), (200, b"hello"), (200, b"{}")):
        with server(status, body) as url, pytest.raises(ConfigError, match="is not Ray's dashboard"):
            reach(named_dashboard(url))


def test_the_port_of_the_head_node_itself_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            line, _ = listening.accept()
            with line:
                line.recv(1000)
                line.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # a frame of HTTP/2, as gRPC begins

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConfigError, match=r"own\s+port \(6379\).* jobs go to the dashboard, http://127"):
            reach(named_dashboard(f"127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
