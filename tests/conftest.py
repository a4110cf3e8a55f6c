"""Keeps tests off the network, and counts the cases of tables."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
CASES = pytest.StashKey[int]()


def pytest_collection_finish(session: pytest.Session) -> None:
    cases = (getattr(getattr(item, "obj", None), "table_cases", 0) for item in session.items)
    session.config.stash[CASES] = sum(cases)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(CASES, 0):
        terminalreporter.write_line(f"{config.stash[CASES]} cases of tables were run inside the tests above")
