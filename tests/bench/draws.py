"""Random batches, and winnow's side of the comparison in `tests/bench/agree.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from actors.types import Group, Summary, Times
from learner.advantages import KnownUpdate, RankAdvantages
from learner.batches.packing import pack
from learner.batches.planning import plan_step
from learner.batches.samples import samples_of_group
from learner.batches.types import TrainBatch, UpdateBatch
from learner.methods.algorithms import Algorithm
from learner.methods.credit import overlong
from learner.objective import ModelOutputs, TokenTerms, token_loss
from learner.settings import LearnerSettings, ModelSettings
from tests.builders import learner_spec, prompt, trajectory, verdict

LONGEST = 20  # tokens of a response
STRIDE = 1000  # token t of response i has the id STRIDE * i + t, so that both sides know whose it is


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """P groups of J responses, B = P J, of at most T tokens; beyond the end of a response stands garbage."""

    scores: np.ndarray  # float64[P, J]
    lengths: np.ndarray  # int64[B], tool output included
    trained: torch.Tensor  # bool[B, T], False for tool output and beyond the end
    now: torch.Tensor  # float64[B, T], log-probability under the policy, and so on
    start: torch.Tensor  # under the policy at the start of the step
    sampler: torch.Tensor
    reference: torch.Tensor
    entropy: torch.Tensor

    @property
    def teacher(self) -> torch.Tensor:
        """What a teacher says of the tokens, float64[B, T], never above 0."""
        return -self.reference.abs()

    def credits(self, credit: Callable[[np.ndarray], np.ndarray], values: np.ndarray | None = None) -> np.ndarray:
        """The credit of each response, float64[B], of its score or another value [B]."""
        rows = self.scores if values is None else values.reshape(self.scores.shape)
        return np.concatenate([credit(row) for row in rows])


def drawn(
    seed: int,
    *,
    spread: float = 0.4,
    mismatch: float = 0.4,
    mixed: bool = False,
    tools: bool = False,
    empty: bool = False,
    even: bool = False,
    faithful: bool = False,
) -> Draw:
    """A random batch.

    Args:
        seed: of everything; odd ones have scores of -1 and 1, even ones quarters.
        spread: nats between `now` and `start`; 0 is on policy.
        mismatch: nats between `start` and `sampler`.
        mixed: whether every group has correct and wrong responses; else the first is all correct.
        tools: whether tokens 2 to 4 of a response are tool output.
        empty: whether the second response has nothing to train on.
        even: whether all responses are equally long.
        faithful: whether the sampler is the policy where a response is correct.
    """
    random = np.random.default_rng(seed)
    shape = int(random.integers(2, 5)), int(random.choice([2, 4, 8]))
    scores = random.choice([-1.0, 1.0] if seed % 2 else np.arange(-8, 9) / 4, shape)
    scores[int(not mixed) :, :2] = 1.0, -1.0
    scores[0] = scores[0] if mixed else 1.0
    lengths = random.integers(1, LONGEST + 1, scores.size) if not even else np.full(scores.size, LONGEST)
    lengths[-1] = LONGEST
    trained = np.arange(LONGEST) < lengths[:, None]
    trained[:, 2:5] &= not tools
    trained[1] &= not empty

    normal = random.normal(size=(5, *trained.shape))
    start = -np.abs(2.0 * normal[0]).astype(np.float32)
    away = mismatch * normal[1] * ~(faithful & (scores.reshape(-1, 1) > 0))
    columns = {
        "now": start + spread * normal[2],
        "start": start,
        "sampler": (start - away).astype(np.float32),
        "reference": start + 0.7 * normal[3],
        "entropy": np.abs(normal[4]),
    }
    tensors = {name: torch.from_numpy(column.astype(np.float64)) for name, column in columns.items()}
    tensors["now"].requires_grad_()
    tensors["entropy"].requires_grad_()
    return Draw(scores=scores, lengths=lengths, trained=torch.from_numpy(trained), **tensors)


def perturbed(batch: Draw) -> Draw:
    """The same batch, a little changed."""
    scores = batch.scores.copy()
    scores[-1, 0] += 1e-3
    moved = (batch.now + 1e-3 * batch.entropy).detach().requires_grad_()
    return replace(batch, scores=scores, now=moved, lengths=np.maximum(batch.lengths - 1, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one side says."""

    value: torch.Tensor  # float64[], a loss, or float64[B], advantages
    gradient: torch.Tensor | None = None  # of a loss, with respect to `now` and `entropy`
    size: float = 0.0  # sum of |terms| of a loss


def gradient(loss: torch.Tensor, batch: Draw) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, [batch.now, batch.entropy], allow_unused=True)
    return torch.cat([torch.zeros_like(batch.now) if g is None else g for g in gradients])


