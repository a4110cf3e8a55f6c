"""Models beside the policy, objects of one kind: each is asked about every micro-batch before its update, and may be
trained, or renewed from the policy, after it.

To add one: a word in `learner.methods.choices.SideModelKind`, a field in `learner.objective.ModelOutputs`, a class here
and its place in SIDE_MODELS.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from learner.batches.packing import Packing, pack
from learner.batches.types import Sample, TrainBatch, UpdateBatch
from learner.batches.values import gather, scatter
from learner.checkpoint import save_policy
from learner.engine import Engine, FrozenPolicy, in_step
from learner.methods.choices import SideModelKind
from learner.models.policy import load_critic, load_policy
from learner.objective import ModelOutputs, OutcomeObjective, ValueObjective
from learner.start import Frozen
from learner.teacher import Teacher, is_endpoint
from learner.types import LearnerSpec, Schedule
from learner.writing import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What side models are built from."""

    path: Path  # the model folder that the run starts from
    spec: LearnerSpec
    schedule: Schedule  # of the policy
    policy: Engine
    start: Frozen | None  # the starting policy, where it is kept

    @property
    def side_schedule(self) -> Schedule:
        """The schedule of side models that are trained."""
        return replace(self.schedule, lr=self.spec.learner.side_lr)


class SideModel:
    """A model beside the policy. All ranks call every method together, in the same order: for each step `infer` for
    each update of it, then `update` for each, then `end_step`. After `close` nothing."""

    def __init__(self, around: Surroundings) -> None:
        """Loads it. Here only the signature."""

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        """What it says of the trained tokens of each micro-batch, float32[M] each."""
        raise NotImplementedError

    def update(self, update: UpdateBatch, outputs: Sequence[ModelOutputs]) -> None:
        """One optimizer update, where it is trained.

        Args:
            update: what the policy was trained on.
            outputs: what all models said about each micro-batch before.
        """

    def end_step(self) -> None:
        """Told that all updates of a step are done."""

    def save(self, folder: Path, writer: Writer) -> None:
        """Has what it has become written into a folder of its own; returns when that is copied. Nothing where it never
        changes."""

    def restore(self, folder: Path, writer: Writer) -> None:
        """Goes on from what was saved; before the first step."""

    def close(self) -> None:
        """Frees what it holds beyond its weights."""


class Reference(SideModel):
    """The policy that KL is against: the starting policy, or a copy that becomes the policy again every
    `learner.reference_every` steps."""

    def __init__(self, around: Surroundings) -> None:
        self._policy, self._path, self._spec = around.policy, around.path, around.spec
        self._every = around.spec.learner.reference_every
        self.steps = 0  # since it was renewed
        build = around.policy.module.reference
        self._copy = FrozenPolicy(build, around.spec) if self._every else None
        self._kept: Frozen | None = None if self._copy else around.start or FrozenPolicy(build, around.spec)

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        frozen = self._copy or self._kept
        assert frozen is not None  # one of the two is there
        return logprobs_without_hidden(frozen, update, self._policy.packing)

    def end_step(self) -> None:
        self.steps += 1
        if self._copy is not None and self.steps >= self._every:
            self._copy.copy_from(self._policy)
            self.steps = 0

    def save(self, folder: Path, writer: Writer) -> None:
        if self._copy is not None:
            dtype = getattr(torch, self._spec.model.dtype)
            save_policy(self._copy, folder, writer, tokenizer=self._path, dtype=dtype)

    def restore(self, folder: Path, writer: Writer) -> None:
        if self._copy is not None:
            self._copy = None  # before another one takes its memory
            build = partial(load_policy, folder, self._spec.model, self._spec.learner.logit_chunk)
            self._copy = FrozenPolicy(build, self._spec)


class Elsewhere(SideModel):
    """A frozen policy in a folder of its own, of any size and architecture.

    Args:
        around: as of `SideModel`.
        path: setting of the learner that names the folder.
    """

    def __init__(self, around: Surroundings, path: str) -> None:
        model, learner = around.spec.model, around.spec.learner
        build = partial(load_policy, getattr(learner, path), model, learner.logit_chunk)
        self._frozen, self._packing = FrozenPolicy(build, around.spec), around.policy.packing

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        return logprobs_without_hidden(self._frozen, update, self._packing)


class Asked(SideModel):
    """A frozen policy that another program serves; each rank asks it about its own samples. It says how probable the
    sampled tokens are to it, and distillation reads nothing else."""

    def __init__(self, around: Surroundings) -> None:
        self._teacher, self._device = Teacher(around.spec.learner.teacher_path), around.policy.device

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        read = [slice(sample.hidden, sample.inputs + 1) for sample in update.samples]
        found = self._teacher.logprobs([s.tokens[part] for s, part in zip(update.samples, read, strict=True)])
        wanted = [s.trained[part][1:] for s, part in zip(update.samples, read, strict=True)]
        values = [logprobs[trained] for logprobs, trained in zip(found, wanted, strict=True)]
        return scatter(update.batches, values, self._device)


def teacher(around: Surroundings) -> SideModel:
    """The teacher, by folder or by endpoint."""
    return Asked(around) if is_endpoint(around.spec.learner.teacher_path) else Elsewhere(around, "teacher_path")


