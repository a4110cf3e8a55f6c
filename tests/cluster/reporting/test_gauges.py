import pytest

from cluster.reporting import gauges
from cluster.reporting.gauges import Gauges
from cluster.reporting.metric_table import METRICS


class Shown:
    """Stands for Ray's gauges: what was set last."""

    values: dict[tuple[str, str], float]
    described: dict[str, str]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self._name = name
        Shown.described[name] = description
        assert tag_keys == ("run",)

    def set(self, value: float, tags: dict[str, str]) -> None:
        Shown.values[self._name, tags["run"]] = value


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Shown.values, Shown.described = {}, {}
    monkeypatch.setattr(gauges, "Gauge", Shown)


def test_every_metric_is_described_by_its_sentence_and_its_unit() -> None:
    Gauges("demo")
    assert set(Shown.described) == set(METRICS)
    assert Shown.described["sync_gib_per_second"].endswith("over the seconds of sending. Unit: GiB/s.")


def test_what_is_not_told_anew_is_told_again_as_ray_forgets_it() -> None:
    one, other = Gauges("one"), Gauges("other")
    one.tell({"accuracy": 0.5})
    other.tell({"accuracy": 0.25})
    Shown.values.clear()
    one.tell({"loss": 1.0})
    assert Shown.values == {("accuracy", "one"): 0.5, ("loss", "one"): 1.0}