# ------------------------------------------------------------------------------------------------- comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One line."""

    name: str
    algorithm: Algorithm  # winnow's, ...
    late: Callable[["Comparison", Draw], np.ndarray] | None = None  # ... its advantages if they need more than scores
    ours: Callable[["Comparison", Draw], Found]
    theirs: Callable[["Comparison", Draw], Found]
    config: Mapping[str, Any] = field(default_factory=dict)  # TRL's
    parts: int = 1  # micro-batches that TRL cuts the batch into
    given: bool = False  # whether TRL is given winnow's advantages, having none like them
    draws: Mapping[str, Any] = field(default_factory=dict)
    limit: float = float("inf")  # nats, within which the log-ratios are held that TRL sees
    scale: Callable[[Draw], float] = lambda batch: 1.0  # of winnow's loss
    value: bool = True  # whether the values mean the same, not only the gradients
    why: str = ""  # what differs on purpose
    apart: Mapping[str, Any] = field(default_factory=dict)  # the fields as they are without an alignment


def advantages_of(c: Comparison, batch: Draw) -> np.ndarray:
    """Winnow's advantages, float64[B] or [B, T]."""
    return c.late(c, batch) if c.late else batch.credits(c.algorithm.credit)


def groups_of(batch: Draw) -> list[Group]:
    """The batch as graded groups; what follows the end of a response looks like tool output."""
    responses = []
    for i in range(batch.scores.size):
        response = trajectory(range(STRIDE * i, STRIDE * i + LONGEST))
        sampled = np.concatenate([[False] * 3, batch.trained[i].numpy()])
        logprobs = np.concatenate([[0.0] * 3, batch.sampler[i].numpy()])
        logprobs = np.where(sampled, logprobs, 0.0).astype(np.float32)
        responses.append(replace(response, sampled=sampled, logprobs=logprobs))
    siblings = batch.scores.shape[1]
    return [
        Group(
            id=number,
            prompt=prompt(str(number)),
            trajectories=tuple(responses[number * siblings :][:siblings]),
            verdicts=tuple(map(verdict, scores.tolist())),
        )
        for number, scores in enumerate(batch.scores)
    ]


def winnow_loss(c: Comparison, batch: Draw) -> Found:
    """The loss of one update over two ranks and several micro-batches."""
    groups = groups_of(batch)
    summaries = [Summary.of(group, Times()) for group in groups]
    plan = plan_step(summaries, c.algorithm, updates=1, ranks=2, max_new_tokens=LONGEST)
    batches: list[TrainBatch] = []
    for rank in plan.ranks:
        (share,) = rank.shares
        own = [(groups[credited.index], credited) for credited in share.groups]
        samples = [s for group, credited in own for s in samples_of_group(group, credited, c.algorithm, share.totals)]
        packed = tuple(pack(samples, 3 * LONGEST, 2 if c.algorithm.credit.pairs else 1))
        if c.algorithm.teacher:
            packed = _taught(c, batch, UpdateBatch(totals=share.totals, samples=tuple(samples), batches=packed))
        batches += packed
    terms = torch.cat([_terms(c, batch, packed) for packed in batches]) * c.scale(batch)
    loss = terms.sum()
    return Found(value=loss.detach(), gradient=gradient(loss, batch), size=float(terms.abs().sum()))


def _taught(c: Comparison, batch: Draw, update: UpdateBatch) -> tuple[TrainBatch, ...]:
    """The micro-batches of an update with the advantages that a teacher gives."""

    def said(packed: TrainBatch) -> ModelOutputs:
        at = packed.targets // STRIDE, packed.targets % STRIDE
        return ModelOutputs(logp=batch.start[at], teacher=batch.teacher[at], informed=batch.teacher[at])

    spec = learner_spec(ModelSettings(), LearnerSettings(), c.algorithm)
    known = KnownUpdate(update=update, outputs=tuple(map(said, update.batches)))
    return RankAdvantages(spec, torch.device("cpu"))([known])[0].update.batches


def _terms(c: Comparison, batch: Draw, packed: TrainBatch) -> torch.Tensor:
    at = packed.targets // STRIDE, packed.targets % STRIDE
    advantages, start = packed.advantages, batch.start[at]
    if c.late is not None or (c.algorithm.credits_on_rank and not c.algorithm.teacher):
        late = advantages_of(c, batch)
        advantages = late[at] if late.ndim == 2 else late[at[0]]
    terms = TokenTerms(
        logp=batch.now[at],
        entropy=batch.entropy[at],
        start=start,
        gap=start - torch.from_numpy(packed.sampler),
        reference=batch.reference[at],
        advantages=torch.from_numpy(advantages),
        owners=torch.from_numpy(packed.owners),
        turns=torch.from_numpy(packed.turns),
    )
    return token_loss(c.algorithm, terms) * torch.from_numpy(packed.weights)


def winnow_advantages(c: Comparison, batch: Draw) -> Found:
    return Found(value=torch.from_numpy(advantages_of(c, batch)))


def winnow_overlong(c: Comparison, batch: Draw) -> Found:
    return Found(value=torch.from_numpy(overlong(batch.lengths, LONGEST, c.algorithm.overlong)))
