"""The clients of the loggers, one class each; the one home of wandb, mlflow and trackio. What each reads from the
environment (addresses, keys, projects, WANDB_MODE=offline) is its own, and no setting of a run."""

import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

NAME = re.compile(r"[\w-]+", re.ASCII)  # of a setting
PROJECT = "winnow"  # where the environment names none
MOST_PARAMETERS, LONGEST_PARAMETER = 100, 500  # that every MLflow server takes: in one request, letters of a value


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """What a logger is told of a run."""

    id: str  # of the run in the logger, where that lets us choose it
    known: bool  # whether the logger knows this id from an earlier start
    name: str
    folder: Path
    config: Mapping[str, Any]  # as in config.toml
    step: int  # that the run goes on from


class Client(Protocol):
    """A run in a logger."""

    id: str  # by which the run goes on there

    def log(self, numbers: Mapping[str, float]) -> None:
        """The metrics of a step, "step" among them."""

    def close(self) -> None:
        """Returns when all is sent."""


class WeightsAndBiases:
    """A run of wandb: WANDB_API_KEY, WANDB_PROJECT, WANDB_MODE and so on."""

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        self.id = run.id
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.name,
            notes=run.config.get("run", {}).get("note") or None,
            dir=run.folder,
            config=dict(run.config),
            resume="allow",
            settings=wandb.Settings(console="off", disable_git=True, disable_code=True),
        )
        self._run.define_metric("*", step_metric="step")  # wandb's own count never goes back, as a run that resumes may

    def log(self, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers))

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of mlflow: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and so on."""

    def __init__(self, run: LoggedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        if run.known:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in _flat(run.config)]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            try:
                self._client.log_batch(self.id, params=parameters[start : start + MOST_PARAMETERS])
            except Exception:  # the run is there, and its metrics count for more
                traceback.print_exc()

    def log(self, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(numbers["step"])
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def close(self) -> None:
        self._client.set_terminated(self.id)


class Trackio:
    """A run of trackio: TRACKIO_DIR, TRACKIO_SPACE_ID and so on."""

    def __init__(self, run: LoggedRun) -> None:
        import trackio

        self.id = run.id
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{run.name}-{run.id}",  # by its name it goes on
            config=dict(_flat(run.config)),
            resume="allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, numbers: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in numbers.items() if name != "step"}, step=int(numbers["step"]))

    def close(self) -> None:
        self._run.finish()


CLIENTS: dict[str, Callable[[LoggedRun], Client]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The settings by their dotted names. A table whose keys are no names, such as the paths of data.path, is one
    setting: servers take few characters in a name."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and all(NAME.fullmatch(each) for each in value):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", str(dict(value)) if isinstance(value, Mapping) else value
