"""What Ray tells of a run, seen by a real Prometheus that hears from Ray whom to ask; how Ray provisions Grafana."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import ray
import yaml

from cluster.reporting.metric_table import METRICS
from cluster.reporting.outputs import MetricsWriter
from learner.types import free_port
from tests.prometheus import DASHBOARDS, Prometheus, needs_prometheus

pytestmark = [pytest.mark.ray, needs_prometheus]
Found = TypeVar("Found")
BOARDS, RAYS = "boards", "ray"  # folders of dashboards and of Ray's files
LINE = dict.fromkeys(METRICS, 0.25) | {"step": 3, "timeout_share": 0.5, "disk_used": 0.5}


@pytest.fixture
def session(own_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of a Ray session, which puts its dashboards beside ours."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / BOARDS).mkdir()
        shutil.copy(DASHBOARDS / "winnow.json", folder / BOARDS)
        monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")
        monkeypatch.setenv("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", str(folder / BOARDS))
        ports = {"dashboard_port": free_port(), "_metrics_export_port": free_port()}
        ray.init("local", num_cpus=1, include_dashboard=True, _temp_dir=str(folder / RAYS), **ports)
        try:
            yield folder
        finally:
            ray.shutdown()


def until(look: Callable[[], Found], seconds: float = 120.0) -> Found:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.5)
    return found


@contextmanager
def going_on(writer: MetricsWriter) -> Iterator[None]:
    """While it lasts Ray is told of a run again and again, as by a run that goes on."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(0.2):
            writer.now({"generators": 2})

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_prometheus_has_every_metric_under_its_name_data_for_every_panel_and_an_alert_and_nothing_after_the_end(
    session: Path, tmp_path: Path
) -> None:
    shown = '{run="demo", __name__!~"ALERTS.*"}'
    writer = MetricsWriter(tmp_path, "demo")
    writer.write(LINE | {"bottleneck": "train", "dropped": {}})
    with Prometheus(tmp_path / "prometheus", session / RAYS) as prometheus:
        with going_on(writer):
            wanted = {f"ray_{name}" for name in METRICS}
            until(lambda: {each["metric"]["__name__"] for each in prometheus.series(shown)} == wanted)
            (accuracy,) = prometheus.series("ray_accuracy")
            assert float(accuracy["value"][1]) == 0.25
            assert prometheus.about("ray_seconds_train") == "Seconds of the learner's updates. Unit: s."
            until(lambda: not prometheus.without_data("demo"))
            alert = 'ALERTS{alertname="WinnowVerdictsAreLate", alertstate="firing", run="demo"}'
            until(lambda: prometheus.series(alert))
        until(lambda: not prometheus.series(shown))
    writer.close()


def test_rays_provisioning_leads_grafana_to_the_dashboard_and_to_prometheus(session: Path) -> None:
    provisioned = session / RAYS / "session_latest/metrics/grafana/provisioning"
    until((provisioned / "datasources/default.yml").is_file)
    (provider,) = yaml.safe_load((provisioned / "dashboards/default.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(session / BOARDS)
    until((session / BOARDS / "default_grafana_dashboard.json").is_file)
    assert (session / BOARDS / "winnow.json").read_bytes() == (DASHBOARDS / "winnow.json").read_bytes()
    (source,) = yaml.safe_load((provisioned / "datasources/default.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
