"""The policy as the learner sees it: tokens in, log-probability and entropy of the wanted tokens out.

R rows of L tokens are one micro-batch, M of the tokens are wanted, H is the width of the model, V its vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from learner.models.adapter import adapt, exports, is_adapted, switched_off
from learner.models.export import Export, whole_shape
from learner.models.logits import body_of, matrix_logits, own_logits
from learner.models.sharing import equal_width, mask_of
from learner.models.varlen import JOINS, VARLEN, Bounds, bounds_of, ends_of, is_varlen, leave_varlen, problem_of
from learner.settings import AdapterSettings, ModelSettings

WHOLE = AdapterSettings()  # no adapter: the weights themselves are trained
OUTSIDE = -1e9  # logit of a token outside the support: no probability, and no NaN in the entropy


class Head(torch.nn.Module):
    """Gives the log-probabilities of the wanted tokens, `logit_chunk` at a time. It is one module around the output
    matrix, so that a sharded matrix is gathered once for all chunks: ranks have different numbers of chunks.

    `scales` is whether the model does more with its hidden states than to multiply them by the output matrix; the
    logits then come from its own forward pass (`learner.models.logits`). `learner.models.examination` finds it out.
    """

    def __init__(self, lm: PreTrainedModel, logit_chunk: int, entropy_gradient: bool) -> None:
        super().__init__()
        self.output = lm.get_output_embeddings()
        self.scales = False
        self._lm = (lm,)  # in a tuple, so that it is no part of this module
        self._chunk, self._entropy_gradient = logit_chunk, entropy_gradient

    def forward(
        self,
        hidden: torch.Tensor,
        wanted: torch.Tensor,
        temperature: float,
        restrict: torch.Tensor | float | None,
        follows: np.ndarray | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(log-probability float32[M], entropy float32[M], support) of the wanted tokens int64[M], each after the state
        before it, a row of hidden float[M, H]. Temperature, restriction and support are those of `Policy`, and so is
        `follows`, with which hidden has a row for each of the S states."""
        if follows is not None and restrict is None:
            return *self._of_states(hidden, wanted, temperature, follows), None
        hidden = hidden if follows is None else hidden[torch.from_numpy(follows).to(hidden.device)]
        support = self._nuclei(hidden, wanted, temperature, restrict) if isinstance(restrict, float) else restrict
        pieces = []
        for start in range(0, wanted.numel(), self._chunk):
            rows, allowed = slice(start, start + self._chunk), _within(support, start, start + self._chunk)
            pieces.append(
                checkpoint(self._of_chunk, hidden[rows], wanted[rows], temperature, allowed, use_reentrant=False)
            )
        logprobs, entropies = zip(*pieces, strict=True)
        return torch.cat(logprobs), torch.cat(entropies), support

    def _of_states(
        self, hidden: torch.Tensor, wanted: torch.Tensor, temperature: float, follows: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward`, with the logits of each state once, for all wanted tokens that follow it."""
        in_turn = follows.argsort(kind="stable")
        starts = range(0, len(hidden), self._chunk)
        cuts = follows[in_turn].searchsorted([*starts, len(hidden)])
        pieces = []
        for start, first, last in zip(starts, cuts[:-1], cuts[1:], strict=True):
            chosen, own = (
                torch.from_numpy(each).to(hidden.device)
                for each in (in_turn[first:last], follows[in_turn[first:last]] - start)
            )
            states = hidden[start : start + self._chunk]
            pieces.append(
                checkpoint(self._of_chunk, states, wanted[chosen], temperature, None, own, use_reentrant=False)
            )
        back = torch.from_numpy(in_turn.argsort()).to(hidden.device)
        logprobs, entropies = zip(*pieces, strict=True)
        return torch.cat(logprobs)[back], torch.cat(entropies)[back]

    def _logits(self, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
        logits = own_logits(*self._lm, hidden) if self.scales else matrix_logits(self.output, hidden)
        return logits.float() / temperature

    def _of_chunk(
        self,
        hidden: torch.Tensor,
        wanted: torch.Tensor,
        temperature: float,
        allowed: torch.Tensor | None,
        follows: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self._logits(hidden, temperature)
        if allowed is not None:
            outside = torch.full_like(logits, OUTSIDE)
            logits = outside.index_put((allowed[0], allowed[1]), logits[allowed[0], allowed[1]])
        log_z = logits.logsumexp(-1)
        with torch.set_grad_enabled(self._entropy_gradient and torch.is_grad_enabled()):
            entropy = log_z - ((logits - log_z[:, None]).exp() * logits).sum(-1)
        if follows is not None:
            return logits[follows, wanted] - log_z[follows], entropy[follows]
        return logits.gather(-1, wanted[:, None])[:, 0] - log_z, entropy

    @torch.no_grad()
    def _nuclei(self, hidden: torch.Tensor, wanted: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
        found = []
        for start in range(0, wanted.numel(), self._chunk):
            rows = slice(start, start + self._chunk)
            kept = nucleus(self._logits(hidden[rows], temperature).softmax(-1), top_p)
            kept.scatter_(-1, wanted[rows, None], True)  # rounding must not put a sampled token outside
            found.append(kept.nonzero().T + torch.tensor([[start], [0]], device=kept.device))
        return torch.cat(found, 1)


class Policy(torch.nn.Module):
    """A causal LM whose logits exist only `logit_chunk` tokens at a time, in the forward and the backward pass.

    It answers what the learner must know of a policy: what trains, what the generators get, what its reference is.
    `packs` is whether a row may hold several sequences: attention and state of some models do not end where positions
    restart. `shares` is whether a row may hold trees of sequences, which have their beginning in common.
    `learner.models.examination` finds both out.

    Args:
        lm: the model.
        logit_chunk: tokens whose logits exist at the same time.
        entropy_gradient: whether the entropy has a gradient.
        source: loads the policy anew with the weights that it started from.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        logit_chunk: int,
        entropy_gradient: bool = False,
        source: Callable[[], "Policy"] | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.head = Head(lm, logit_chunk, entropy_gradient)
        self.packs, self.shares = True, False
        self.apart_because = ""  # why sequences that begin alike do not share their beginning
        self.masks_because = ""  # why attention is by masks where varlen attention was wanted
        self.adapted = is_adapted(lm)  # whether an adapter is trained in place of the weights
        self._source = source

    @property
    def one_row(self) -> bool:
        """Whether the rows of a micro-batch are laid end to end: varlen attention is told where sequences begin."""
        return is_varlen(body_of(self.lm))

    @property
    def width(self) -> int:
        """As of `Packing`; 0 where the model shares nothing."""
        return equal_width(self.lm) if self.shares else 0

    def trainable(self) -> Iterator[torch.nn.Parameter]:
        """What the optimizer moves: all parameters, tied ones once, or the adapter's alone."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def exported(self) -> Iterator[Export]:
        """What generators and checkpoints get: all weights under their checkpoint names, tied ones once, an adapter
        merged into them."""
        return exports(self.lm)

    def as_it_was(self) -> AbstractContextManager[None]:
        """Within it a policy with an adapter computes what it did before it was trained."""
        return switched_off(self.lm)

    def reference(self) -> "Policy":
        """The policy that KL is against, as one of its own: loaded from where this one was, without an adapter."""
        if self._source is None:
            raise RuntimeError("a policy that was made in memory has no reference: load it from a folder")
        return self._source()

    def notes(self) -> tuple[str, ...]:
        """What a person should know of how this model is trained, a sentence each."""
        name = type(self.lm).__name__
        alone = f"{name} does not keep the sequences of a row apart: each has a row of its own, with padding behind it"
        scaled = f"{name} does more than multiply by its output matrix: logits come from its own forward pass"
        trained = sum(torch.Size(whole_shape(parameter)).numel() for parameter in self.trainable())
        adapter = f"an adapter of {trained / 1e6:.3g} million parameters is trained, the weights stay as they are"
        masked = f"{name} attends by masks (sdpa), which is slower than varlen attention: {self.masks_because}"
        apart = f"{name} computes what sequences have in common for each of them anew: {self.apart_because}"
        notes = {
            alone: not self.packs,
            apart: self.packs and bool(self.apart_because),
            scaled: self.head.scales,
            masked: bool(self.masks_because),
            adapter: self.adapted,
        }
        return tuple(note for note, is_so in notes.items() if is_so)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        states: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        restrict: torch.Tensor | float | None = None,
        bounds: Bounds | None = None,
        ends: torch.Tensor | None = None,
        follows: np.ndarray | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(log-probability float32[M], entropy float32[M], support) of the target tokens.

        Args:
            tokens: int64[R, L], rows of sequences or trees end to end.
            positions: int64[R, L], restarting at 0 with each sequence: attention stays within it, where `packs` holds.
            states: int64[M], flat index of the token before each target.
            targets: int64[M], ids.
            temperature: what the sampler divided its logits by.
            restrict: None is the whole vocabulary; a float the nucleus of this probability, found here and given back
                as the support, int64[2, K] of (index of the target, token id); a support restricts to just that.
            bounds: of the sequences, for `one_row`; None reads them from the positions, which waits for a GPU.
            ends: int64[R, L] as of `TrainBatch`, for trees where attention is by masks.
            follows: int64[M], on the host: which of the S states each target comes after, where several come after the
                same; `states` is int64[S] then. None: each has its own.
        """
        hidden = hidden_of(body_of(self.lm), tokens, positions if self.packs else None, bounds, ends)
        return self.head(hidden[states], targets, temperature, restrict, follows)


def hidden_of(
    body: Any,
    tokens: torch.Tensor,
    positions: torch.Tensor | None,
    bounds: Bounds | None = None,
    ends: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states float[R * L, H]. Masks keep attention within a sequence in any number of rows, the bounds of
    varlen attention in a single one. The model makes these masks of its positions; those of trees are given to it. A
    model that cannot hold several sequences in a row is told no positions (None): it counts them itself."""
    if positions is None:
        return body(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1)
    told: dict[str, Any] = {}
    if is_varlen(body):
        bounds = bounds or bounds_of(ends_of(positions.cpu().numpy()), tokens.device)
        tokens, positions = tokens.reshape(1, -1), positions.reshape(1, -1)
        told = {f"cu_seq_lens_{of}": bounds.starts for of in "qk"} | {
            f"max_length_{of}": bounds.max_tokens for of in "qk"
        }
        told |= {JOINS: bounds.joins} if bounds.joins else {}
    elif ends is not None:
        told = {"attention_mask": mask_of(ends, next(body.parameters()).dtype)}
    return body(input_ids=tokens, position_ids=positions, use_cache=False, **told).last_hidden_state.flatten(0, 1)


def nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """bool[..., V]: the smallest set of most probable tokens that reaches `top_p`; the token that crosses it is in."""
    ordered, ids = probabilities.sort(-1, descending=True)
    return torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, ids, ordered.cumsum(-1) - ordered < top_p)


def _within(support: torch.Tensor | None, start: int, end: int) -> torch.Tensor | None:
    """The part of a support that belongs to the targets from `start` to `end`, counted from `start`."""
    if support is None:
        return None
    chosen = support[:, (support[0] >= start) & (support[0] < end)]
    return chosen - torch.tensor([[start], [0]], device=chosen.device)


class ValueHead(torch.nn.Linear):
    """A linear head of zeros that computes in float32 whatever the dtype of its weights: values need the digits."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__(width, 1, bias)
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        return torch.nn.functional.linear(input.float(), self.weight.float(), bias)


class Critic(torch.nn.Module):
    """The policy's body under a head that gives one number: the expected reward from before a token on."""

    def __init__(self, body: PreTrainedModel) -> None:
        super().__init__()
        self.body = body
        self.packs, self.shares = True, False  # as of `Policy`
        self.head = ValueHead(body.config.hidden_size)

    @property
    def one_row(self) -> bool:
        """As of `Policy`."""
        return is_varlen(self.body)

    @property
    def width(self) -> int:
        """As of `Policy`."""
        return equal_width(self.body) if self.shares else 0

    def attend_as(self, policy: Policy) -> None:
        """Takes over what was found out about a policy with the same body."""
        self.packs, self.shares = policy.packs, policy.shares
        if self.one_row and not policy.one_row:
            leave_varlen(self.body)

    def trainable(self) -> Iterator[torch.nn.Parameter]:
        """What the optimizer moves: all parameters, or the adapter's and the head's."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        states: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        bounds: Bounds | None = None,
        ends: torch.Tensor | None = None,
        follows: np.ndarray | None = None,
    ) -> tuple[torch.Tensor]:
        """(value of the state before each target token,), float32[M]; the arguments are those of `Policy`."""
        hidden = hidden_of(self.body, tokens, positions if self.packs else None, bounds, ends)
        values = self.head(hidden[states])[:, 0]
        return (values if follows is None else values[torch.from_numpy(follows).to(values.device)],)


def load_policy(
    path: Path | str,
    settings: ModelSettings,
    logit_chunk: int,
    entropy_gradient: bool = False,
    adapter: AdapterSettings = WHOLE,
) -> Policy:
    """Loads a Hugging Face causal-LM folder in the run's dtype, and puts a new adapter into it where that is set."""
    lm = _load(AutoModelForCausalLM, path, settings, adapter)
    policy = Policy(lm, logit_chunk, entropy_gradient, source=partial(load_policy, path, settings, logit_chunk))
    if settings.attention == VARLEN and not policy.one_row:
        policy.masks_because = problem_of(lm)
    return policy


def load_critic(path: Path | str, settings: ModelSettings, adapter: AdapterSettings = WHOLE) -> Critic:
    """A critic with the policy's body, or an adapter on it, and a head of zeros: it expects nothing at first."""
    return Critic(_load(AutoModel, path, settings, adapter))


def _load(kind: Any, path: Path | str, settings: ModelSettings, adapter: AdapterSettings) -> PreTrainedModel:
    model = kind.from_pretrained(path, dtype=getattr(torch, settings.dtype), local_files_only=True)  # sdpa if it can
    return prepared_model(model, settings, adapter)


def prepared_model(model: PreTrainedModel, settings: ModelSettings, adapter: AdapterSettings) -> PreTrainedModel:
    """A model that was read, with attention, recomputing and adapter as the run has them."""
    model.config.use_cache = False
    if settings.attention == VARLEN and not problem_of(model):
        model.set_attn_implementation(VARLEN)
    if settings.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if adapter.rank:
        adapt(model, adapter)
    return model
