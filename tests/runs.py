"""Training runs for tests with the real parts. Ray, actors and engines live on between runs of one shape."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray

from actors.errors import Starved
from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig
from cluster.placement.layout import Layout
from cluster.placement.node import Node
from cluster.placement.session import layout_for, settled
from cluster.placement.warm import WarmActors
from cluster.preparing.folders import make_run_folder, write_config
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world
from cluster.reporting.display import Display
from cluster.running.attempts import run_to_end
from cluster.running.resume import find_continuation
from cluster.running.rewinding import rewind

ROOT = Path(__file__).parents[1]
CPUS = 8  # that Ray may hand out; the machine may have fewer, as actors ask for parts of one
# A run of the demo's world that is over in seconds.
SHORT = (
    "cluster.device=cpu",
    "world.digits=1",
    "data.rows=0:2000",  # fewer are prepared sooner
    "warmup.updates=80",
    "rollout.groups_per_step=8",
    "run.steps=3",
    "learner.updates_per_step=1",
)


def demo(folder: Path, *overrides: str) -> RunConfig:
    """A short run of the demo's world, its run folder under `folder`."""
    return load_config(ROOT / "deploy/runs/demo.toml", [*SHORT, f"run.folder={folder}", *overrides])


class Runs:
    """One Ray session, and actors of one layout at a time."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._warm: WarmActors | None = None
        self._starts: dict[str, Path] = {}  # settings that decide a warm-up -> the warmed-up model

    def train(self, config: RunConfig) -> Path:
        """As `cluster.running.train.train`, on actors that may have served other runs; gives the run folder."""
        folder = make_run_folder(config.run.name, Path(config.run.folder))
        start = json.dumps([config.run.seed, *(s.model_dump() for s in (config.world, config.model, config.warmup))])
        config = write_world(config, folder)
        if start in self._starts:
            model = config.model.model_copy(update={"path": str(self._starts[start])})
            config = config.model_copy(
                update={"model": model, "warmup": config.warmup.model_copy(update={"updates": 0})}
            )
        prepared = prepare(config)
        write_config(config, folder)
        with Display(config.run.steps) as display:
            try:
                warm = self._actors_for(prepared.config)
                prepared = settled(prepared, warm.layout)
                actors = warm.for_run(prepared)
                asyncio.run(run_to_end(prepared, actors, folder, display))
            except Starved:
                raise  # a run that has come to its end
            except Exception:
                self.end()  # whatever was left half done must not meet the next test
                raise
        if (folder / "warmup").is_dir():
            self._starts[start] = folder / "warmup"
        return folder

    def resume(self, run: Path, *overrides: str) -> Path:
        """As `cluster.running.train.resume`, for a run without a built-in world, on actors that may have served other
        runs; gives the run folder."""
        found = find_continuation(run, overrides)
        prepared = prepare(found.config)
        with Display(found.config.run.steps) as display:
            try:
                warm = self._actors_for(prepared.config)
                prepared = settled(prepared, warm.layout)
                actors = warm.for_run(prepared)
                rewind(found.folder, found.counters.step)
                asyncio.run(run_to_end(prepared, actors, found.folder, display, found.checkpoint))
            except Exception:
                self.end()
                raise
        return found.folder

    def end(self) -> None:
        """Ends actors and Ray; the next run starts them anew."""
        if self._warm is not None:
            self._warm.end()
        self._warm = self._layout = None
        ray.shutdown()

    def _actors_for(self, config: RunConfig) -> WarmActors:
        if not ray.is_initialized():
            ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
        layout = layout_for(config, {"here": Node.unused({"CPU": float(CPUS)})})
        if self._warm is None or layout != self._layout:
            if self._warm is not None:
                self._warm.end()
            self._layout, self._warm = layout, WarmActors(layout)
        return self._warm


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def responses_of(folder: Path) -> list[dict[str, Any]]:
    """Every graded response of a run, by step."""
    files = sorted(folder.glob("trajectories/*/groups*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
