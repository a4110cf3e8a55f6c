"""Ray's job client, with the answers of a cluster as types of ours and its errors as sentences. Nothing else of winnow
speaks to Ray's jobs."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from actors.errors import BrokenPart
from cluster.config.errors import ConfigError
from cluster.jobs.address import VARIABLES, Dashboard, refused_token
from cluster.placement.metadata import FOLDER, NAME, RUN

OVER = frozenset({"stopped", "succeeded", "failed"})
RECONNECTS, LONGEST_PAUSE = 8, 30.0  # to a job's output when the connection is lost; seconds between two
QUIET_SECONDS = 120.0  # without output, after which a connection is taken to be lost: Ray's client sends no heartbeat
ANSWER_SECONDS = 60.0  # for the dashboard to take a connection, and to go on with an answer
LOST = (aiohttp.ClientError, OSError, RuntimeError)  # what a connection that is lost raises


class NameTaken(Exception):
    """A job of this id is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run on a cluster, as Ray knows it."""

    id: str
    status: str  # pending, running, stopped, succeeded or failed
    run: str  # its name
    folder: str  # of the run, on the cluster
    began: float  # seconds since 1970, when it was sent
    ended: float | None
    exit_status: int | None  # of the run, where it has ended by itself
    why: str  # Ray's words on the status

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.status in OVER


class PatientClient(JobSubmissionClient):
    """Ray's client, which would wait for ever for a dashboard that does not answer; this one does not."""

    def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": ANSWER_SECONDS, **more})


class JobClient:
    """The jobs of one cluster."""

    def __init__(self, dashboard: Dashboard) -> None:
        """Connects.

        Raises:
            ConfigError: the cluster refuses the token.
        """
        self.dashboard = dashboard
        os.environ[VARIABLES[0]] = dashboard.url  # it would go before the address that the client is given
        for handler in logging.getLogger("ray").handlers:
            handler.setLevel(logging.WARNING)  # it tells of each package and each connection
        with self._in_words():
            self._client = PatientClient(dashboard.url)

    def submit(
        self, job: str, command: str, package: Path, run: str, folder: str, runtime: Mapping[str, object]
    ) -> None:
        """Sends a job.

        Args:
            job: its id.
            command: for the shell of the head node.
            package: a zip file, which is the folder that the command and all actors run in.
            run: the run's name.
            folder: the run's, on the cluster.
            runtime: more of Ray's runtime environment.

        Raises:
            NameTaken: a job of this id is there.
            BrokenPart: the cluster did not take it.
        """
        with self._in_words():
            try:
                self._client.submit_job(
                    entrypoint=command,
                    submission_id=job,
                    runtime_env={"working_dir": str(package), **runtime},
                    metadata={NAME: run, RUN: run, FOLDER: folder},
                )
            except RuntimeError as failure:
                if f"submission_id {job} already exists" in str(failure):
                    raise NameTaken from failure
                raise

    def jobs(self) -> list[Job]:
        """All runs that were sent to the cluster, the oldest first."""
        with self._in_words():
            found = self._client.list_jobs()
        sent = (one for one in found if one.submission_id and RUN in (one.metadata or {}))  # no driver that joined
        return sorted((_job(one) for one in sent), key=lambda job: job.began)

    def job(self, job: str) -> Job:
        """One of them.

        Raises:
            ConfigError: there is none of this id; the message names those that there are.
        """
        there = {one.id: one for one in self.jobs()}
        if job not in there:
            names = ", ".join(list(there)[-5:]) or "none"
            raise ConfigError(f"there is no job {job!r} of winnow's at {self.dashboard.url}; the newest are: {names}")
        return there[job]

    def stop(self, job: str) -> None:
        """Asks a job to stop; returns at once."""
        with self._in_words():
            self._client.stop_job(job)

    def output(self, job: str) -> str:
        """All that a job has printed."""
        with self._in_words():
            return self._client.get_job_logs(job)

    async def follow(self, job: str, seen: int = 0) -> AsyncIterator[str]:
        """What a job prints, in pieces, until it has ended; a connection that is lost is made again.

        Args:
            job: its id.
            seen: how many characters of its output are left out at the beginning.

        Raises:
            BrokenPart: the cluster does not answer any more.
        """
        lost = 0
        while True:
            at, quiet, why, over = 0, False, "", False
            try:
                async for piece in _until_quiet(self._client.tail_job_logs(job)):
                    at += len(piece)
                    if at > seen:
                        yield piece[seen - at :]
                        seen = at
            except LOST as failure:
                quiet = isinstance(failure, TimeoutError)
                why = f"nothing came for {QUIET_SECONDS:g} s" if quiet else str(failure) or type(failure).__name__
            try:
                over = await asyncio.to_thread(self._is_over, job)
            except LOST as failure:
                at, quiet, why = 0, False, str(failure) or type(failure).__name__
            if over and not why:
                return
            # A job that runs is followed as long as its output can be read, be there anything new in it or not.
            lost = 0 if (at or quiet) and not over else lost + 1
            if lost > RECONNECTS:
                raise BrokenPart(f"the output of {job} cannot be read any more: {why or 'the connection was closed'}")
            await asyncio.sleep(min(LONGEST_PAUSE, 2.0**lost))

    def _is_over(self, job: str) -> bool:
        return bool(self._client.get_job_status(job).is_terminal())

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Errors of Ray's client as ours."""
        url = self.dashboard.url
        try:
            yield
        except AuthenticationError as failure:
            raise ConfigError(f"the Ray cluster at {url} refuses: {refused_token()}") from failure
        except OSError as failure:  # those of requests are
            raise BrokenPart(
                f"the Ray cluster at {url} ({self.dashboard.source}) does not answer: {failure}"
            ) from failure
        except RuntimeError as failure:
            raise BrokenPart(f"the Ray cluster at {url} refused: {_short(failure)}") from failure


async def _until_quiet(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """The pieces of an output.

    Raises:
        TimeoutError: none has come for QUIET_SECONDS.
    """
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        yield piece


def _short(failure: RuntimeError) -> str:
    """What Ray's client says, without the lines of code that the cluster may add."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return f"{lines[0]} {lines[-1]}" if len(lines) > 1 else str(failure)


def _job(found: JobDetails) -> Job:
    known: Mapping[str, Any] = found.metadata or {}
    return Job(
        id=found.submission_id or "",
        status=str(found.status).lower(),
        run=known[RUN],
        folder=known.get(FOLDER, ""),
        began=(found.start_time or 0) / 1000,
        ended=found.end_time / 1000 if found.end_time else None,
        exit_status=found.driver_exit_code,
        why=found.message or "",
    )