class Critic(SideModel):
    """A model of the values of states, trained on the returns."""

    def __init__(self, around: Surroundings) -> None:
        self._clip = around.spec.algorithm.value_clip
        build = partial(load_critic, around.path, around.spec.model, around.spec.learner.adapter)
        self._engine = Engine(build, around.spec, around.side_schedule)
        self._engine.module.attend_as(around.policy.module)

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        return [values for (values,) in self._engine.infer(update.batches) if values is not None]

    def update(self, update: UpdateBatch, outputs: Sequence[ModelOutputs]) -> None:
        self._engine.update(update.batches, ValueObjective(outputs=outputs, clip=self._clip))

    def save(self, folder: Path, writer: Writer) -> None:
        self._engine.save(folder, writer)

    def restore(self, folder: Path, writer: Writer) -> None:
        self._engine.restore(folder, writer)

    def close(self) -> None:
        self._engine.close()


class Process(SideModel):
    """A model of process rewards: a second policy, whose log-ratio to the reference is trained on outcomes."""

    def __init__(self, around: Surroundings) -> None:
        self._engine = policy_engine(around.path, around.spec, around.side_schedule)

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        return [logp for logp, *_ in self._engine.infer(update.batches) if logp is not None]

    def update(self, update: UpdateBatch, outputs: Sequence[ModelOutputs]) -> None:
        correct = [torch.tensor([float(update.samples[i].correct) for i in b.members]) for b in update.batches]
        objective = OutcomeObjective(outputs=outputs, correct=correct, responses=update.totals.responses)
        self._engine.update(update.batches, objective)

    def save(self, folder: Path, writer: Writer) -> None:
        self._engine.save(folder, writer)

    def restore(self, folder: Path, writer: Writer) -> None:
        self._engine.restore(folder, writer)

    def close(self) -> None:
        self._engine.close()


class Informed(SideModel):
    """The policy at the start of the step, where it has read a correct response of a sibling before the prompt."""

    def __init__(self, around: Surroundings) -> None:
        self._policy = around.policy

    def infer(self, update: UpdateBatch) -> list[torch.Tensor]:
        samples, packing = informed(update.samples), self._policy.packing
        packed = pack(samples, packing.tokens, 1, packing.alone, packing.one_row, packing.width)
        logprobs = [logp for logp, *_ in self._policy.infer(packed) if logp is not None]
        return scatter(update.batches, gather(packed, logprobs, len(samples)), self._policy.device)


def informed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, each behind all tokens of a correct response of a sibling, with its prompt: of the next one behind
    it, and of the first behind the last. A sample stays as it is where no sibling is correct."""
    last = len(samples) - 1
    ends = [number for number in range(len(samples)) if number == last or not samples[number + 1].continues]
    correct: dict[tuple[int, str], list[int]] = {}  # of each set of siblings, the last streams of these responses
    for end in ends:
        if samples[end].correct:
            correct.setdefault(_set_of(samples[end]), []).append(end)
    found = []
    for number, one in enumerate(samples):
        own = ends[bisect.bisect_left(ends, number)]
        others = [end for end in correct.get(_set_of(one), []) if end != own]
        read = samples[min(others, key=lambda end: (end < own, end))] if others else None
        before = one.tokens[:0] if read is None else read.tokens[: read.inputs + 1]
        trained = np.concatenate([np.zeros(before.size, bool), one.trained])
        tokens = np.concatenate([before, one.tokens])
        found.append(replace(one, tokens=tokens, trained=trained, sampler=None, told=None))
    return found


def _set_of(sample: Sample) -> tuple[int, str]:
    return sample.group, sample.siblings


SIDE_MODELS: dict[SideModelKind, Callable[[Surroundings], SideModel]] = {
    SideModelKind.REFERENCE: Reference,
    SideModelKind.CRITIC: Critic,
    SideModelKind.PROCESS: Process,
    SideModelKind.TUNED: partial(Elsewhere, path="tuned_path"),
    SideModelKind.TEACHER: teacher,
    SideModelKind.INFORMED: Informed,
}


def policy_engine(path: Path, spec: LearnerSpec, schedule: Schedule) -> Engine:
    """An engine over the policy in a model folder."""
    has_entropy_gradient = bool(spec.algorithm.entropy)
    learner = spec.learner
    build = partial(load_policy, path, spec.model, learner.logit_chunk, has_entropy_gradient, learner.adapter)
    return Engine(build, spec, schedule)


def logprobs_without_hidden(frozen: Frozen, update: UpdateBatch, packing: Packing) -> list[torch.Tensor]:
    """Log-probabilities of the trained tokens of each micro-batch, float32[M] each, under a frozen policy; tokens that
    only the trained policy sees are left out of the context.

    Args:
        frozen: the policy; its ranks call this together.
        update: whose micro-batches.
        packing: of the micro-batches; samples are packed anew without their hidden tokens, or for a policy that takes
            no trees or needs a row for each sequence.
    """
    width, alone = packing.width if frozen.shares else 0, packing.alone or not frozen.packs
    if not any(sample.hidden for sample in update.samples) and (width, alone) == (packing.width, packing.alone):
        return _logprobs(frozen, update.batches)
    bare = [
        replace(s, tokens=s.tokens[s.hidden :], trained=s.trained[s.hidden :], sampler=None, told=None)
        for s in update.samples
    ]
    packed = pack(bare, packing.tokens, 1, alone, packing.one_row, width)
    return scatter(update.batches, gather(packed, _logprobs(frozen, packed), len(bare)), frozen.device)


def _logprobs(frozen: Frozen, batches: Sequence[TrainBatch]) -> list[torch.Tensor]:
    return [frozen.logprobs(batch) for batch in in_step(batches, frozen.device)][: len(batches)]
