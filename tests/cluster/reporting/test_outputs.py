import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cluster.reporting.display import Display
from cluster.reporting.gauges import Gauges
from cluster.reporting.metric_table import METRICS
from cluster.reporting.outputs import MetricsWriter

LINE = dict.fromkeys(METRICS, 0.5) | {"step": 3, "accuracy": None, "bottleneck": "train", "dropped": {}}


def test_a_step_stands_in_the_file_and_in_the_groups_of_tensorboard_under_the_same_names(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, "run")
    writer.write(LINE)
    writer.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == LINE
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = {f"{metric.group}/{name}" for name, metric in METRICS.items()}
    assert set(events.Tags()["scalars"]) == tags - {"reward/accuracy"}  # a number that there is not is left out
    assert [(event.step, event.value) for event in events.Scalars("policy/entropy")] == [(3, 0.5)]


def test_an_accuracy_that_is_known_later_stands_under_its_step_in_tensorboard(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, "run")
    writer.evaluated(0, 0.25)
    for step in (3, 4):
        writer.write(LINE | {"step": step, "eval_accuracy": None})
    writer.evaluated(3, 0.75)
    writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/eval_accuracy")] == [(0, 0.25), (3, 0.75)]
    assert [event.step for event in events.Scalars("policy/entropy")] == [3, 4]


def test_without_a_terminal_each_step_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(steps=9) as display:
        display.status("warming up")
        display.step(LINE)
    shown = capsys.readouterr().out
    assert "warming up\n" in shown
    assert "step 3/9: kept 0.5, all correct 0.5" in shown
    assert "\x1b" not in shown


def test_a_narrow_terminal_shows_the_most_telling_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    display = Display(steps=9)
    for width, wanted in ((80, ["step", "accuracy", "kept", "all correct", "all wrong"]), (200, ["bottleneck"])):
        monkeypatch.setattr(display._console, "_width", width)
        assert set(wanted) <= set(display._columns_that_fit())
    monkeypatch.setattr(display._console, "_width", 80)
    assert "bottleneck" not in display._columns_that_fit()


def test_what_is_told_between_two_steps_is_not_set_back_by_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, float] = {}
    monkeypatch.setattr(Gauges, "tell", lambda self, numbers: told.update(numbers))
    writer = MetricsWriter(tmp_path, "run")
    writer.now({"groups_kept": 70})
    writer.write(LINE | {"groups_kept": 64})
    assert (told["groups_kept"], told["entropy"]) == (70, 0.5)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["groups_kept"] == 64
