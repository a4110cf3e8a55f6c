"""Follows a job's output to its end, and stops a job."""

import shlex
import signal
import sys
from contextlib import suppress

from cluster.blocking import run_blocking
from cluster.jobs.client import Job, JobClient
from cluster.reporting.terminal import plain, say
from cluster.running.signals import EXIT_OF_SIGNAL, Terminated, sigterm_interrupts

FAILED = 1  # exit status of a job that ended without one
QUESTION = "winnow: Enter goes on following; s stops the job, with a checkpoint; l leaves it running: "


def follow(client: JobClient, job: str, seen: int = 0) -> int:
    """Prints what a job prints until it has ended. Ctrl-C asks a person at a terminal whether to stop the job, and
    leaves it running where there is none.

    Args:
        client: of the cluster.
        job: its id.
        seen: characters of its output that are left out at the beginning.

    Returns:
        The exit status of the run, or that of what ended this process earlier.
    """
    printed = _Printed(seen)
    while True:
        try:
            with sigterm_interrupts():
                run_blocking(_print(client, job, printed))
        except Terminated as end:
            say(_left(client, job))
            return EXIT_OF_SIGNAL + end.signal
        except KeyboardInterrupt:
            answer = _asked()
            if answer == "s":
                return stop(client, job, printed.characters)
            if answer == "l":
                say(_left(client, job))
                return EXIT_OF_SIGNAL + signal.SIGINT
        else:
            return ended(client, client.job(job))


def stop(client: JobClient, job: str, seen: int | None = None) -> int:
    """Asks a job to stop, prints what it says until it has, and says how the run goes on.

    Args:
        client: of the cluster.
        job: its id.
        seen: characters of its output that were printed already; None for all that there are.
    """
    found = client.job(job)
    if found.is_over:
        say(f"{job} has ended already: {found.status}")
        return 0
    printed = _Printed(len(client.output(job)) if seen is None else seen)
    client.stop(job)
    say(f"{job} is asked to stop, at its next safe point and with a checkpoint")
    try:
        run_blocking(_print(client, job, printed))
    except KeyboardInterrupt:
        say(f"{job} stops by itself; what it says: winnow logs {job}{client.dashboard.option}")
        return EXIT_OF_SIGNAL + signal.SIGINT
    found = client.job(job)
    goes_on = f"winnow submit --resume {shlex.quote(found.folder)}{client.dashboard.option}"
    say(f"{job} has ended: {found.status}. It goes on with: {goes_on}")
    return 0


def ended(client: JobClient, job: Job) -> int:
    """Says how a job has ended; gives its exit status."""
    option = client.dashboard.option
    if job.status == "succeeded":
        say(f"{job.id} has ended: the run is in {job.folder} on the cluster")
        return 0
    if job.status == "stopped":
        say(f"{job.id} was stopped. It goes on with: winnow submit --resume {shlex.quote(job.folder)}{option}")
        return EXIT_OF_SIGNAL + signal.SIGTERM
    say(f"{job.id} failed{_why(job)}", file=sys.stderr)
    return job.exit_status or FAILED


def where_to_look(client: JobClient, job: Job) -> str:
    """What a person may type of a job that runs."""
    option = client.dashboard.option
    return "\n".join(
        [
            f"  follow     winnow logs {job.id}{option}",
            f"  stop       winnow stop {job.id}{option}",
            f"  dashboard  {client.dashboard.url}/#/jobs/{job.id}",
        ]
    )


class _Printed:
    """How much of a job's output has been printed."""

    def __init__(self, characters: int) -> None:
        self.characters = characters


async def _print(client: JobClient, job: str, printed: _Printed) -> None:
    async for piece in client.follow(job, printed.characters):
        printed.characters += len(piece)
        sys.stdout.write(plain(piece))
        sys.stdout.flush()


def _asked() -> str:
    """What a person wants at Ctrl-C: "s", "l" or ""; "l" where nobody can be asked."""
    answer = "l"
    if sys.stdin.isatty():
        with suppress(KeyboardInterrupt, EOFError, OSError):
            print(flush=True)
            answer = input(QUESTION).strip().lower()[:1]
    return answer


def _left(client: JobClient, job: str) -> str:
    return f"\n{job} goes on\n{where_to_look(client, client.job(job))}"


def _why(job: Job) -> str:
    """Ray's reason for a failure, where the run's own output does not say it."""
    if job.exit_status is None:
        return f": {job.why}"
    absent = "No module named 'cluster'" in job.why or "No module named cluster" in job.why
    if job.exit_status in (126, 127):
        return (
            f" (status {job.exit_status}): the head node's Ray has no such interpreter on its path. Name it with "
            "--python, or start Ray there with winnow's environment activated"
        )
    if "ModuleNotFoundError" in job.why or absent:
        return (
            f" (status {job.exit_status}): its interpreter lacks a package. Name the one of winnow's environment with "
            "--python, or have Ray install a lock file with --lock"
        )
    return f" (status {job.exit_status}): see above"
