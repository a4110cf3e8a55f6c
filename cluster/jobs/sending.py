"""Sends a run that is gathered as a job."""

import os
import re
import shlex
from contextlib import suppress

from actors.errors import BrokenPart
from cluster.jobs.client import Job, JobClient, NameTaken
from cluster.jobs.package import Package
from cluster.jobs.submission import Submission
from cluster.running.signals import JOB_WAIT

STOP_SECONDS = "900"  # that Ray waits for a step and a checkpoint after it asked a job to stop
PIP = ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
TRIES = 20  # of names that others may take between the listing and the sending
LONGEST_ID = 100  # characters of a run's name in the id of a job


def send(client: JobClient, submission: Submission, package: Package, python: str) -> Job:
    """Sends a run, under an id that is its name and a number.

    Args:
        client: of the cluster.
        submission: the run.
        package: its files.
        python: the interpreter on the cluster.

    Raises:
        BrokenPart: the cluster does not take it.
    """
    # `exec`: the shell makes way, so that Ray's signal reaches the run itself.
    command = shlex.join(["exec", python, "-m", "cluster.cli", "train", *submission.train])
    runtime: dict[str, object] = {"env_vars": {JOB_WAIT: os.environ.get(JOB_WAIT, STOP_SECONDS)}}
    if submission.lock:  # Ray sets the variable to the job's folder while it installs
        file = f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{submission.lock}"
        runtime["pip"] = {"packages": [f"-r {file}"], "pip_install_options": PIP}
    name = _id_of(submission.run)
    first = 1 + max((_number(job.id, name) for job in client.jobs()), default=0)
    for job in (f"{name}-{number}" for number in range(first, first + TRIES)):
        with suppress(NameTaken):
            client.submit(job, command, package.file, submission.run, submission.folder, runtime)
            return client.job(job)
    raise BrokenPart(
        f"the Ray cluster at {client.dashboard.url} has jobs of the names {name}-{first} to {name}-{first + TRIES - 1} "
        "that it does not list: choose another run.name"
    )


def _id_of(run: str) -> str:
    """A run's name as the beginning of an id that can be typed behind a command: no option, and nothing to quote."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run).lstrip("_.-")[:LONGEST_ID] or "run"


def _number(job: str, name: str) -> int:
    found = re.fullmatch(rf"{re.escape(name)}-([0-9]+)", job)
    return int(found[1]) if found else 0
