"""Addresses of Ray clusters that are not there: a sentence, at once."""

import socket
import threading
import time

import pytest

from cluster.config.errors import ConfigError
from cluster.placement import reachable
from cluster.placement.reachable import check_reachable, unreachable
from tests.tables import each


@each(
    "address",
    ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "no such host", "127.0.0.1:1/x", "[::1]:1", "x" * 300],
)
def test_an_address_where_nothing_listens_is_refused_with_its_value(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray cluster answers at") as refusal:
        check_reachable(address)
    assert address in str(refusal.value)
    assert time.monotonic() - began < 15


def test_the_dashboards_address_is_told_from_the_head_nodes() -> None:
    with pytest.raises(ConfigError, match="is the address of Ray's dashboard"):
        check_reachable("http://127.0.0.1:8265")
    check_reachable("auto")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", ""),  # an HTTP/2 server's first frame, as Ray's head node sends it
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is not Ray"),
        (b"", "nothing came back within 0.2 s"),
    ],
)
def test_what_listens_is_asked_whether_it_may_be_ray(
    reply: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, over = server.getsockname()[1], threading.Event()

        def serve() -> None:
            line, _ = server.accept()
            line.recv(64)
            if reply:
                line.sendall(reply)
            over.wait(5)
            line.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert unreachable(f"127.0.0.1:{port}") == problem
        over.set()
        thread.join()
