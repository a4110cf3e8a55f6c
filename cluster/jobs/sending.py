"""Sends a run that is gathered as a job."""

import os
import re
import shlex

from cluster.jobs.client import Job, JobClient, NameTaken
from cluster.jobs.package import Package
from cluster.jobs.submission import Submission
from cluster.running.signals import JOB_WAIT

STOP_SECONDS = "900"  # that Ray waits for a step and a checkpoint after it asked a job to stop
PIP = ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
LONGEST_ID = 100  # characters of a run's name in the id of a job


def send(client: JobClient, submission: Submission, package: Package, python: str) -> Job:
    """Sends a run, under an id that is its name and a number.

    Args:
        client: of the cluster.
        submission: the run.
        package: its files.
        python: the interpreter on the cluster.
    """
    # `exec`: the shell makes way, so that Ray's signal reaches the run itself.
    command = shlex.join(["exec", python, "-m", "cluster.cli", "train", *submission.train])
    runtime: dict[str, object] = {"env_vars": {JOB_WAIT: os.environ.get(JOB_WAIT, STOP_SECONDS)}}
    if submission.lock:  # Ray sets the variable to the job's folder while it installs
        file = f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{submission.lock}"
        runtime["pip"] = {"packages": [f"-r {file}"], "pip_install_options": PIP}
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", submission.run)[:LONGEST_ID]
    number = 1 + max((_number(job.id, name) for job in client.jobs()), default=0)
    while True:
        job = f"{name}-{number}"
        try:
            client.submit(job, command, package.file, submission.run, submission.folder, runtime)
        except NameTaken:
            number += 1
        else:
            return client.job(job)


def _number(job: str, name: str) -> int:
    found = re.fullmatch(rf"{re.escape(name)}-([0-9]+)", job)
    return int(found[1]) if found else 0
