"""A learner in this process, without Ray and without models: the double of `learner.client.LearnerClient`."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from learner.batches.packing import Packing
from learner.batches.types import StepPlan, UpdateBatch
from learner.batches.updates import update_batches
from learner.types import LearnerSpec, LearnerState, Opened, Receivers, Schedule, SyncStats, UpdateStats, Written


class LocalLearner:
    """Plans become samples and micro-batches as on a real rank; what would take models is recorded.

    Groups are given as packed record batches in place of references to them. Training gives the real counts of tokens
    and of padding, and 0 for what only models know.
    """

    def __init__(self, ranks: int = 1) -> None:
        self.calls: list[str] = []  # names of the methods called, in order
        self.spec: LearnerSpec | None = None  # of the open session
        self.folders: list[Path] = []  # models that were opened
        self.schedules: list[Schedule] = []  # that they were opened with
        self.plans: list[StepPlan] = []
        self.updates: list[list[UpdateBatch]] = []  # of each rank, of the next `train`
        self.versions: list[int] = []  # that were published
        self.receivers: list[Receivers] = []  # to whom
        self.checkpoints: list[Path] = []
        self.state = LearnerState(baseline_mean=0.0, baseline_count=0, steps_since_reference=0)
        self._ranks = ranks
        self._session = ""

    @property
    def ranks(self) -> int:
        return self._ranks

    async def join(self) -> None:
        self.calls.append("join")

    async def open_warm_up(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        self._open("warm-up", spec, path, schedule)

    async def warm_up(self, updates: int) -> UpdateStats:
        spec = self._needs("warm-up", "warm_up")
        return stats_of([], spec.warmup.lr)

    async def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> Opened:
        self._open("training", spec, path, schedule)
        return Opened(parameters=1_000_000, notes=())

    async def prepare(self, plan: StepPlan, groups: Sequence[pa.Buffer]) -> None:
        spec = self._needs("training", "prepare")
        self.plans.append(plan)
        self.updates = [
            update_batches(
                rank,
                [groups[index] for index in rank.groups],
                spec.algorithm,
                Packing(tokens=spec.learner.micro_batch_tokens),
                iter(lambda: (), None),
            )
            for rank in plan.ranks
        ]

    async def train(self) -> list[UpdateStats]:
        spec = self._needs("training", "train")
        return [stats_of(update, spec.learner.lr) for update in zip(*self.updates, strict=True)]

    async def publish(self, version: int, receivers: Receivers) -> SyncStats:
        self._needs("", "publish")
        self.versions.append(version)
        self.receivers.append(receivers)
        return SyncStats(size=0, seconds=0.0)

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        self._needs("", "probe")
        return [0.0] * (len(tokens) - 1)

    async def save_checkpoint(self, folder: Path) -> None:
        self._needs("", "save_checkpoint")
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        self.checkpoints.append(folder)

    async def finish_checkpoint(self) -> Written:
        self._needs("", "finish_checkpoint")
        return Written(files={"model.safetensors": 0})

    async def free_cache(self) -> None:
        self.calls.append("free_cache")

    async def close_session(self) -> None:
        self.calls.append("close_session")
        self._session, self.spec = "", None

    async def save(self) -> LearnerState:
        self._needs("training", "save")
        return self.state

    async def restore(self, state: LearnerState, folder: Path) -> None:
        self._needs("training", "restore")
        self.state = state
        self.folders.append(folder)

    async def silent(self, seconds: float) -> list[str]:
        return []

    def kill(self) -> None:
        self.calls.append("kill")

    def renew(self) -> None:
        self.calls.append("renew")

    def _open(self, session: str, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        self.calls.append("open_" + session.replace("-", "_"))
        self._session, self.spec = session, spec
        self.folders.append(path)
        self.schedules.append(schedule)

    def _needs(self, session: str, method: str) -> LearnerSpec:
        self.calls.append(method)
        if self.spec is None or (session and session != self._session):
            raise RuntimeError(f"{method} needs an open {session or 'session'}, and {self._session or 'none'} is open")
        return self.spec


def stats_of(shares: Sequence[UpdateBatch], lr: float) -> UpdateStats:
    """What one update saw, as far as it can be counted without models."""
    batches = [batch for share in shares for batch in share.batches]
    return UpdateStats(
        loss=0.0,
        tokens=sum(int((batch.weights > 0).sum()) for batch in batches),
        computed=sum(batch.tokens.size for batch in batches),
        padding=sum(batch.padding for batch in batches),
        shared=sum(batch.shared for batch in batches),
        rows=sum(batch.tokens.shape[0] for batch in batches),
        sequences=sum(len(batch.members) for batch in batches),
        entropy=0.0,
        clip_fraction=0.0,
        ratio_p99=1.0,
        mismatch_kl=0.0,
        capped=0.0,
        kl_start=0.0,
        kl_teacher=None,
        loss_told=None,
        grad_norm=0.0,
        lr=lr,
    )
