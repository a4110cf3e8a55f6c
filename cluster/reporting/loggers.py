"""The loggers of a run beside TensorBoard: each is a process of its own that reads the run's metrics.jsonl as it grows
(`cluster/reporting/following.py`), so that no error of a client and no network that hangs reaches the run."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.config.errors import ConfigError
from cluster.reporting.logs import LOGGER

TENSORBOARD = "tensorboard"  # which the run writes itself
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny", "trackio": "trackio"}  # name -> what pip installs
# No client reports on its own use, as Ray and vLLM do not.
SILENT = {"WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_DISABLE_TELEMETRY": "1"}
FOLDER = "loggers"  # in a run's: what each logger keeps from one start of the run to the next, and what it printed
CLOSE_SECONDS = 20.0  # for all loggers together to take the last steps


def check_loggers(names: Sequence[str]) -> None:
    """Raises ConfigError where the package of a logger is not installed here, where the driver runs."""
    for name in names:
        if name != TENSORBOARD and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"run.loggers names {name!r}, and its package is not installed where the run starts: pip install "
                f"{PACKAGES[name]}, or take it out of run.loggers"
            )


class Loggers:
    """The processes of a run's loggers, which start with its first step."""

    def __init__(self, names: Sequence[str], folder: Path, run: str, step: int = 0) -> None:
        """
        Args:
            names: of `run.loggers`.
            folder: of the run.
            run: its name, for the loggers to show.
            step: that the run goes on from.
        """
        self._processes = [LoggerProcess(name, folder, run, step) for name in names if name != TENSORBOARD]

    def look(self, step: int) -> None:
        """Starts those that do not run yet, and warns of one that is in trouble; a step has just been written."""
        for process in self._processes:
            process.look(step)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Has them take what is left, for at most so many seconds together, and ends them."""
        for process in self._processes:
            process.ask_to_end()
        until = time.monotonic() + seconds
        for process in self._processes:
            process.end(until)


class LoggerProcess:
    """The process of one logger."""

    def __init__(self, name: str, folder: Path, run: str, step: int) -> None:
        self._name, self._folder, self._run, self._step = name, folder, run, step
        self._process: subprocess.Popen[bytes] | None = None
        self._warned = False
        self._written = step  # the last step in metrics.jsonl

    def look(self, step: int) -> None:
        """Starts the process where it does not run yet, and warns once where it cannot do its work."""
        self._written = step
        if self._warned:
            return
        try:
            self._process = self._process or self._started()
        except OSError as failure:
            self._warn(f"cannot start: {failure}")
            return
        if self._process.poll() is not None:
            self._warn(f"ended with status {self._process.returncode}")
        elif problem := self._kept().get("problem", ""):
            self._warn(f"{problem}. It tries again")

    def ask_to_end(self) -> None:
        """Lets the process end when it has taken what is in metrics.jsonl."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def end(self, until: float) -> None:
        """Waits for its end and, where that has not come at `until` on the monotonic clock, ends it."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # and what the client has started
        self._process.wait()
        if (taken := self._kept().get("step", self._step)) < self._written:
            self._warned = False
            self._warn(f"has taken the steps up to {taken} of {self._written}; the rest is taken when the run goes on")

    def _started(self) -> subprocess.Popen[bytes]:
        (self._folder / FOLDER).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "cluster.reporting.following", self._name, str(self._folder), self._run]
        with (self._folder / FOLDER / f"{self._name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, str(self._step)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=SILENT | os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,  # Ctrl-C is for the run, which then asks its loggers to end
            )

    def _kept(self) -> dict[str, Any]:
        """What the process has written of itself."""
        try:
            found = json.loads((self._folder / FOLDER / f"{self._name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            where = self._folder / FOLDER / f"{self._name}.log"
            LOGGER.warning("the logger %s %s. %s has more; metrics.jsonl has all steps", self._name, problem, where)
