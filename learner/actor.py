"""The learner's Ray actor: one ZeRO rank. `learner/client.py` calls all ranks together.

torch, DeepSpeed and vLLM are imported in the methods, so that only the rank's own process loads them.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import ray

from actors.garbage import loading
from actors.logs import LOGGER, log_in_actor
from actors.remote import PULSE_THREAD
from learner.batches.types import RankPlan
from learner.reward_models.types import Agreement, RewardModelTask, RewardUpdateStats
from learner.types import (
    LearnerSpec,
    LearnerState,
    Opened,
    Place,
    Receivers,
    Schedule,
    SyncStats,
    UpdateStats,
    Written,
)

if TYPE_CHECKING:
    from learner.reward_models.session import RewardModelSession
    from learner.session import Published, TrainingSession, WarmUpSession

PACKING, WAITING = "packing", "waiting"  # concurrency groups of what may run beside the other methods
THREADS = {PACKING: 1, WAITING: 1, **PULSE_THREAD}  # threads of each, for Ray


class LearnerRank:
    """Ray actor around one rank's session. It serves one run after another.

    The order of calls, each on all ranks with the same arguments (but `prepare`, where each has its own):

    1. `address` of rank 0, then `join`, once.
    2. `open_warm_up`, then `warm_up` as often as wanted; or `open_training`, then `restore` where a run goes on, then
       for each step `prepare` and `train`. `prepare` of the next step may run beside `publish`.
       Or `open_reward_model`, then `restore_reward_model` where it goes on, then `update_reward_model` and
       `evaluate_reward_model` as often as wanted.
    3. In an open session, between other calls: `publish`, `probe`, `save_checkpoint`, `free_cache`, and in training
       `save`. `finish_checkpoint`, which waits for the disk, runs beside all of them.
    4. `close_session`; opening closes what is open.

    Raises:
        RuntimeError: a method needs a session that is not open.
    """

    def __init__(self, rank: int, ranks: int, threads: int) -> None:
        log_in_actor()
        self._place, self._threads = Place(rank=rank, ranks=ranks), threads
        self._door: socket.socket | None = None  # at which rank 0 waits for the others
        self._session: WarmUpSession | TrainingSession | RewardModelSession | None = None

    def address(self) -> tuple[str, int]:
        """Where rank 0 can be met."""
        from actors.transfer.stores import listen, meeting_address, port_of

        address = meeting_address()
        self._door = listen(address)
        return address, port_of(self._door)

    def join(self, address: str, port: int) -> None:
        """Meets the other ranks; blocks until all are there. Does nothing where they have met."""
        with loading():
            import torch

            import learner.session  # noqa: F401  what comes next
            from learner.engine import join_learners

        if not torch.distributed.is_initialized():
            torch.set_num_threads(self._threads)
            join_learners(self._place, address, port, self._door)
            self._door = None
            place = self._place
            LOGGER.info("rank %d of %d has met the others, on %d threads", place.rank, place.ranks, self._threads)

    def open_warm_up(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> None:
        """Opens a warm-up of the policy in a model folder."""
        from learner.session import WarmUpSession

        self.close_session()
        self._session = WarmUpSession(self._place, spec, path, schedule)
        LOGGER.info("a warm-up of %s begins", path)

    def warm_up(self, updates: int) -> UpdateStats:
        """Some supervised updates; the stats are of the last."""
        from learner.session import WarmUpSession

        if not isinstance(self._session, WarmUpSession):
            raise RuntimeError("no warm-up is open on this learner rank: call open_warm_up first")
        return self._session.warm_up(updates)

    def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> Opened:
        """Opens a training on a model folder; gives what there is to say about it."""
        from learner.session import TrainingSession

        self.close_session()
        self._session = TrainingSession(self._place, spec, path, schedule)
        opened = self._session.opened
        LOGGER.info("a training of %s begins: %d parameters", path, opened.parameters)
        return opened

    @ray.method(concurrency_group=PACKING)
    def prepare(self, plan: RankPlan, *groups: pa.Buffer) -> None:
        """Packs what the next `train` trains on; `groups` are those of `plan.groups`. It may run beside `publish`, in
        a thread of its own."""
        self._training().prepare(plan, groups)

    def train(self) -> list[UpdateStats]:
        """One step on what was prepared."""
        stats = self._training().train()
        tokens, last = sum(each.tokens for each in stats), stats[-1]
        LOGGER.info("%d updates on %d tokens, gradient %.3g in the last", len(stats), tokens, last.grad_norm)
        return stats

    def save(self) -> LearnerState:
        """What the trainer remembers beyond weights and optimizers."""
        return self._training().save()

    def restore(self, state: LearnerState, folder: Path) -> None:
        """Goes on from what was saved, by `save` and by `save_checkpoint` into this folder."""
        self._training().restore(state, folder)
        LOGGER.info("goes on from %s", folder)

    def open_reward_model(self, spec: LearnerSpec, path: Path, schedule: Schedule, task: RewardModelTask) -> Opened:
        """Opens the training of a reward model on a model folder; gives what there is to say about it."""
        from learner.reward_models.session import RewardModelSession

        self.close_session()
        self._session = RewardModelSession(self._place, spec, path, schedule, task)
        opened = self._session.opened
        LOGGER.info("the training of a reward model from %s begins: %d parameters", path, opened.parameters)
        return opened

    def restore_reward_model(self, folder: Path, updates: int) -> None:
        """Goes on from what `save_checkpoint` wrote after so many updates."""
        self._reward_model().restore(folder, updates)
        LOGGER.info("goes on from %s", folder)

    def update_reward_model(self) -> RewardUpdateStats:
        """One update of a reward model."""
        return self._reward_model().update()

    def evaluate_reward_model(self) -> Agreement:
        """How well a reward model agrees with the held-out rows now."""
        return self._reward_model().evaluate()

    def publish(self, version: int, receivers: Receivers) -> SyncStats:
        """Sends the weights, which are called `version`, to the generators."""
        sent = self._published().publish(receivers)
        LOGGER.info("version %d is sent: %.4g MiB in %.3g s", version, sent.size / 2**20, sent.seconds)
        return sent

    def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the current weights, temperature 1."""
        return self._published().probe(tokens)

    def save_checkpoint(self, folder: Path) -> None:
        """Has the policy written as a Hugging Face folder, in training with all that this rank needs to go on; returns
        when it is copied."""
        self._opened().save_checkpoint(folder)
        LOGGER.info("a checkpoint is copied, and is written to %s", folder)

    @ray.method(concurrency_group=WAITING)
    def finish_checkpoint(self) -> Written:
        """Waits until this rank has written its share of the last folder, in a thread of its own: training goes on."""
        return self._published().finish_checkpoint()

    def free_cache(self) -> None:
        """Gives memory that no tensor holds back to the GPU, for the engine that shares it."""
        from learner.session import free_memory

        free_memory()

    def close_session(self) -> None:
        """Frees the models, if any, for another session."""
        from learner.session import free_memory

        if self._session is not None:
            self._session.close()
            self._session = None
            free_memory()

    def _training(self) -> "TrainingSession":
        from learner.session import TrainingSession

        if not isinstance(self._session, TrainingSession):
            raise RuntimeError("no training is open on this learner rank: call open_training first")
        return self._session

    def _reward_model(self) -> "RewardModelSession":
        from learner.reward_models.session import RewardModelSession

        if not isinstance(self._session, RewardModelSession):
            raise RuntimeError("no reward model is open on this learner rank: call open_reward_model first")
        return self._session

    def _published(self) -> "Published":
        return self._opened().published

    def _opened(self) -> "TrainingSession | WarmUpSession | RewardModelSession":
        if self._session is None:
            raise RuntimeError("no session is open on this learner rank: call a method of it that opens one first")
        return self._session
