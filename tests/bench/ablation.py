"""What each piece of the pipeline is worth: sync against async, filter on and off, in-flight on and off; and how near
the whole comes to a perfect overlap of its real stages. All runs start from one warmed-up model."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.config.reading import load_config
from cluster.config.run_config import RunConfig
from cluster.preparing.world import write_world
from tests.bench.figures import Chart, Figure, Part
from tests.bench.limit import Alone, overlap
from tests.bench.measured import (
    BenchActors,
    Canned,
    Generation,
    Learning,
    MeasuredRun,
    bench_actors,
    rates,
    with_settings,
)

ROOT = Path(__file__).parents[2]
REAL = 0.9
ARM = 14  # seconds that one run may take
SHORT = ["world.digits=2", "warmup.updates=200", "rollout.groups_per_step=32", "rollout.max_new_tokens=32"]
SHORT += ["learner.updates_per_step=2", "learner.lr=1e-4", "learner.lr_end=1", "filter.patience=100000"]
Settings = dict[str, dict[str, Any]]
ASYNC: dict[str, Settings] = {
    "S = 1": {"rollout": {"max_staleness": 1}},
    "S = 2": {"rollout": {"max_staleness": 2}},
    "S = 1, filter off": {"rollout": {"max_staleness": 1}, "filter": {"drop": "none"}},
    "S = 1, in flight finished first": {"rollout": {"max_staleness": 1}, "sync": {"in_flight": "finish"}},
}
SYNC: dict[str, Settings] = {
    "S = 0": {},
    "S = 0, filter off": {"filter": {"drop": "none"}},
}
BASE = "S = 1"


def measure(quick: bool = False) -> Part:
    """The methods with S > 0 on one set of actors, those with S = 0 before them: a learner that takes turns with the
    engines may use all cores, so it is started with more threads."""
    steps = 4 if quick else 8
    seen: dict[str, dict[str, float]] = {}
    methods: dict[str, MeasuredRun] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = [f"run.steps={steps}", f"run.seconds={ARM}", *["warmup.updates=40"] * quick]
        config = write_world(load_config(ROOT / "deploy/runs/demo.toml", [*SHORT, *run]), folder)
        config = with_settings(config, world={"name": ""})
        with bench_actors(_method(config, SYNC["S = 0"]), folder) as first:
            first.warm(config, folder / "start")
            config = with_settings(config, model={"path": str(folder / "start")}, warmup={"updates": 0})
            _all(first, config, SYNC, seen, methods)
        with bench_actors(_method(config, ASYNC["S = 2"]), folder) as second:
            _all(second, config, {BASE: ASYNC[BASE]}, seen, methods)
            stages = _stages(second, _method(config, ASYNC[BASE]), methods[BASE])
            _all(second, config, {name: ASYNC[name] for name in ASYNC if name != BASE}, seen, methods)
    return _report(seen, stages)


def _method(config: RunConfig, settings: Settings) -> RunConfig:
    return with_settings(config, **settings)


def _all(
    actors: BenchActors,
    config: RunConfig,
    chosen: Mapping[str, Settings],
    seen: dict[str, dict[str, float]],
    methods: dict[str, MeasuredRun],
) -> None:
    for name, settings in chosen.items():
        methods[name] = actors.run(_method(config, settings), name=name)
        seen[name] = rates(methods[name].steps)


def _stages(actors: BenchActors, config: RunConfig, pipeline: MeasuredRun) -> dict[str, float]:
    """The stages alone, right after the pipeline on the same actors; the share of the ideal that it reached."""
    canned: Canned = pipeline.kept[-2 * config.rollout.groups_per_step :]
    alone = {
        "generation": rates(actors.run(config, Generation, "generation alone").steps),
        "learning": rates(actors.run(config, Learning, "learning alone", canned).steps),
    }
    together = rates(pipeline.steps)
    return share_of_ideal(alone, together, len(os.sched_getaffinity(0)))


def share_of_ideal(
    alone: Mapping[str, Mapping[str, float]], together: Mapping[str, float], cores: int
) -> dict[str, float]:
    """What a second of the pipeline holds, in seconds of a perfect overlap of the stages; and what that is made of."""
    generated, trained = together["generated tokens/s"], together["trained tokens/s"]
    g, t = alone["generation"], alone["learning"]
    generation = Alone(seconds=1 / g["generated tokens/s"], cpu=g["cores busy"] / g["generated tokens/s"])
    learning = Alone(seconds=1 / t["trained tokens/s"], cpu=t["cores busy"] / t["trained tokens/s"])
    return {
        "share": overlap(generation, learning, (generated, trained), cores),
        "generation": generation.seconds * generated,
        "learning": learning.seconds * trained,
        "cores": (generation.cpu * generated + learning.cpu * trained) / cores,
        "generation, cores busy alone": g["cores busy"],
        "learning, cores busy alone": t["cores busy"],
        "sync": together["share of time in syncs"],
        "waited": together["share of time waited for batches"],
    }


def _report(seen: Mapping[str, Mapping[str, float]], stages: Mapping[str, float]) -> Part:
    told = "; ".join(f"{name} {value:.2f}" for name, value in stages.items() if name != "share")
    figures = [
        Figure(
            name="real stages, S = 1, against a perfect overlap on the same cores",
            reached=stages["share"],
            unit="of the ideal",
            target=REAL,
            note=f"of a second of the pipeline: {told}",
        )
    ]
    sync = seen["S = 0"]["samples/s"]
    for name, rate in seen.items():
        note = f"{rate['trained tokens/s']:.0f} trained tokens/s, {rate['generated tokens/s']:.0f} generated tokens/s"
        ratio = rate["samples/s"] / sync
        figures.append(Figure(name=f"trained samples/s, {name}, against S = 0", reached=ratio, unit="x", note=note))
    return Part(
        figures=figures,
        charts=[_chart("Trained samples a second", seen, "samples/s"), _chart("Groups graded", seen, "graded/s")],
        details={"rates": seen, "stages": stages},
        remarks=remarks(seen),
    )


def remarks(seen: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where running ahead loses, and what filter and in-flight updates cost or gain, in sentences."""
    speed = {name: rate["samples/s"] for name, rate in seen.items()}
    sync = speed["S = 0"]
    found = [
        f"Async loses here: {name} trains on {speed[name] / sync:.2f} of the samples a second of S = 0."
        for name in ("S = 1", "S = 2")
        if speed[name] < sync
    ] or ["Async wins at every S that was tried."]
    base = speed[BASE]
    pairs = {
        "Without the filter": "S = 1, filter off",
        "Finishing what is in flight": "S = 1, in flight finished first",
    }
    for what, name in pairs.items():
        found.append(f"{what}, the learner trains on {speed[name] / base:.2f} of the samples a second of {BASE}.")
    return found


def _chart(title: str, seen: Mapping[str, Mapping[str, float]], key: str) -> Chart:
    bars = {name: [(0.0, rate[key])] for name, rate in seen.items()}
    return Chart(title=title, x="", y=key, lines=bars, bars=True)


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(measure(quick="--quick" in sys.argv).as_json(), indent=1))
