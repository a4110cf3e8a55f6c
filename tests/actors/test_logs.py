import io
import logging

import pytest
import ray

from actors import logs
from actors.logs import LOGGER, log_in_actor
from actors.secrets import HIDDEN


@pytest.fixture
def _an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is an actor's, as far as Ray says."""

    class Context:
        def get_actor_id(self) -> str:
            return "0f1e"

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    for name, value in {"handlers": [], "level": logging.NOTSET, "propagate": True}.items():
        monkeypatch.setattr(LOGGER, name, value)


def test_a_process_that_is_no_actors_is_left_as_it_is() -> None:
    before = list(LOGGER.handlers)
    log_in_actor()
    assert list(LOGGER.handlers) == before


@pytest.mark.usefixtures("_an_actor")
def test_an_actor_writes_each_line_once_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.sys, "stderr", stderr := io.StringIO())
    log_in_actor()
    log_in_actor()
    LOGGER.info("holds version %d", 3)
    (line,) = stderr.getvalue().splitlines()
    assert line.endswith(" INFO holds version 3")
    assert line[:2] == "20"


@pytest.mark.usefixtures("_an_actor")
def test_an_actor_writes_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.sys, "stderr", stderr := io.StringIO())
    monkeypatch.setenv("JUDGE_API_KEY", "correct horse battery")
    log_in_actor()
    LOGGER.warning("refused: %s", "correct horse battery at https://me:pass@host")
    try:
        raise ValueError("correct horse battery")
    except ValueError:
        LOGGER.exception("failed")
    assert "horse" not in stderr.getvalue()
    assert f"refused: {HIDDEN} at https://{HIDDEN}@host" in stderr.getvalue()
    assert f"ValueError: {HIDDEN}" in stderr.getvalue()
