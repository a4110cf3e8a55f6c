"""Whether the learner computes what a model's own forward pass computes, found out on two short random texts before
anything is trained: three ways in which architectures differ without telling.

* Some do not keep sequences apart that lie in one row, whatever their positions say: learned positions of the row,
  alibi, convolutions, recurrences, linear attention. They get a row for each sequence (`Policy.packs`).
* Some do not compute the same where equal beginnings lie in a row once (`Policy.shares`).
* Some scale, cap or transform their logits. Theirs come from their own forward pass (`Head.scales`).

What still differs cannot be trained and is refused.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from learner.batches.packing import batch_of_trees
from learner.batches.sharing import laid_out
from learner.batches.types import Sample
from learner.models.inputs import inputs_of
from learner.models.logits import body_of, layers_of_the_head, matrix_logits, own_logits
from learner.models.policy import Policy
from learner.models.sharing import reason_apart
from learner.models.varlen import VARLEN, leave_varlen, tree_problem

LENGTHS = (9, 14)  # tokens of the two texts
LOUD = 100.0  # logits to which hidden states are blown up, so that a cap shows
UNLIKE_HEAD = 1e-2  # difference of two heads' logits, as a share of the largest: beyond what rounding makes
UNLIKE_FLOAT32 = 1e-3  # nats by which log-probabilities of the same text may differ
UNLIKE_BFLOAT16 = 0.3  # the same in lower precision
ODD = (NotImplementedError, AttributeError, TypeError, ValueError, IndexError, RuntimeError)  # of what does not fit


class UnsupportedModel(ValueError):
    """The learner does not compute what the model's own forward pass computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found out about a policy."""

    architecture: str  # name of the model's class
    packs: bool  # whether a row may hold several sequences
    shares: bool  # whether it may hold trees of them
    scales: bool  # whether logits come from the model's own forward pass
    gap: float  # largest difference that was left to the model's own log-probabilities, nats


@torch.no_grad()
def examine(policy: Policy, sharded: bool = False) -> Examined:
    """Sets `packs` and `shares` of the policy and `scales` of its head to what its model needs. Where weights are
    sharded, all ranks call it together.

    Args:
        policy: on the device where it will compute; left in evaluation mode.
        sharded: whether ZeRO shards its weights.

    Raises:
        UnsupportedModel: even a row for each sequence and the model's own head differ from its own forward pass.
    """
    policy.eval()
    with _one_thread():
        return _examined(policy, sharded)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Texts this short are slower on more threads of the CPU, much slower beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _examined(policy: Policy, sharded: bool) -> Examined:
    lm, name = policy.lm, type(policy.lm).__name__
    limit = UNLIKE_FLOAT32 if next(lm.parameters()).dtype == torch.float32 else UNLIKE_BFLOAT16
    texts = short_texts(lm)
    with _masks(policy):
        own = torch.cat([_own_logprobs(lm, text) for text in texts[:2]])
        policy.head.scales = _scales(lm, texts[0])
    if policy.head.scales and sharded and (layers := layers_of_the_head(lm)):
        raise UnsupportedModel(
            f"{name} has layers between its body and its output matrix ({', '.join(layers)}), which "
            "learner.zero_stage = 3 cannot shard: use learner.zero_stage = 2"
        )
    gap = _packed_gap(policy, texts, own)
    if policy.one_row and not gap <= limit:
        leave_varlen(lm)
        policy.masks_because = (
            f"with that its log-probabilities of a short text differ by {gap:.2g} nats"
            if math.isfinite(gap)
            else "it asks its attention for more than that does"
        )
        gap = _packed_gap(policy, texts, own)
    if gap <= limit:
        policy.apart_because = reason_apart(lm) or _unlike_tree(policy, texts, limit)
        policy.shares = not policy.apart_because
        return Examined(architecture=name, packs=True, shares=policy.shares, scales=policy.head.scales, gap=gap)
    policy.packs = False
    gap = _gap(_padded(policy, texts[:2]), own)
    if not gap <= limit:
        raise UnsupportedModel(
            f"{name} cannot be trained: the learner's log-probabilities of a short text differ by {gap:.2g} nats from "
            "those of the model's own forward pass, even with the text in a row of its own. Use a causal language "
            "model with one of the architectures named in docs/algorithms.md"
        )
    return Examined(architecture=name, packs=False, shares=False, scales=policy.head.scales, gap=gap)


def short_texts(lm: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two texts of random tokens, and another one as long as the first; int64[1, L] each."""
    draw, device = torch.Generator().manual_seed(0), next(lm.parameters()).device
    vocabulary = int(cast(Any, lm.get_input_embeddings()).num_embeddings)
    low, high = min(vocabulary // 8, 1000), max(vocabulary // 2, 2)  # special tokens lie at the ends
    first, second, other = (
        torch.randint(low, high, (1, length), generator=draw).to(device) for length in (*LENGTHS, LENGTHS[0])
    )
    return first, second, other


def _own_logprobs(lm: Any, text: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token but the first, float32[L - 1], by the model's own forward pass."""
    logits = lm(input_ids=text, use_cache=False).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, text[0, 1:, None])[:, 0]


