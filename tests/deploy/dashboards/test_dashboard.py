from collections import Counter

from cluster.reporting.metric_table import METRICS
from tests.project import dashboards
from tests.project.dashboards import dashboard, named_in, panels


def test_the_dashboard_is_the_one_that_the_metrics_make() -> None:
    assert dashboards.FILE.read_text() == dashboards.written(), "python -m tests.project.dashboards writes it anew"


def test_the_dashboard_shows_every_metric() -> None:
    assert {name for panel in panels() for name in named_in(panel)} == set(METRICS)


def test_panels_do_not_cover_one_another() -> None:
    covered = Counter(
        (x, y)
        for panel in dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert set(covered.values()) == {1}
    assert max(x for x, _ in covered) == 23
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
