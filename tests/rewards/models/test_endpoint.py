import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rewards.models.endpoint import Conversation, Failure, Fault, ask
from rewards.models.judges import JudgeSettings, judge, verdicts
from rewards.settings import Budget
from rewards.verdict import Case, Outcome
from tests.tables import each

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Server(ThreadingHTTPServer):
    """As many connections may wait as are tried at once."""

    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """Answers a question with the behaviour that its text names."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        with server.lock:
            server.asked.append((self.path, dict(self.headers), body))
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            next(act for name, act in BEHAVIOURS.items() if name in text)(self, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def right(handler: Handler, body: dict[str, Any]) -> None:
    text = body["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"to {text}" if len(text) < 20 else "yes"}
    handler.reply(200, json.dumps({"choices": [{"message": message}]}).encode())


def busy_once(handler: Handler, body: dict[str, Any]) -> None:
    server: Any = handler.server
    if sum(asked == body for _, _, asked in server.asked) < 2:
        handler.reply(429, b"slow down")
    else:
        right(handler, body)


def lost_once(handler: Handler, body: dict[str, Any]) -> None:
    server: Any = handler.server
    if sum(asked == body for _, _, asked in server.asked) >= 2:
        right(handler, body)
    handler.close_connection = True


def hang(handler: Handler, body: dict[str, Any]) -> None:
    server: Any = handler.server
    server.over.wait(30)
    handler.close_connection = True


def drip(handler: Handler, body: dict[str, Any]) -> None:
    server: Any = handler.server
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.close_connection = True
    for _ in range(1000):
        if server.over.wait(0.02):
            return
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


BEHAVIOURS: dict[str, Behaviour] = {
    "busy": busy_once,
    "lost": lost_once,
    "broken": lambda handler, body: handler.reply(500, b"boom " + b"x" * 1000),
    "refused": lambda handler, body: handler.reply(401, b'{"error": "no such key"}'),
    "echo": lambda handler, body: handler.reply(401, f"who is {handler.headers['Authorization']}?".encode()),
    "hang": hang,
    "drip": drip,
    "garbage": lambda handler, body: handler.reply(200, b"<html>not json</html>"),
    "empty": lambda handler, body: handler.reply(200, b'{"choices": []}'),
    "silent": lambda handler, body: handler.reply(200, b'{"choices": [{"message": {"content": null}}]}'),
    "too long": lambda handler, body: handler.reply(400, b'{"message": "maximum context length is 1000 tokens"}'),
    "": right,
}


@contextmanager
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server on this machine; its `url`, and what it was asked."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server: Any = Server(("127.0.0.1", 0), Handler)
    server.asked, server.lock, server.over = [], threading.Lock(), threading.Event()
    server.under_way = server.most_under_way = 0
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def questions(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_many_questions_come_back_in_order_and_never_too_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"question {number}" for number in range(100)]
    with endpoint(monkeypatch) as server:
        assert ask(server.url + "/", "m", questions(*texts), 30) == [f"to {text}" for text in texts]
        assert server.most_under_way <= 32
        path, headers, body = server.asked[0]
        assert path == "/v1/chat/completions"
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 2048)
        assert "Authorization" not in headers


def test_the_key_of_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(monkeypatch) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "abc")
        assert ask(server.url, "m", questions("q"), 30) == ["to q"]
        assert server.asked[0][1]["Authorization"] == "Bearer abc"


def test_a_key_that_the_endpoint_repeats_is_in_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(monkeypatch) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "correct-horse")
        (failure,) = ask(server.url, "m", questions("echo"), 30)
    assert isinstance(failure, Failure)
    assert "who is Bearer <key>?" in failure.why


@pytest.mark.parametrize("behaviour", ["busy", "lost"])
def test_a_busy_endpoint_or_a_lost_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    with endpoint(monkeypatch) as server:
        assert ask(server.url, "m", questions(behaviour), 30) == [f"to {behaviour}"]
        assert len(server.asked) == 2


@pytest.mark.slow
def test_an_endpoint_that_goes_on_failing_is_an_error_with_status_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(monkeypatch) as server:
        (failure,) = ask(server.url, "m", questions("broken"), 5.0)
        assert len(server.asked) > 1
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.ERROR
    assert f"status 500: 'boom {'x' * 195}'" in failure.why


def test_a_request_that_the_endpoint_refuses_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(monkeypatch) as server:
        (failure,) = ask(server.url, "m", questions("refused"), 30)
        assert len(server.asked) == 1
    assert isinstance(failure, Failure)
    assert (failure.outcome, "status 401" in failure.why, "no such key" in failure.why) == (Outcome.ERROR, True, True)


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_an_answer_that_does_not_end_in_time_is_a_time_out_of_its_own_case(
    monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    with endpoint(monkeypatch) as server:
        answers = ask(server.url, "m", questions("a", behaviour, "b"), 5.0)
    assert (answers[0], answers[2]) == ("to a", "to b")
    assert isinstance(answers[1], Failure)
    assert answers[1].outcome is Outcome.TIMEOUT
    assert "within 5 s" in answers[1].why


@pytest.mark.parametrize("behaviour", ["garbage", "empty", "silent"])
def test_an_answer_that_is_no_chat_completion_is_an_error(monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    with endpoint(monkeypatch) as server:
        (failure,) = ask(server.url, "m", questions(behaviour), 30)
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.ERROR
    assert "no chat completion" in failure.why


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nowhere/v1", "http://[bad/v1"])
def test_an_endpoint_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with endpoint(monkeypatch):
        (failure,) = ask(url, "m", questions("q"), 0.2)
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.ERROR


def test_nothing_is_asked_about_nothing() -> None:
    assert ask("http://127.0.0.1:1/v1", "m", [], 1) == []


@pytest.mark.slow
def test_the_judge_judges_each_case_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("fine", "garbage", "hang", "refused", "fine")
    with endpoint(monkeypatch) as server:
        settings = JudgeSettings(url=server.url, model="m")
        cases = [Case(prompt="q", reference="r", response=response) for response in said]
        outcomes = [result.outcome for result in judge(cases, settings, Budget(seconds=5.0))]
    right, late, failed = Outcome.CORRECT, Outcome.TIMEOUT, Outcome.ERROR
    assert outcomes == [right, failed, late, failed, right]


def test_the_judge_needs_an_endpoint() -> None:
    with pytest.raises(ValueError, match=r"url must be set to an endpoint"):
        judge([Case(response="", reference="")], JudgeSettings(path="folder"), Budget())


def short_of_words(conversations: Sequence[Conversation], seconds: float) -> list[str | Failure]:
    """A judge with a short context that seldom says a word alone; the response says how it answers."""
    return [_short_of_words(turns) for turns in conversations]


def _short_of_words(turns: Conversation) -> str | Failure:
    text, again = turns[0]["content"], len(turns) > 1
    if "broken" in text:
        return Failure(outcome=Outcome.ERROR, why="status 500")
    if len(text) > 3000 or "swears" in text:
        return Failure(outcome=Outcome.ERROR, why="status 400: too long", fault=Fault.REFUSED)
    if "breaks" in text:
        return Failure(outcome=Outcome.ERROR, why="status 500") if again else "Hm."
    if "thinks" in text and not again:
        return Failure(outcome=Outcome.ERROR, why="no text", fault=Fault.MUTE)
    if "thinks for ever" in text or "slow" in text:
        return Failure(outcome=Outcome.TIMEOUT, why="slow") if again or "slow at once" in text else "Hm."
    if "loops" in text:
        return "I would say yes, but then again I would say no"
    return "yes" if "fine" in text else "no" if again else "I think that it says yes"


TWICE = [  # response, its outcome with unread = "wrong", with "none", and the part "unread"
    ("fine", Outcome.CORRECT, Outcome.CORRECT, 0),
    ("hm", Outcome.WRONG, Outcome.WRONG, 0),
    ("thinks", Outcome.WRONG, Outcome.WRONG, 0),
    ("thinks, fine", Outcome.CORRECT, Outcome.CORRECT, 0),
    ("thinks for ever", Outcome.WRONG, Outcome.ERROR, 1),
    ("loops", Outcome.WRONG, Outcome.ERROR, 1),
    ("slow then", Outcome.WRONG, Outcome.ERROR, 1),
    ("slow at once", Outcome.TIMEOUT, Outcome.TIMEOUT, 0),
    ("fine " * 1000, Outcome.WRONG, Outcome.WRONG, 0),
    ("swears", Outcome.WRONG, Outcome.WRONG, 0),
    ("broken", Outcome.ERROR, Outcome.ERROR, 0),
    ("breaks then", Outcome.ERROR, Outcome.ERROR, 0),
]


@each(("response", "wrong", "none", "unread"), TWICE)
def test_no_response_keeps_a_judge_from_its_verdict(
    response: str, wrong: Outcome, none: Outcome, unread: float
) -> None:
    cases = [Case(prompt="q", reference="4", response=response)]
    (strict,) = verdicts(short_of_words, cases, JudgeSettings(), 10.0)
    (lax,) = verdicts(short_of_words, cases, JudgeSettings(unread="none"), 10.0)
    assert (strict.outcome, lax.outcome, strict.parts["unread"]) == (wrong, none, unread)


def test_a_question_that_the_judge_refuses_by_itself_is_no_fault_of_a_response() -> None:
    cases = [Case(prompt="q" * 4000, reference="4", response=response) for response in ("fine", "x" * 9000)]
    assert [one.outcome for one in verdicts(short_of_words, cases, JudgeSettings(), 10.0)] == [Outcome.ERROR] * 2


def test_what_the_endpoint_says_is_told_from_what_it_takes_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint(monkeypatch) as server:
        found = ask(server.url, "m", questions("silent", "empty", "refused", "too long"), 30)
    assert [one.fault for one in found if isinstance(one, Failure)] == [
        Fault.MUTE,
        Fault.ENDPOINT,
        Fault.ENDPOINT,
        Fault.REFUSED,
    ]
