"""A hub of models and data sets on this machine, which speaks as much of the Hugging Face Hub's HTTP interface as its
client asks of it: what a revision is, its files, and their bytes. Commits are as the test makes them."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT = "main"


class Hub:
    """Repositories by their path in addresses, such as "datasets/me/sums" and "me/tiny"."""

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}  # (repository, commit) -> files
        self.asked: list[str] = []  # paths of requests
        self.url = ""

    def commit(self, repository: str, files: Mapping[str, bytes], branch: str = DEFAULT) -> str:
        """Has a branch lead to these files; gives the commit."""
        digest = hashlib.sha1(repr((repository, sorted(files.items()))).encode()).hexdigest()
        self.commits[repository, digest] = dict(files)
        self.branches.setdefault(repository, {})[branch] = digest
        return digest

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        """(commit, its files) of a revision; KeyError without it."""
        commit = self.branches[repository].get(revision, revision)
        return commit, self.commits[repository, commit]


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that answers at its `url` while it lasts."""
    found = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": found}))
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, form: str, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        """What a revision is, a listing, or a file."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(urlsplit(self.path).path)
        if parts[0] == "api":
            self._api(parts[1], "/".join(parts[2:4]), parts[4:])
            return
        place = parts.index("resolve")
        files = self._files("/".join(parts[:place]), parts[place + 1])
        name = "/".join(parts[place + 2 :])
        if files is None or name not in files[1]:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, wanted = files[1][name], self.headers.get("Range", "")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            data = data[int(first) : int(last) + 1 if last else None]
        self._answer(206 if wanted else 200, data, {"X-Repo-Commit": files[0]})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """What some paths of a revision are."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(urlsplit(self.path).path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        paths = json.loads(sent)["paths"] if sent.startswith("{") else parse_qs(sent)["paths"]
        prefix = "" if parts[1] == "models" else f"{parts[1]}/"
        files = self._files(prefix + "/".join(parts[2:4]), parts[5])
        if files is not None:
            self._json([one for path in paths if (one := _entry(files[1], path))])

    def _api(self, kind: str, name: str, rest: list[str]) -> None:
        repository = name if kind == "models" else f"{kind}/{name}"
        if not rest or rest[0] == "revision":
            files = self._files(repository, "/".join(rest[1:]) or DEFAULT)
            if files is not None:
                about = {"id": name, "sha": files[0], "private": False, "downloads": 0, "likes": 0, "tags": []}
                self._json(about | {"siblings": [{"rfilename": path} for path in files[1]]})
            return
        files = self._files(repository, rest[1])
        if files is None:
            return
        below = "/".join(rest[2:])
        inside = [path for path in files[1] if not below or path.startswith(f"{below}/")]
        if "recursive=true" not in self.path.lower():
            depth = len(below.split("/")) if below else 0
            inside = list(dict.fromkeys("/".join(path.split("/")[: depth + 1]) for path in inside))
        self._json([_entry(files[1], path) for path in inside])

    def _files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """None where it is not there, which has been answered then."""
        try:
            return self.hub.files(repository, revision)
        except KeyError:
            known = repository in self.hub.branches
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
            return None

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    if path in files:
        return {"type": "file", "path": path, "size": len(files[path]), "oid": hashlib.sha1(files[path]).hexdigest()}
    if any(name.startswith(f"{path}/") for name in files):
        return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
    return {}