def _scales(lm: PreTrainedModel, text: torch.Tensor) -> bool:
    """Whether the model's head is more than its output matrix. It is asked about loud hidden states, as the cap of a
    model that knows nothing yet would not show."""
    output = lm.get_output_embeddings()
    if not isinstance(output, torch.nn.Module):
        raise UnsupportedModel(f"{type(lm).__name__} cannot be trained: it has no output matrix of its own")
    hidden = body_of(lm)(input_ids=text, use_cache=False).last_hidden_state[0]
    with _whole(output):
        try:
            loud = hidden * (LOUD / own_logits(lm, hidden).abs().max().clamp_min(1e-6))
            own = own_logits(lm, loud).float()
        except ODD:
            return False  # the comparison with the whole forward pass decides
        try:
            plain = matrix_logits(output, loud).float()
        except ODD:
            return True
    return plain.shape != own.shape or not bool((plain - own).abs().max() <= UNLIKE_HEAD * plain.abs().max())


def _whole(output: torch.nn.Module) -> Any:
    """Within it the output matrix is whole on every rank."""
    import deepspeed

    parameters = [p for p in output.parameters() if hasattr(p, "ds_id")]
    return deepspeed.zero.GatheredParameters(parameters, enabled=bool(parameters))


@contextmanager
def _masks(policy: Policy) -> Iterator[None]:
    """While it lasts the model attends by masks: varlen attention is compared with that, not with itself."""
    one_row = policy.one_row
    if one_row:
        leave_varlen(policy.lm)
    try:
        yield
    finally:
        if one_row:
            policy.lm.set_attn_implementation(VARLEN)


def _packed_gap(policy: Policy, texts: Sequence[torch.Tensor], own: torch.Tensor) -> float:
    """Largest difference that lying in one row makes to the log-probabilities of the first two texts, and to those of
    the second with another one before it; infinite where the model takes no positions."""
    if getattr(policy.lm.config.get_text_config(), "attention_chunk_size", None):  # counted along the row, and long
        return math.inf
    packed, swapped = _packed(policy, texts[:2]), _packed(policy, (texts[2], texts[1]))
    if packed is None or swapped is None:
        return math.inf
    first = LENGTHS[0] - 1
    return float(torch.tensor([_gap(packed, own), _gap(swapped[first:], own[first:])]).max())  # NaN stays NaN


def _packed(policy: Policy, texts: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Log-probabilities of texts that lie in one row; None where the model takes no positions."""
    positions = torch.cat([torch.arange(text.shape[1], device=text.device)[None] for text in texts], 1)
    row = torch.cat(list(texts), 1)
    wanted = positions[0].nonzero()[:, 0]
    try:
        found: torch.Tensor = policy(row, positions, wanted - 1, row[0, wanted], 1.0)[0]
    except ODD:
        return None
    return found


def _unlike_tree(policy: Policy, texts: Sequence[torch.Tensor], limit: float) -> str:
    """Why log-probabilities of two texts that go on from a third are not those of each alone where the third lies in
    the row once; "" where they are."""
    parameter = next(policy.lm.parameters())
    device = parameter.device
    if policy.one_row and (problem := tree_problem(device, parameter.dtype)):
        return problem
    beginning, one, other = (text[0].cpu().numpy().astype(np.int32) for text in (texts[2], texts[0], texts[1]))
    sequences = [np.concatenate([beginning, rest]) for rest in (one, other)]
    given = [
        Sample(tokens=tokens, trained=np.arange(tokens.size) > 0, sampler=None, advantage=0.0, weight=0.0)
        for tokens in sequences
    ]
    tree = batch_of_trees(given, [[([0, 1], laid_out([tokens[:-1] for tokens in sequences]))]])
    policy.shares = True  # so that it is given one
    try:
        found = policy(**inputs_of(policy, tree, device), temperature=1.0)
    except ODD as problem:
        return f"its attention does not take trees of sequences ({problem})"
    with _masks(policy):
        own = torch.cat([_own_logprobs(policy.lm, torch.from_numpy(t).long()[None].to(device)) for t in sequences])
    gap = _gap(found[0], own)
    return "" if gap <= limit else f"with a tree of sequences its log-probabilities differ by {gap:.2g} nats"


def _padded(policy: Policy, texts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Log-probabilities of texts that have a row each, the shorter one with padding behind it."""
    width = max(text.shape[1] for text in texts)
    rows = torch.cat([torch.nn.functional.pad(text, (0, width - text.shape[1])) for text in texts])
    positions = torch.arange(width, device=rows.device).expand_as(rows)
    lengths = [text.shape[1] for text in texts]
    wanted = torch.cat(
        [torch.arange(row * width + 1, row * width + length, device=rows.device) for row, length in enumerate(lengths)]
    )
    found: torch.Tensor = policy(rows, positions, wanted - 1, rows.flatten()[wanted], 1.0)[0]
    return found


def _gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
