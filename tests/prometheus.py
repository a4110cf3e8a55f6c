"""A Prometheus of a test's own, on the config and the rules of deploy/dashboards."""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from learner.types import free_port
from tests.project.dashboards import dashboard
from tests.project.reference import ROOT

DASHBOARDS = ROOT / "deploy/dashboards"
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus (Debian's package) is not installed"
)


class Prometheus:
    """A server that scrapes what a Ray session lists, every second, and lets no alert wait."""

    def __init__(self, folder: Path, ray_folder: Path) -> None:
        """
        Args:
            folder: for its files; made here.
            ray_folder: Ray's temporary folder, /tmp/ray where nobody says otherwise.
        """
        folder.mkdir()
        config = yaml.safe_load((DASHBOARDS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (listing,) = config["scrape_configs"][0]["file_sd_configs"]
        listing["refresh_interval"] = "1s"
        listing["files"] = [file.replace("/tmp/ray", str(ray_folder)) for file in listing["files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = yaml.safe_load((DASHBOARDS / "alerts.yml").read_text())
        for rule in rules["groups"][0]["rules"]:
            rule.pop("for", None)
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
        self.url = f"http://127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}"]
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)

    def series(self, query: str) -> list[dict[str, Any]]:
        """What a query gives now: for each series its labels, `metric`, and its `value`."""
        return list(self._get("query", query=query)["result"]) if self._answers() else []

    def about(self, metric: str) -> str:
        """The sentence that a metric came with."""
        found = self._get("metadata", metric=metric)
        return str(found[metric][0]["help"])

    def without_data(self, run: str) -> list[str]:
        """The queries of the dashboard that give nothing for a run."""
        targets = [target for panel in dashboard()["panels"] for target in panel.get("targets", ())]
        queries = [target["expr"].replace("$run", run) for target in targets]
        return [query for query in queries if not self.series(query)]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10):
                return True
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]
