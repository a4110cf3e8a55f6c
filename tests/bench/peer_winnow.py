"""Winnow's side of the comparison with TRL: a run on a folder of `tests.bench.workloads`.

.venv/bin/python -m tests.bench.peer_winnow FOLDER SECONDS ACCURACY [JSON]     as tests.bench.peer_run
.venv/bin/python -m tests.bench.peer_winnow FOLDER warm UPDATES         makes `start/`, from which both sides begin
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from cluster.config.run_config import RunConfig
from cluster.reporting.steps import StepDone
from rewards import Outcome
from tests.bench.measured import MeasuredRun, bench_actors, with_settings
from tests.bench.processes import Usage, usage
from tests.bench.reached import Watch
from tests.bench.workloads import WORKLOADS, winnow_settings


class Watched(MeasuredRun):
    """A run that a watch ends."""

    watch: Watch
    first: Usage  # when the first step was over

    async def finish_step(self, done: StepDone) -> bool:
        if not self.steps:
            self.watch.begin(time.monotonic() - self.reporter.seconds)
        await super().finish_step(done)
        for summary in done.batch.summaries:
            correct = sum(outcome is Outcome.CORRECT for outcome in summary.outcomes)
            self.watch.sampled(correct, summary.lengths)
        print(json.dumps(self.watch.step(time.monotonic())), flush=True)
        if len(self.steps) == 1:
            self.first = usage(os.getpid())
        elif self.watch.over:
            print(json.dumps(self.watch.cost(usage(os.getpid()).since(self.first))), flush=True)
        return not self.watch.over


def config_of_folder(folder: Path, model: str) -> RunConfig:
    """The run on a workload's folder, from one of the models in it."""
    name = json.loads((folder / "workload.json").read_text(encoding="utf-8"))["name"]
    return RunConfig(**winnow_settings(WORKLOADS[name], folder / "winnow", folder / model, files=folder))


def main(arguments: list[str]) -> None:
    """Trains until its time is over, or warms the model up."""
    folder = Path(arguments[0])
    if arguments[1] == "warm":
        warm(folder, int(arguments[2]))
        return
    more: dict[str, dict[str, Any]] = json.loads(arguments[3]) if len(arguments) > 3 else {}
    config = with_settings(config_of_folder(folder, "start"), **more)
    with bench_actors(config, folder / "winnow") as running:
        Watched.watch = Watch(seconds=float(arguments[1]), accuracy=float(arguments[2]))
        running.run(config, Watched, "winnow")


def warm(folder: Path, updates: int) -> None:
    """Writes `start/`: the model after so many supervised updates."""
    config = with_settings(config_of_folder(folder, "model"), warmup={"updates": updates})
    with bench_actors(config, folder / "winnow") as running:
        running.warm(config, folder / "start")


if __name__ == "__main__":
    main(sys.argv[1:])
