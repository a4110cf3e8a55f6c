"""Ray's job client in one process, at its boundary: the answers that Ray gives, from jobs that a test scripts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobType

FIRST = 1_700_000_000_000  # milliseconds since 1970, when the first job was sent


@dataclass
class Script:
    """What becomes of a job."""

    pieces: list[str] = field(
        default_factory=lambda: ["run folder: /shared/runs/mine\n", "   1:02  step 1/4: accuracy 0.5\n"]
    )
    status: JobStatus = JobStatus.SUCCEEDED
    exit_status: int | None = 0
    message: str = ""
    interrupted_after: int | None = None  # pieces, once
    lost_after: int | None = None  # pieces, as often as the next says
    losses: int = 1
    silent_after: int | None = None  # pieces: from there on a connection brings nothing and stays, as often as losses
    tails: int = 0  # connections to its output so far


class RayDouble:
    """A cluster's jobs. `Script`s are taken in turn by the jobs that are sent."""

    def __init__(self, *scripts: Script) -> None:
        self.sent: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.details: dict[str, JobDetails] = {}
        self.scripts = list(scripts)
        self.script_of: dict[str, Script] = {}
        self.hidden: set[str] = set()  # ids that another person takes between the listing and the sending
        self.refuses: str | None = None  # every job, in these words

    def submit_job(self, **told: Any) -> str:
        job = told["submission_id"]
        if self.refuses:
            raise RuntimeError(self.refuses.format(job=job))
        if job in self.hidden or job in self.details:
            self.hidden.discard(job)
            self._add(job, told, {"winnow_run": "x"})
            raise RuntimeError(f"Request failed with status code 400: Job with submission_id {job} already exists.")
        self.sent.append(told)
        self.script_of[job] = self.scripts.pop(0) if self.scripts else Script()
        self._add(job, told, told["metadata"])
        return job

    def _add(self, job: str, told: dict[str, Any], metadata: dict[str, str]) -> None:
        self.details[job] = JobDetails(
            type=JobType.SUBMISSION,
            submission_id=job,
            status=JobStatus.RUNNING,
            entrypoint=told["entrypoint"],
            metadata=metadata,
            start_time=FIRST + 60_000 * len(self.details),
        )

    def list_jobs(self) -> list[JobDetails]:
        other = JobDetails(type=JobType.DRIVER, status=JobStatus.RUNNING, entrypoint="", metadata=None)
        return [*self.details.values(), other]

    def get_job_status(self, job: str) -> JobStatus:
        return self.details[job].status

    def get_job_logs(self, job: str) -> str:
        return "".join(self.script_of[job].pieces)

    def stop_job(self, job: str) -> bool:
        self.stopped.append(job)
        self.script_of[job].pieces.append("winnow: stopped as asked: the checkpoint step-2 is complete\n")
        self.script_of[job].status = JobStatus.STOPPED
        return True

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        script = self.script_of[job]
        script.tails += 1
        for number, piece in enumerate(script.pieces):
            if number == script.interrupted_after:
                script.interrupted_after = None
                raise KeyboardInterrupt
            if number == script.silent_after and script.tails <= script.losses:
                await asyncio.sleep(3600.0)
            if number == script.lost_after and script.tails <= script.losses:
                raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")
            yield piece
        over = {"status": script.status, "message": script.message, "driver_exit_code": script.exit_status}
        self.details[job] = self.details[job].model_copy(update={**over, "end_time": FIRST + 600_000})
