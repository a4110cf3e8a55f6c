"""A run waits for a cluster once: the time that it waited for room is gone when Ray places it."""

import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.placement import actors, session
from cluster.placement.actors import PLACEMENT_SECONDS, running_actors
from cluster.placement.session import ray_session

WAITED = 1000.0  # seconds, for room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only place."""
    now = [5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long Ray has to place a run, at each try; it places none."""
    waits: list[float] = []

    class Never:
        def __init__(self, *about: object) -> None:
            pass

        def place(self, seconds: float) -> None:
            waits.append(seconds)
            raise ConfigError("taken by others")

        def remove(self) -> None:
            pass

    monkeypatch.setattr(actors, "Placed", Never)
    monkeypatch.setattr(actors, "ended", lambda: False)
    return waits


@pytest.mark.parametrize(("minutes", "left"), [(60.0, 3600.0 - WAITED), (0.0, PLACEMENT_SECONDS)])
def test_what_a_run_has_waited_for_room_it_does_not_wait_again(
    minutes: float, left: float, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*about: object) -> Any:
        clock[0] += WAITED
        return SimpleNamespace()

    monkeypatch.setattr(session, "wait_for_room", waits)
    monkeypatch.setattr(session, "joined", lambda *about: nullcontext("head:8265"))
    monkeypatch.setattr(session, "warn_without_token", lambda dashboard: None)
    cluster = {"address": "head:6379", "wait_minutes": minutes}
    config = config_of({"world": {"name": "addition"}, "cluster": cluster})
    prepared: Any = SimpleNamespace(config=config)
    given = told(monkeypatch)
    with ray_session(config) as (layout, _, until):
        for deadline in (until, 0.0):
            with pytest.raises(ConfigError, match="taken by others"), running_actors(prepared, layout, "", deadline):
                pass
    assert given == [left, PLACEMENT_SECONDS]
