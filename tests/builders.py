"""Small builders of the nouns, so that a test says only what it is about."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from actors.sampled import SampledTurn, digest_of
from actors.settings import DataSettings
from actors.types import Finish, Group, Prompt, Summary, Times, Trajectory
from learner.batches.packing import pack
from learner.batches.planning import plan_step
from learner.batches.samples import samples_of_group
from learner.batches.types import CreditedGroup, Sample, Totals, TrainBatch
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Ratio
from learner.methods.losses import Terms, log_ratio
from learner.objective import ModelOutputs, PolicyObjective
from learner.settings import LearnerSettings, ModelSettings, WarmupSettings
from learner.types import LearnerSpec
from rewards import Outcome, Verdict


def learner_spec(
    model: ModelSettings, learner: LearnerSettings, algorithm: Algorithm, warmup: WarmupSettings | None = None
) -> LearnerSpec:
    """What the ranks of a test share; worked answers where `warmup` names them."""
    return LearnerSpec(
        model=model,
        learner=learner,
        algorithm=algorithm,
        data=DataSettings(),
        warmup=warmup or WarmupSettings(),
        temperature=1.0,
        top_p=1.0,
        seed=0,
    )


def prompt(id: str = "0", tokens: Sequence[int] = (1, 2, 3), reference: str = "5") -> Prompt:
    return Prompt(id=id, tokens=np.array(tokens, np.int32), text="2+3=", reward="number", reference=reference)


def trajectory(new: Sequence[int] = (4, 5), *, before: Sequence[int] = (1, 2, 3), version: int = 0) -> Trajectory:
    tokens = np.array([*before, *new], np.int32)
    sampled = np.arange(tokens.size) >= len(before)
    return Trajectory(
        tokens=tokens,
        sampled=sampled,
        logprobs=np.where(sampled, -0.5, 0.0).astype(np.float32),
        versions=np.where(sampled, version, -1).astype(np.int32),
        finish=Finish.STOP,
        text="".join(map(str, new)),
    )


def sampled_by_an_engine(one: Trajectory) -> Trajectory:
    """The trajectory of one turn with its hash."""
    start, ids = int(np.argmax(one.sampled)), one.tokens.tolist()
    digest = digest_of(ids[:start], ids[start:])
    return replace(one, turns=(SampledTurn(start=start, end=len(ids), after="opening", digest=digest),))


def verdict(score: float | None) -> Verdict:
    if score is None:
        return Verdict(outcome=Outcome.TIMEOUT, score=None, why="took too long")
    return Verdict(outcome=Outcome.CORRECT if score > 0 else Outcome.WRONG, score=score, why="so it is")


def group(scores: Sequence[float | None], lengths: Sequence[int] | None = None, *, id: int = 0, seed: int = 0) -> Group:
    """A group with these scores; tokens are random, lengths of the responses are 1, 2, 3, ... unless given."""
    draw = np.random.default_rng([seed, id])
    lengths = lengths or range(1, len(scores) + 1)
    return Group(
        id=id,
        prompt=prompt(str(id)),
        trajectories=tuple(trajectory(draw.integers(1, 60, size).tolist()) for size in lengths),
        verdicts=tuple(map(verdict, scores)),
    )


def in_sets(group: Group, names: str, continued: Sequence[int] = ()) -> Group:
    """The group with a set of siblings, named by a letter, for each trajectory; those continued go on with the one
    before them, under its verdict."""
    trajectories, verdicts = list(group.trajectories), list(group.verdicts)
    for place, name in enumerate(names):
        trajectories[place] = replace(trajectories[place], siblings=name, continues=place in continued)
        if place in continued:
            verdicts[place] = verdicts[place - 1]
    return replace(group, trajectories=tuple(trajectories), verdicts=tuple(verdicts))


def summary(scores: Sequence[float | None], lengths: Sequence[int] | None = None, *, id: int = 0) -> Summary:
    return Summary.of(group(scores, lengths, id=id), Times(generate=2.0, verify=0.5))


def summary_of(group: Group) -> Summary:
    return Summary.of(group, Times())


def terms(
    ratios: Sequence[float], advantages: Sequence[float] | float, owners: Sequence[int] = (), level: Ratio = Ratio.TOKEN
) -> Terms:
    """Terms with these ratios of single tokens, of one response unless owners are given; `logp` is the leaf."""
    old = torch.full((len(ratios),), -1.0, dtype=torch.float64)
    logp = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    whose = torch.tensor(owners or [0] * len(ratios))
    advantage = torch.as_tensor(advantages, dtype=torch.float64).expand(len(ratios))
    return Terms(
        logp=logp, log_ratio=log_ratio(logp - old, whose, level), advantage=advantage, reference=old, owners=whose
    )


def slopes(function: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    """Central differences of the sum of a function of float64[T], one for each of its arguments."""
    steps = torch.eye(at.numel(), dtype=torch.float64) * step
    return torch.stack([(function(at + s).sum() - function(at - s).sum()) / (2 * step) for s in steps])


def samples_of(
    algorithm: Algorithm, groups: Sequence[Group], shares: int = 1, max_new_tokens: int = 32, number: int = 0
) -> list[list[Sample]]:
    """The samples of each rank's share of the one update on these groups in pass `number`. Where a real rank would make
    the advantages from more than scores, they are the credits of the scores here."""
    summaries = list(map(summary_of, groups))
    plan = plan_step(summaries, algorithm, updates=1, ranks=shares, max_new_tokens=max_new_tokens)
    found = []
    for rank in plan.ranks:
        share = rank.shares[number]
        of_groups = [samples_of_group(groups[one.index], one, algorithm, share.totals) for one in share.groups]
        if algorithm.credits_on_rank:
            of_groups = [with_credits(samples, algorithm) for samples in of_groups]
        found.append([sample for samples in of_groups for sample in samples])
    return found


def with_credits(samples: Sequence[Sample], algorithm: Algorithm) -> list[Sample]:
    """The samples of one group with the credits of their scores for advantages."""
    scores = np.array([sample.score for sample in samples])
    credits = algorithm.credit(scores) if samples else scores
    credits = credits + scores if algorithm.teacher else credits  # a teacher who likes what is correct
    return [replace(sample, advantage=float(credit)) for sample, credit in zip(samples, credits, strict=True)]


def planned(group: Group, algorithm: Algorithm, **more: Any) -> tuple[CreditedGroup, Totals]:
    """What the plan of a step of this one group says of it, and the denominators."""
    plan = plan_step([summary_of(group)], algorithm, updates=1, ranks=1, max_new_tokens=32, **more)
    (share,) = plan.ranks[0].shares[:1]
    return share.groups[0], share.totals


def trained_samples(group: Group, algorithm: Algorithm, **more: Any) -> list[Sample]:
    """The samples of a step of this one group."""
    credited, totals = planned(group, algorithm, **more)
    return samples_of_group(group, credited, algorithm, totals)


def before_update(batch: TrainBatch, distance: float = 1.0) -> ModelOutputs:
    """Log-probabilities at the start of the step, under a reference and a teacher: near the sampler's, whatever the
    packing."""
    ids = torch.from_numpy(batch.targets + 3 * (batch.positions.flatten()[batch.states] + 1))
    sampler = torch.zeros(ids.shape) if batch.sampler is None else torch.from_numpy(batch.sampler)
    return ModelOutputs(
        logp=sampler + distance * 0.4 * ids.sin(),
        reference=sampler + distance * 0.3 * ids.cos(),
        teacher=sampler + distance * 0.2 * (2 * ids).cos(),
        informed=sampler + distance * 0.1 * (3 * ids).cos(),
    )


def token_gradients(
    algorithm: Algorithm, groups: Sequence[Group], distance: float = 1.0, moved: float = 0.5
) -> dict[tuple[int, ...], np.ndarray]:
    """Gradient of one update's loss to the log-probability of each trained token, by response.

    Args:
        algorithm: what is minimised.
        groups: what it trains on.
        distance: how far the policy at the start of the step is from the sampler, and both from the reference.
        moved: how far the policy is from what it was at the start of the step; 0 is on-policy.
    """
    (samples,) = samples_of(algorithm, groups)
    gradients = {}
    for batch in pack(samples, 4096, together=2 if algorithm.credit.pairs else 1):
        known = before_update(batch, distance)
        ids = torch.from_numpy(batch.targets)
        logp = (known.logp + moved * (2.0 * ids).sin()).requires_grad_()
        PolicyObjective(algorithm, [known], None)(0, batch, (logp, torch.zeros_like(logp), None)).loss.backward()
        for member, gradient in zip(batch.members, batch.split(logp.grad.numpy()), strict=True):
            gradients[tuple(samples[member].tokens.tolist())] = gradient
    return gradients
