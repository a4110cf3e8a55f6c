"""The page and what it asks for, over HTTP. Nothing is written. Every text of the run leaves as JSON, which the page
shows as text, never as markup."""

import hmac
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.browsing.advantages import Crediting
from cluster.browsing.filters import BadQuery, filters_of
from cluster.browsing.folder import RunFolder
from cluster.browsing.following import Following
from cluster.browsing.index import Index, UnreadableFile, rows_of_group
from cluster.browsing.responses import Stored, described, stored_of, token_page
from cluster.browsing.search import PAGE, Search
from cluster.browsing.texts import TokenTexts

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
TOKEN = "x-winnow-token"  # the header in which the page repeats the token of its URL
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KEPT = 8  # groups that are remembered, as a person looks at a group and then at its responses


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsed:
    """A run with all that answers need."""

    run: RunFolder
    index: Index
    following: Following
    texts: TokenTexts
    crediting: Crediting


class Answers:
    """What the page asks for. Called in threads."""

    def __init__(self, browsed: Browsed) -> None:
        self._browsed, self._search = browsed, Search(browsed.index)
        self._groups: OrderedDict[tuple[int, int], Stored] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, request: Request) -> Response:
        """What the run is, how far it has been read, and what can be chosen from."""
        browsed, progress = self._browsed, self._browsed.following.progress
        return JSONResponse(
            {
                "name": browsed.run.path.resolve().name,
                "folder": str(browsed.run.path.resolve()),
                "changes": browsed.index.changes,
                "files": progress.files,
                "read": progress.read,
                "complete": progress.complete,
                "problems": progress.problems[:20],
                "problem_count": len(progress.problems),
                "texts": browsed.texts.why,
                "has_tokens": browsed.texts.tokenizer is not None,
                "advantages": browsed.crediting.why,
                **self._search.overview(),
            }
        )

    def groups(self, request: Request) -> Response:
        """A page of the groups that fit the filters in the URL; the page that holds `around`, where that is given."""
        query = request.query_params
        filters = filters_of({name: query.getlist(name) for name in query})
        start = _number(query.get("from", "0"))
        if "around" in query:
            start = PAGE * ((self._search.place(filters, _number(query["around"])) or 0) // PAGE)
        return JSONResponse({"changes": self._browsed.index.changes, **self._search.groups(filters, start)})

    def group(self, request: Request) -> Response:
        """One group with its responses, and the other groups of its prompt."""
        found = described(self._stored(request.path_params["group"]), self._browsed.crediting)
        return JSONResponse({**found, **self._search.visits(found["prompt"], found["group"])})

    def response(self, request: Request) -> Response:
        """A response of a group, token by token."""
        stored, number = self._stored(request.path_params["group"]), request.path_params["number"]
        if number >= len(stored.group.responses):
            raise HTTPException(404, f"group {stored.group.id} has {len(stored.group.responses)} responses")
        start = _number(request.query_params.get("from", "0"))
        return JSONResponse(token_page(stored, number, start, self._browsed.texts))

    def _stored(self, group: int) -> Stored:
        """The group of this number.

        Raises:
            HTTPException: there is none, or its file cannot be read any more.
        """
        file = self._search.file_of(group)
        if file is None or file not in self._browsed.index.files:
            progress = self._browsed.following.progress
            still = "" if progress.complete else f" so far: {progress.read} of {progress.files} files are read"
            raise HTTPException(404, f"there is no group {group} in this run{still}")
        with self._lock:
            if (file, group) in self._groups:
                return self._groups[file, group]
        try:
            stored = stored_of(rows_of_group(self._browsed.index.files[file], group))
        except UnreadableFile as failure:
            raise HTTPException(410, str(failure)) from failure
        with self._lock:
            self._groups[file, group] = stored
            while len(self._groups) > KEPT:
                self._groups.popitem(last=False)
        return stored


class Guard:
    """Refuses what is not a person's browser on the right page: other methods than GET, a Host header by which another
    site's script would reach this machine (DNS rebinding), and, with a token, requests that do not have it."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """`token` is what requests for data must have; "" where the page is for this machine only."""
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        app = PlainTextResponse(refusal[1] + "\n", refusal[0]) if refusal else self._app

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "this page only reads"
        if not self._token and not _is_this_machine(headers.get("host", "")):
            return 403, (
                f"the page is for this machine, and was asked for as {headers.get('host', '')[:200]!r}: open it as "
                "localhost, or give winnow rollouts a --host, for which the page has a token"
            )
        given = headers.get(TOKEN, "")
        if (
            self._token
            and scope["path"].startswith("/api/")
            and not hmac.compare_digest(given.encode(), self._token.encode())
        ):
            return 401, "open the whole URL that winnow rollouts has printed: it holds a token"
        return None


def app_for(browsed: Browsed, token: str = "") -> ASGIApp:
    """The application; with a token, only those who have it are given data."""
    answers = Answers(browsed)
    api: dict[str, Callable[[Request], Response]] = {
        "/api/run": answers.run,
        "/api/groups": answers.groups,
        "/api/groups/{group:int}": answers.group,
        "/api/groups/{group:int}/responses/{number:int}": answers.response,
    }
    routes = [Route(path, answer) for path, answer in api.items()]
    app = Starlette(
        routes=[*routes, Route("/", _file), Route("/{name}", _file)],
        exception_handlers={BadQuery: _mistake, HTTPException: _problem},
    )
    return Guard(app, token)


def _file(request: Request) -> Response:
    """A file of the page."""
    name = request.path_params.get("name", "index.html")
    found = files("cluster.browsing").joinpath("page", name)
    kind = KINDS.get("." + name.rpartition(".")[2])
    if kind is None or "/" in name or "\\" in name or not found.is_file():
        raise HTTPException(404, "there is no such page")
    return Response(found.read_bytes(), media_type=kind)


def _mistake(request: Request, failure: Exception) -> Response:
    return JSONResponse({"problem": str(failure)}, 400)


def _problem(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    return JSONResponse({"problem": failure.detail}, failure.status_code)


def _number(said: str) -> int:
    """A place in a list."""
    if not said.isdecimal() or len(said) > 12:
        raise BadQuery(f"a place is a number from 0 on, got {said!r:.100}")
    return int(said)


def _is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine or an address; a name of the network's could be anybody's."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
