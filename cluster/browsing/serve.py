"""`winnow rollouts`: reads a run, serves the page, opens a browser, and ends with Ctrl-C."""

import ipaddress
import os
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import uvicorn

from cluster.browsing.advantages import crediting_of
from cluster.browsing.app import Browsed, app_for
from cluster.browsing.folder import RunFolder
from cluster.browsing.following import Following
from cluster.browsing.index import Index
from cluster.browsing.texts import token_texts
from cluster.config.errors import ConfigError

PORT = 8642
TRIED = 20  # ports, from PORT on, where a person names none
ACCESS = "access"  # the parameter of the URL that holds the token; what is called a token is hidden when it is printed
END_SECONDS = 1  # that answers under way are waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the page is to be had."""

    host: str
    port: int | None  # None: the first free one from PORT on
    browser: bool  # whether to open one


def serve(run: RunFolder, place: Place, say: Callable[[str], None], tokenizer: Path | None = None) -> None:
    """Serves the page of a run until it is interrupted.

    Args:
        run: whose responses are shown.
        place: where.
        say: takes what a person is told.
        tokenizer: a folder with the tokenizer; None looks for it.

    Raises:
        ConfigError: the address cannot be had, or the folder holds no tokenizer.
    """
    texts = token_texts(run, tokenizer)
    with listening(place) as listener, browsed_folder(run) as (index, following):
        token = "" if _is_loopback(place.host) else secrets.token_hex(16)
        app = app_for(
            Browsed(run=run, index=index, following=following, texts=texts, crediting=crediting_of(run)), token
        )
        url = _url(place.host, listener.getsockname()[1], token)
        if not any(run.trajectories.glob("step-*/groups*.parquet")):
            say(f"{run.path} holds no responses yet: they appear at the end of the first step, and the page follows")
        say(f"{url}   (Ctrl-C ends it)")
        if token:
            say("whoever has this URL can read every response; the page is sent unencrypted")
        following.start()
        if place.browser and _has_screen():
            threading.Thread(target=_open, args=(url,), daemon=True).start()
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=END_SECONDS
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def browsed_folder(run: RunFolder) -> Iterator[tuple[Index, Following]]:
    """An index of a run, and what keeps it up; both end with it, and nothing is left on disk.

    Raises:
        ConfigError: there is no room for the index.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-rollouts-", ignore_cleanup_errors=True) as folder:
        try:
            index = Index(Path(folder))
        except duckdb.Error as failure:
            raise ConfigError(
                f"no index can be made in {folder} (set TMPDIR to a folder with room): {failure}"
            ) from None
        following = Following(run.trajectories, index)
        try:
            yield index, following
        finally:
            following.stop()
            index.close()


@contextmanager
def listening(place: Place) -> Iterator[socket.socket]:
    """A socket at the place.

    Raises:
        ConfigError: it cannot be had; the message says why and what to do.
    """
    ports = range(PORT, PORT + TRIED) if place.port is None else [place.port]
    try:
        family = socket.getaddrinfo(place.host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as failure:
        raise ConfigError(f"--host {place.host}: this machine does not know that name ({failure.strerror})") from None
    problem: OSError | None = None
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((place.host, port))
            listener.listen()
        except OSError as failure:
            listener.close()
            problem = failure
            continue
        with listener:
            yield listener
        return
    assert problem is not None
    where = f"port {ports[0]}" if place.port is not None else f"ports {PORT} to {PORT + TRIED - 1}"
    raise ConfigError(
        f"{where} of {place.host} cannot be had ({problem.strerror}): give another with --port, or --port 0 for any "
        "that is free"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int, token: str) -> str:
    shown = socket.gethostname() if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?{ACCESS}={token}" if token else "")


def _has_screen() -> bool:
    """Whether a browser would have a window; else it might be one that takes over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _open(url: str) -> None:
    with suppress(Exception):  # a browser that does not start costs the page nothing
        webbrowser.open(url)
