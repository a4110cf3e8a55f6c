"""The commands `submit`, `jobs`, `logs` and `stop`: what they take, and what they do. Imports nothing heavy."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.config.errors import ConfigError
from cluster.jobs.address import named_dashboard, reach
from cluster.reporting.terminal import say

if TYPE_CHECKING:
    from cluster.jobs.client import JobClient
    from cluster.jobs.submission import Submission

RETRIES = 3  # tries more of a run, unless another number is asked for; none of one checkpoint
AUTO = "auto"  # of --resume
PYTHON = "python"
ADDRESS = (
    "of Ray's dashboard on the cluster's head node, such as http://HOST:8265; unset: RAY_API_SERVER_ADDRESS, then "
    "RAY_ADDRESS, else http://127.0.0.1:8265"
)


def add_job_commands(add: Callable[..., argparse.ArgumentParser], setting: str) -> None:
    """Adds the four commands.

    Args:
        add: makes the parser of a command from its name and what it runs.
        setting: how a setting on the command line looks.
    """
    submit = add(
        "submit",
        _submit,
        kept="no job was submitted",
        help="send a run to a Ray cluster as a job",
        description="Sends a run to a Ray cluster as a job, with the current folder and winnow's own code, and follows "
        "its output. The run begins, or goes on where run.folder/run.name holds a checkpoint.",
        example="winnow submit my.toml run.folder=/shared/runs --address http://HEAD:8265",
    )
    submit.add_argument("config", nargs="?", default="", metavar="CONFIG.toml", help="the run file")
    submit.add_argument("items", nargs="*", metavar=setting, help="settings that replace the file's")
    submit.add_argument(
        "--resume",
        default=AUTO,
        metavar="RUN|auto",
        help="instead of a run file: the folder of a run on the cluster that goes on from its newest checkpoint, or "
        "one checkpoint; auto, the default: with a run file, begin the run of that name or have it go on",
    )
    submit.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help=f"how often the run goes on by itself where its driver was killed or a part of it failed ({RETRIES})",
    )
    submit.add_argument(
        "--lock",
        type=Path,
        metavar="FILE",
        help="a lock file, such as deploy/requirements/gpu.txt, that Ray installs on each node before the run; unset: "
        "what the nodes have",
    )
    submit.add_argument(
        "--python", default=PYTHON, metavar="FILE", help="the interpreter on the head node (python, on Ray's path)"
    )
    submit.add_argument("--detach", action="store_true", help="do not follow the job's output")
    _add_address(submit)
    jobs = add(
        "jobs",
        _jobs,
        kept="nothing was changed",
        help="list the runs on a Ray cluster",
        description="Prints a table of winnow's jobs on a cluster, the newest last: status, step and how long.",
        example="winnow jobs --address http://HEAD:8265",
    )
    _add_address(jobs)
    logs = add(
        "logs",
        _logs,
        kept="the job goes on",
        help="print a job's output and follow it",
        description="Prints what a job has printed, and follows it to its end. The exit status is that of the run.",
        example="winnow logs my-1",
    )
    stop = add(
        "stop",
        _stop,
        kept="the job stops by itself",
        help="stop a job, with a checkpoint",
        description="Asks a job to stop at its next safe point, with a checkpoint, and waits for it; says how the run "
        "goes on.",
        example="winnow stop my-1",
    )
    for command in (logs, stop):
        command.add_argument("job", metavar="JOB", help="its id, as `winnow jobs` shows it")
        _add_address(command)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="", metavar="ADDRESS", help=ADDRESS)


def _submit(options: argparse.Namespace) -> int:
    from cluster.jobs.gathering import gather

    submission = _submission(options)
    if options.lock is not None:
        from cluster.jobs.submission import locked

        submission = locked(submission, options.lock)
    client = _client(options)
    from cluster.jobs.follow import follow, where_to_look
    from cluster.jobs.sending import send

    with tempfile.TemporaryDirectory(prefix="winnow-job-") as made:
        package = gather(submission, Path.cwd(), Path(made) / "job.zip")
        job = send(client, submission, package, options.python)
    say(f"{job.id} is sent: the run {job.run}, in {job.folder} on the cluster\n{where_to_look(client, job)}")
    return 0 if options.detach else follow(client, job.id)


def _submission(options: argparse.Namespace) -> "Submission":
    from cluster.jobs.submission import is_checkpoint, of_run, of_run_file

    if options.retries is not None and options.retries < 0:
        raise ConfigError(f"--retries must be at least 0, got {options.retries}")
    if options.lock is not None and options.python != PYTHON:
        raise ConfigError("--lock has Ray make an environment with an interpreter of its own: leave --python out")
    if options.resume != AUTO:
        items = [item for item in (options.config, *options.items) if item]
        if others := [item for item in items if "=" not in item]:
            raise ConfigError(
                f"--resume takes the settings of the run itself, and those that change as section.key=value, got "
                f"{others[0]!r}"
            )
        retries = 0 if is_checkpoint(options.resume) else RETRIES
        return of_run(options.resume, items, retries if options.retries is None else options.retries)
    if not options.config:
        raise ConfigError("winnow submit needs a run file, or --resume RUN for a run on the cluster that is to go on")
    retries = RETRIES if options.retries is None else options.retries
    return of_run_file(Path(options.config), options.items, retries)


def _jobs(options: argparse.Namespace) -> int:
    client = _client(options)
    from cluster.jobs.listing import table

    say(table(client, time.time()))
    return 0


def _logs(options: argparse.Namespace) -> int:
    client = _client(options)
    from cluster.jobs.follow import follow

    return follow(client, client.job(options.job).id)


def _stop(options: argparse.Namespace) -> int:
    client = _client(options)
    from cluster.jobs.follow import stop

    return stop(client, options.job)


def _client(options: argparse.Namespace) -> "JobClient":
    dashboard = named_dashboard(options.address)
    reach(dashboard)  # before Ray is imported
    from cluster.jobs.client import JobClient

    return JobClient(dashboard)
