import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.filtering.filter import LedgerReport
from cluster.config.reading import config_of
from cluster.reporting.gauges import Gauges
from cluster.running import reporter
from cluster.running.reporter import Reporter, Watched


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
    tells.close()
    last = len(told)
    await asyncio.sleep(0.05)
    assert len(told) == last  # Ray hears nothing more of it, and forgets it
