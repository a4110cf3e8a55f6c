"""Who counts as lost in a send, on replies of generators that nobody has to run for."""

from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from actors.errors import EngineDied
from learner.sending import GeneratorsSyncClient
from learner.types import Receivers
from tests.bench.scale_costs import SENDER_CALLS


class Generator:
    """Answers every call with what it was made with."""

    def __init__(self, reply: str | Exception) -> None:
        self._reply = reply
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> "Generator":
        self.calls.append(name)
        return self

    def remote(self, *_: object) -> tuple["Generator", str | Exception]:
        return self, self._reply


def failing(cause: Exception) -> RayTaskError:
    return RayTaskError("update_weights", f"a traceback: {cause}", cause)


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies come in their order."""

    def get(reply: Any) -> object:
        if isinstance(reply[1], Exception):
            raise reply[1]
        return reply[1]

    monkeypatch.setattr("ray.wait", lambda waiting, **_: (waiting[:1], waiting[1:]))
    monkeypatch.setattr("ray.get", get)


def client(*answers: str | Exception) -> GeneratorsSyncClient:
    receivers = Receivers(
        generators=tuple(map(Generator, answers)),
        workers_each=1,
        backend="gloo",
        bucket_bytes=8,
        timeout_seconds=9.0,
    )
    return GeneratorsSyncClient(receivers)


def test_a_sync_asks_each_generator_once(replies: None) -> None:
    them, generator = client("received"), Generator("received")
    them._receivers = replace(them._receivers, generators=(generator,))
    them.begin()
    them.start_weight_update()
    them.update_weights(None)
    them.finish_weight_update()
    assert generator.calls == ["update_weights"]
    assert len(generator.calls) == SENDER_CALLS


@pytest.mark.parametrize("cause", [ValueError("out of tune"), EngineDied("the engine is gone")])
def test_the_first_that_fails_is_lost_and_none_that_the_cut_brings_out(replies: None, cause: Exception) -> None:
    them = client("received", failing(cause), failing(RuntimeError("nothing came any more")))
    them.update_weights(None)
    assert them.was_cut
    assert [(one.index, str(cause) in one.why) for one in them.settle()] == [(1, True)]


def test_what_the_only_one_that_is_left_refuses_ends_the_send_with_its_words(replies: None) -> None:
    them = client(failing(ValueError("a tensor too many")))
    them.update_weights(None)
    with pytest.raises(RuntimeError, match="a tensor too many"):
        them.settle()


def test_a_generator_that_fails_as_the_sender_has_failed_is_not_lost(replies: None) -> None:
    them = client("received", failing(ValueError("connection closed by peer")))
    them.update_weights(None)
    with pytest.raises(RuntimeError, match="connection closed"):
        them.settle(sender_failed=True)


def test_one_that_dies_alone_is_lost(replies: None) -> None:
    them = client(failing(EngineDied("the engine is gone")))
    them.update_weights(None)
    assert [one.index for one in them.settle()] == [0]
