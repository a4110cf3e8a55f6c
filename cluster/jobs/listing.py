"""The table of `winnow jobs`."""

import re
import time
from collections.abc import Sequence

from actors.errors import BrokenPart
from cluster.jobs.client import Job, JobClient

STEP = re.compile(r"^ *[\d:]+  step (\d+/\d+):", re.MULTILINE)  # as a run that has no terminal prints it
HEADINGS = ("job", "status", "step", "sent", "for", "run folder")
DAY, HOUR, MINUTE = 86400, 3600, 60


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    option = client.dashboard.option
    return "\n".join(
        [*lines, f"winnow logs JOB{option} follows one, winnow stop JOB{option} stops it with a checkpoint"]
    )


def _row(client: JobClient, job: Job, now: float) -> Sequence[str]:
    status = f"{job.status} ({job.exit_status})" if job.exit_status else job.status
    sent = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began))
    step = "-" if job.is_over else _step(client, job)  # Ray gives no end of an output, only all of it
    return (job.id, status, step, sent, _duration((job.ended or now) - job.began), job.folder)


def _step(client: JobClient, job: Job) -> str:
    """The last step that a run has said to have done, of how many; "-" before its first, or where the node that holds
    its output is gone."""
    try:
        said = STEP.findall(client.output(job.id))
    except BrokenPart:
        said = []
    return said[-1] if said else "-"


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < HOUR:
        return f"{whole // MINUTE} min" if whole >= MINUTE else f"{whole} s"
    days, rest = divmod(whole, DAY)
    hours = f"{rest // HOUR} h {rest % HOUR // MINUTE:02} min"
    return f"{days} d {hours}" if days else hours
