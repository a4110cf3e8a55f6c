import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.filtering.filter import LedgerReport
from cluster.config.reading import config_of
from cluster.reporting.gauges import Gauges
from cluster.reporting.metrics import FilterReport
from cluster.reporting.steps import StepDone
from cluster.running import reporter
from cluster.running.reporter import Reporter, Watched
from cluster.running.room import Room
from tests.builders import summary
from tests.cluster.reporting.test_metrics import STATS


async def test_groups_are_told_of_while_a_step_goes_on_and_the_run_is_gone_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(Gauges, "tell", lambda self, numbers: told.append(dict(numbers)))
    monkeypatch.setattr(reporter, "NOW_SECONDS", 0.01)
    counts = {"groups_dispatched": 0, "groups_buffered": 3, "groups_in_flight": 5}
    counts |= {"groups_all_correct": 1, "groups_all_wrong": 0}

    def counted() -> LedgerReport:
        counts["groups_dispatched"] += 1
        return LedgerReport(counts=dict(counts), drops={"interrupted": 2}, patience_spent=0.5)

    watched = Watched(
        generators=SimpleNamespace(alive={"generator-0": None}, wanted=1),
        verifiers=list,
        filter=SimpleNamespace(counted=counted),
        room=SimpleNamespace(),
    )
    shown: list[str] = []
    display = SimpleNamespace(status=lambda text, line=True: shown.append(text))
    tells = Reporter(config_of({"world": {"name": "addition"}}), watched, tmp_path, display, "run")
    tells.begin()
    while len(told) < 3:
        await asyncio.sleep(0.01)
    assert [now["groups_dispatched"] for now in told[:3]] == [1, 2, 3]
    assert (told[0]["generators"], told[0]["patience_spent"], told[0]["groups_interrupted"]) == (1, 0.5, 2)
    assert shown[0] == (
        "waiting for groups: 3 of 64 accepted, 5 being sampled or graded by 1 of 1 generator, 1 all correct and 0 all "
        "wrong so far"
    )
    tells.doing("training on step 2")
    assert shown[-1] == "training on step 2"
    await tells.close()
    last = len(told)
    await asyncio.sleep(0.05)
    assert len(told) == last  # Ray hears nothing more of it, and forgets it


class SlowVerifier:
    """Says how busy it was when it is let."""

    name = "verifier-0"

    def __init__(self) -> None:
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def busy_seconds(self) -> float:
        self.asked.set()
        await self.free.wait()
        return 1.0


def finished(step: int, oldest: int = 0) -> tuple[Any, FilterReport]:
    """A step that trained on a group of this version, and what the filter tells."""
    one = replace(summary([1.0, -1.0]), oldest_version=oldest)
    synced = SimpleNamespace(size=1, seconds=1.0, probe_gap=0.0, probe_gap_mean=0.0, probe_doubts=0)
    done = StepDone(
        step=step,
        batch=SimpleNamespace(summaries=[one]),
        trained=[STATS],
        synced=synced,
        taken_at=0.0,
        seconds_wait=0.0,
        seconds_train=0.0,
        seconds_sync=0.0,
    )
    names = ("dispatched", "kept", "trained", "all_correct", "all_wrong", "failed", "dropped", "in_flight", "buffered")
    ledger = LedgerReport(counts={f"groups_{name}": 1 for name in names}, drops={}, patience_spent=0.0)
    return done, FilterReport(ledger=ledger, graded=[one])


def reporter_of(folder: Path, *verifiers: SlowVerifier) -> Reporter:
    """A reporter that shows nothing, whose run has these verifiers and trains on-policy."""
    watched = Watched(
        generators=SimpleNamespace(alive={}, wanted=1, busy_seconds=lambda: 0.0),
        verifiers=lambda: list(verifiers),
        filter=SimpleNamespace(),
        room=Room(print),
    )
    display = SimpleNamespace(step=lambda *_: None, say=lambda _: None)
    return Reporter(config_of({"world": {"name": "addition"}}), watched, folder, display, "run")


def steps_told(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


async def test_a_step_is_told_beside_the_next_one_and_before_the_next_is_told(tmp_path: Path) -> None:
    verifier = SlowVerifier()
    tells = reporter_of(tmp_path, verifier)
    await tells.step(*finished(1), updates=1)
    await verifier.asked.wait()
    assert steps_told(tmp_path) == []  # the verifier has not answered, and training goes on
    second = asyncio.create_task(tells.step(*finished(2, oldest=1), updates=2))
    await asyncio.sleep(0.01)
    assert not second.done()
    verifier.free.set()
    await second
    assert steps_told(tmp_path) == [1]
    await tells.told()
    assert steps_told(tmp_path) == [1, 2]
    await tells.step(*finished(3, oldest=2), updates=3)
    await tells.close()
    assert steps_told(tmp_path) == [1, 2, 3]


async def test_what_is_wrong_with_a_step_is_raised_when_it_has_been_told(tmp_path: Path) -> None:
    tells = reporter_of(tmp_path)
    await tells.step(*finished(3, oldest=0), updates=1)
    for telling in (tells.told, lambda: tells.step(*finished(4, oldest=3), updates=2)):
        with pytest.raises(RuntimeError, match="step 3 trained on tokens 2 versions old"):
            await telling()
    await tells.close()
