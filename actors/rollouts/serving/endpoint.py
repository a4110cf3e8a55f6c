"""One HTTP server for all episodes of a session, in a thread of its own: nothing that an agent sends holds up the
engine, or the environments.

agent ──▶ /KEY/v1/chat/completions ──▶ route of this key ──▶ conversations of its seat, in the loop of the rollout

A key stands for one seat of one episode, or for one agent of it, and nobody can guess it. The server is started when
the first address is asked for.
"""

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from actors.logs import LOGGER
from actors.rollouts.serving.wire import (
    Answer,
    Asked,
    Refused,
    answer_of,
    asked_of,
    chunks_of,
    error_of,
    model_of,
    models_of,
)

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
WAITING = 1024  # connections that may wait to be taken
BODY_BYTES, BYTES_PER_TOKEN = 1 << 16, 64  # a request may have the first, and the second for each token of a stream
END_SECONDS = 5.0  # for the server to end
PATHS = "POST chat/completions, GET models"
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class Answering(Protocol):
    """What is behind a key."""

    @property
    def most_tokens(self) -> int:
        """Of a stream."""
        ...

    async def answer(self, asked: Asked) -> Answer:
        """The answer to a request; runs in the loop of the rollout.

        Raises:
            Refused: there is none.
        """
        ...


class Endpoint:
    """The server of one session. Made inside the running event loop of the rollout; `close` ends it."""

    def __init__(self) -> None:
        self._home = asyncio.get_running_loop()
        self._routes: dict[str, Answering] = {}
        self._lock = threading.Lock()  # environments may ask from several threads for the first address
        self._thread: _Thread | None = None
        self._told: set[str] = set()  # of what the log has been told

    def open(self, answering: Answering) -> str:
        """A new key, from any thread, at once.

        Args:
            answering: what answers requests with this key until `shut`.
        """
        with self._lock:
            self._thread = self._thread or _Thread(self._application(answering.most_tokens))
        key = secrets.token_hex(16)
        self._routes[key] = answering
        return key

    def url(self, key: str) -> str:
        """The address that a key is for, as clients of OpenAI want it."""
        assert self._thread is not None  # there are keys
        return f"http://{HOST}:{self._thread.port}/{key}/v1"

    def shut(self, key: str) -> None:
        """Nothing is behind the key any more."""
        self._routes.pop(key, None)

    def tell_once(self, kind: str, text: str) -> None:
        """Tells the log something, the first time that something of this kind happens in the run."""
        if kind not in self._told:
            self._told.add(kind)
            LOGGER.warning("%s. This is said once", text)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Runs something in the server's thread, from any other."""
        assert self._thread is not None  # whoever runs something has an address
        return asyncio.run_coroutine_threadsafe(coroutine, self._thread.loop)

    async def close(self) -> None:
        """Ends the server, and what runs in its thread."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.end)

    def _application(self, most_tokens: int) -> "web.Application":
        from aiohttp import web

        @web.middleware
        async def with_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._with_errors(request, handler)

        application = web.Application(
            middlewares=[with_errors], client_max_size=BODY_BYTES + BYTES_PER_TOKEN * most_tokens
        )
        application.router.add_post("/{key}/v1/chat/completions", self._complete)
        application.router.add_get("/{key}/v1/models", self._models)
        application.router.add_get("/{key}/v1/models/{name:.+}", self._models)
        return application

    async def _complete(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        answering = self._behind(request)
        asked = asked_of(await request.read())
        answer = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answering.answer(asked), self._home))
        created = int(time.time())
        if not asked.stream:
            return web.json_response(answer_of(asked, answer, created))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for chunk in chunks_of(asked, answer, created):
            await response.write(chunk.encode())
        await response.write_eof()
        return response

    async def _models(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        self._behind(request)
        name = request.match_info.get("name")
        return web.json_response(model_of(name) if name else models_of("policy"))

    def _behind(self, request: "web.Request") -> Answering:
        """What answers a request. A bearer key is of no use, but where it is another episode's somebody took the wrong
        one."""
        key, bearer = request.match_info["key"], request.headers.get("Authorization", "").removeprefix("Bearer ")
        answering = self._routes.get(key)
        if answering is None:
            raise Refused("there is no episode with this key: it has ended or never was", status=404, code="no_episode")
        if self._routes.get(bearer, answering) is not answering:
            raise Refused("the API key is another episode's", status=401, code="invalid_api_key")
        return answering

    async def _with_errors(self, request: "web.Request", handler: Handler) -> "web.StreamResponse":
        """Every error in OpenAI's form, and none that a client would try again."""
        from aiohttp import web

        status, param, code = 500, None, None
        try:
            return await handler(request)
        except Refused as refused:
            status, param, code, why = refused.status, refused.param, refused.code, str(refused)
        except web.HTTPRequestEntityTooLarge as failure:
            status, why = failure.status, "the request is larger than any conversation may be"
        except web.HTTPException as failure:
            status = failure.status
            why = f"{request.method} {request.path.partition('/v1')[2] or '/'}: {failure.reason}; there are {PATHS}"
        except RecursionError:
            status, why = 400, "the request is nested too deeply"
        except ConnectionError:  # the client has gone
            raise
        except Exception as failure:
            why = f"{type(failure).__name__}: {failure}"
        self.tell_once(f"{status} {param} {code}", f"A request of an agent gets status {status}: {param or ''} {why}")
        row = error_of(why, status=status, param=param, code=code)
        return web.json_response(row, status=status, headers={"x-should-retry": "false"})


class _Thread:
    """A thread with a server. Its socket is open at once; whoever comes before the server runs waits there."""

    def __init__(self, application: "web.Application") -> None:
        self.loop = asyncio.SelectorEventLoop()
        self._socket = socket.create_server((HOST, 0), backlog=WAITING)
        self.port = int(self._socket.getsockname()[1])
        self._application, self._ended = application, asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the server, from another thread, and waits for that."""
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        for task in (left := asyncio.all_tasks(self.loop)):
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _serve(self) -> None:
        from aiohttp import web

        runner = web.AppRunner(
            self._application, handler_cancellation=True, access_log=None, shutdown_timeout=0, handle_signals=False
        )
        await runner.setup()
        await web.SockSite(runner, self._socket).start()
        await self._ended.wait()
        await runner.cleanup()
