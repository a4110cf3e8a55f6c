"""The table of `winnow jobs`."""

import re
import time
from collections.abc import Sequence

from actors.errors import BrokenPart
from cluster.jobs.client import Job, JobClient
from cluster.reporting.words import aligned, duration

STEP = re.compile(r"^ *[\d:]+  step (\d+/\d+):", re.MULTILINE)  # as a run that has no terminal prints it
HEADINGS = ("job", "status", "step", "sent", "for", "run folder")


def table(client: JobClient, now: float) -> str:
    """All runs of a cluster, a line each.

    Args:
        client: of the cluster.
        now: seconds since 1970.
    """
    jobs = client.jobs()
    if not jobs:
        return f"no run was submitted to {client.dashboard.url} since that cluster was started"
    rows = [HEADINGS, *(_row(client, job, now) for job in jobs)]
    option = client.dashboard.option
    return "\n".join(
        [*aligned(rows), f"winnow logs JOB{option} follows one, winnow stop JOB{option} stops it with a checkpoint"]
    )


def _row(client: JobClient, job: Job, now: float) -> Sequence[str]:
    status = f"{job.status} ({job.exit_status})" if job.exit_status else job.status
    sent = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began))
    step = "-" if job.is_over else _step(client, job)  # Ray gives no end of an output, only all of it
    return (job.id, status, step, sent, duration(max(0, int((job.ended or now) - job.began))), job.folder)


def _step(client: JobClient, job: Job) -> str:
    """The last step that a run has said to have done, of how many; "-" before its first, or where the node that holds
    its output is gone."""
    try:
        said = STEP.findall(client.output(job.id))
    except BrokenPart:
        said = []
    return said[-1] if said else "-"
