"""A client for endpoints of the OpenAI kind: requests in; out comes what each reply holds, or why there is none."""

import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rewards.verdict import Outcome

if TYPE_CHECKING:
    import httpx

Conversation = Sequence[dict[str, str]]
Found = TypeVar("Found")  # what is read of a reply

AT_ONCE = 32  # requests under way
ANSWER_TOKENS = 2048  # most of one answer, with what the model thinks before it
TRIES = 6  # of one request, with waits of 0.25, 0.5, 1, 2 and 4 seconds between
FIRST_WAIT, LONGEST_WAIT = 0.25, 30.0
LARGEST_REPLY = 4 << 20  # bytes
REFUSALS = (400, 413, 414, 422)  # statuses that say what was asked cannot be answered: too long, or words not allowed


class Fault(StrEnum):
    """What went wrong with a request."""

    ENDPOINT = "endpoint"  # it is not there, broken, slow, or not what it should be
    REFUSED = "refused"  # it takes no such request
    MUTE = "mute"  # its model answered without a text, as one does that is still thinking at its last token


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request has no answer."""

    outcome: Outcome  # timeout or error
    why: str
    fault: Fault = Fault.ENDPOINT


def ask(url: str, model: str, conversations: Sequence[Conversation], seconds: float) -> list[str | Failure]:
    """The likeliest answer of a model to each conversation, in order.

    Posts to {url}/chat/completions as `posted` does.

    Args:
        url: of the endpoint, such as "http://host:8000/v1".
        model: the name that the endpoint knows its model by.
        conversations: turns with "role" and "content".
        seconds: each conversation may take so long, counted from its first request, before it is a time-out.
    """
    settled = {"model": model, "temperature": 0, "max_tokens": ANSWER_TOKENS}
    bodies = [settled | {"messages": list(conversation)} for conversation in conversations]
    return list(posted(f"{url.rstrip('/')}/chat/completions", bodies, _answer, seconds))


def posted(
    target: str,
    bodies: Sequence[Mapping[str, Any] | None],
    read: Callable[[str, bytes], Found | Failure],
    seconds: float,
    tries: int = TRIES,
) -> Generator[Found | Failure, None, None]:
    """What an endpoint answers to each request, in order; requests that are not under way yet are given up where nobody
    wants more.

    At most 32 are under way at a time, with the key of the environment variable OPENAI_API_KEY where it is set. A lost
    connection, status 429 and status 5xx are tried again, with growing waits and only while there is time. One failure
    never touches another request.

    Args:
        target: the address that is posted to.
        bodies: of the requests; None asks for what is there (GET).
        read: takes the target and a reply with status 200.
        seconds: each request may take so long, counted from its first try, before it is a time-out.
        tries: most of one request.
    """
    import httpx

    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    with httpx.Client(headers=headers, limits=limits) as client, ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(partial(_ask_one, client, target, read, seconds, tries), bodies)


class _TryAgain(Exception):
    """A request failed in a way that another one may not; the message says how."""


def _ask_one(
    client: "httpx.Client",
    target: str,
    read: Callable[[str, bytes], Found | Failure],
    seconds: float,
    most: int,
    body: Mapping[str, Any] | None,
) -> Found | Failure:
    import httpx
    import tenacity

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TryAgain),
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=tenacity.stop_after_attempt(most) | tenacity.stop_before_delay(seconds),
        reraise=True,
    )
    try:
        return tries(_try_once, client, target, read, body, time.monotonic() + seconds)
    except (TimeoutError, httpx.TimeoutException):
        return Failure(outcome=Outcome.TIMEOUT, why=f"{target} gave no answer within {seconds:g} s")
    except _TryAgain as failure:
        return no_answer(str(failure))
    except (httpx.InvalidURL, httpx.StreamError, httpx.DecodingError, OverflowError) as wrong:
        return no_answer(f"{target}: {type(wrong).__name__}: {wrong}")


def _try_once(
    client: "httpx.Client",
    target: str,
    read: Callable[[str, bytes], Found | Failure],
    body: Mapping[str, Any] | None,
    deadline: float,
) -> Found | Failure:
    """The answer to one request, or why there will be none.

    Raises:
        _TryAgain: the connection was lost, or the endpoint is busy or broken for now.
        TimeoutError, httpx.HTTPError: as `_post`.
    """
    import httpx

    try:
        status, reply = _post(client, target, body, deadline)
    except httpx.TimeoutException:
        raise
    except httpx.TransportError as lost:
        raise _TryAgain(f"{target} cannot be reached: {type(lost).__name__}: {lost}") from lost
    if status == 200:
        return read(target, reply)
    why = f"{target} answered with status {status}: {shown(reply)}"
    if status == 429 or status >= 500:
        raise _TryAgain(why)
    return no_answer(why, Fault.REFUSED if status in REFUSALS else Fault.ENDPOINT)


def _post(client: "httpx.Client", target: str, body: Mapping[str, Any] | None, deadline: float) -> tuple[int, bytes]:
    """The status and body of a reply.

    Raises:
        TimeoutError: it was not complete at the deadline, though it went on coming.
        httpx.HTTPError: the request failed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    reply = bytearray()
    with client.stream("GET" if body is None else "POST", target, json=body, timeout=left) as response:
        for chunk in response.iter_bytes():
            reply += chunk
            if time.monotonic() > deadline:
                raise TimeoutError
            if len(reply) > LARGEST_REPLY:
                break
        key = client.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        return response.status_code, bytes(reply).replace(key, b"<key>") if key else bytes(reply)  # which it may echo


def _answer(target: str, reply: bytes) -> str | Failure:
    fault = Fault.ENDPOINT
    try:
        message = json.loads(reply)["choices"][0]["message"]
        content = message.get("content")
        fault = Fault.MUTE if content is None else fault
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        content = None
    if not isinstance(content, str):
        return no_answer(f"{target} answered with no chat completion: {shown(reply)}", fault)
    return content


def shown(reply: bytes) -> str:
    """The beginning of a reply, for messages."""
    return repr(reply[:800].decode("utf-8", "replace")[:200])


def no_answer(why: str, fault: Fault = Fault.ENDPOINT) -> Failure:
    """The failure of a request that is no time-out."""
    return Failure(outcome=Outcome.ERROR, why=why, fault=fault)
