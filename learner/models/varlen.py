"""Varlen attention: one row of whole sequences and where each begins, in place of masks. It does no work between
sequences and above the diagonal, and holds nothing whose size is the square of a row.

The kernel is PyTorch's own (`torch.nn.attention.varlen`), for half precision on GPUs. It is an attention of
transformers by the name VARLEN; a model asks for it like for any other, and masks are then not made. What it cannot do
is refused with `CannotAttend`, never computed without: then the model is trained with masks.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.models.joined import Halves, Join, Spans, TorchHalves, attend_joined, joins_of, problem_of_halves

VARLEN = "varlen"  # a value of `model.attention`
JOINS = "joins"  # what a model passes on to its attention besides what transformers knows
HEAD_DIM = 256  # most of the kernel
STEP = 8  # it wants a multiple of it
# What models pass to every attention, and what does not change its result.
HARMLESS = frozenset(
    {"cache_position", "cu_seq_lens_k", "is_causal", "max_length_k", "position_embeddings", "position_ids", "use_cache"}
)
DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob", "attn_dropout")  # in configurations

# The signature of varlen_attn: (query [T, heads, D], key, value, starts of queries, starts of keys, most tokens of
# queries, most tokens of keys, scale=, window_size=, enable_gqa=) -> [T, heads, D]
Kernel = Callable[..., torch.Tensor]


class CannotAttend(NotImplementedError):
    """A model asks its attention for something that varlen attention does not do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """Where the N sequences, or segments of trees, lie in rows that are laid end to end."""

    starts: torch.Tensor  # int32[N + 1], where the model computes: the first token of each, and the number of tokens
    max_tokens: int  # of one of them
    joins: tuple[Join, ...] = ()  # what tokens see besides of the segments before their own


def bounds_of(ends: np.ndarray, device: torch.device) -> Bounds:
    """Bounds of rows with these ends, int64[R, L] as of `TrainBatch`. It is made of what lies on the CPU: reading
    positions back from a GPU would wait for it, in each micro-batch."""
    flat = (ends + ends.shape[1] * np.arange(ends.shape[0])[:, None]).reshape(-1)
    starts = np.append(np.flatnonzero(np.append(True, flat[1:] != flat[:-1])), flat.size)
    return Bounds(
        starts=torch.from_numpy(starts.astype(np.int32)).to(device),
        max_tokens=int(np.diff(starts).max()),
        joins=joins_of(flat, device),
    )


def ends_of(positions: np.ndarray) -> np.ndarray:
    """The ends of rows int[R, L] of positions that restart at 0 with each sequence, as every row does."""
    starts = np.append(np.flatnonzero(positions == 0), positions.size)
    flat = np.repeat(starts[1:], np.diff(starts)).reshape(positions.shape)
    return flat - positions.shape[1] * np.arange(positions.shape[0])[:, None]


class VarlenAttention:
    """The attention in the form in which transformers calls it."""

    def __init__(self, kernel: Kernel, halves: Halves | None = None) -> None:
        self._kernel, self.halves = kernel, halves or TorchHalves()

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *mask: Any,
        **asked: Any,
    ) -> tuple[torch.Tensor, None]:
        """What each token of one row sees of the tokens before it in its sequence, float[1, T, heads, D].

        Args:
            module: the model's layer.
            query: float[1, heads, T, D].
            key: float[1, heads or fewer, T, D].
            value: as key.
            mask: None; masks are not made for this attention.
            asked: what else the model passes, the bounds of the sequences among it.

        Raises:
            CannotAttend: it asks for more than this attention does.
        """
        starts, longest = asked.pop("cu_seq_lens_q", None), asked.pop("max_length_q", None)
        scale, window, joins = (asked.pop(name, None) for name in ("scaling", "sliding_window", JOINS))
        _check(module, (query, key, value), (*mask, asked.pop("attention_mask", None)), asked)
        if starts is None or longest is None:
            raise CannotAttend("the model does not tell its attention where sequences begin")
        states = [each[0].transpose(0, 1) for each in (query, key, value)]
        if joins:
            if window:
                raise CannotAttend("trees of sequences do not go with a sliding window")
            own = Spans(starts=starts, starts_of_keys=starts, most=longest, most_keys=longest)
            return attend_joined(states, own, joins, scale, self.halves)[None], None
        found = self._kernel(
            *states,
            starts,
            starts,
            longest,
            longest,
            scale=scale,
            window_size=(window - 1 if window else -1, 0),  # a window counts the token itself; -1 is no window
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found[None], None


def _check(
    module: torch.nn.Module, states: tuple[torch.Tensor, ...], masks: tuple[Any, ...], asked: Mapping[str, Any]
) -> None:
    """Raises CannotAttend unless a layer asks for nothing else than plain causal attention."""
    query, key, value = states
    if any(mask is not None for mask in masks):
        raise CannotAttend("the model makes an attention mask of its own")
    if query.shape[0] != 1 or key.shape[2] != query.shape[2]:
        raise CannotAttend(f"it takes one row, got {query.shape[0]} rows of {query.shape[2]} and {key.shape[2]} tokens")
    if not getattr(module, "is_causal", True) or asked.get("is_causal") is False:
        raise CannotAttend("the attention is not causal")
    size, others = query.shape[-1], {key.shape[-1], value.shape[-1]}
    if size > HEAD_DIM or size % STEP or others != {size}:
        raise CannotAttend(f"heads of {size} and {max(others)} numbers; it takes equal ones, a multiple of 8 up to 256")
    if more := sorted(name for name, given in asked.items() if _matters(name, given)):
        raise CannotAttend(f"the model asks for {', '.join(more)}")


def _matters(name: str, given: Any) -> bool:
    nothing = given is None or (isinstance(given, bool | int | float) and not given)
    return name not in HARMLESS and not nothing


@cache
def _kernel() -> Kernel:
    """PyTorch's kernel. Older releases of it take fewer heads of keys than of queries without being told so."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    if not {"scale", "window_size"} <= set(known):
        raise CannotAttend(f"PyTorch {torch.__version__} is too old for it")
    attend: Any = varlen_attn  # returns a tensor, unless it is asked for more
    if "enable_gqa" in known:
        return attend
    return lambda *states, enable_gqa, **options: attend(*states, **options)


def _on_device(*states: Any, **options: Any) -> torch.Tensor:
    return _kernel()(*states, **options)


AttentionInterface.register(VARLEN, VarlenAttention(_on_device))


def is_varlen(model: Any) -> bool:
    """Whether a model of transformers is told the bounds of sequences, and not masks."""
    name = getattr(model.config, "_attn_implementation", None)
    return isinstance(ALL_ATTENTION_FUNCTIONS.get(name), VarlenAttention)


def tree_problem(device: torch.device, dtype: torch.dtype) -> str:
    """Why varlen attention cannot be over trees of sequences on a device; "" where it can."""
    return problem_of_halves(ALL_ATTENTION_FUNCTIONS[VARLEN].halves, device, dtype)


def problem_of(model: PreTrainedModel) -> str:
    """Why a model cannot have varlen attention, as far as its class and its configuration tell; "" where it may."""
    config = model.config.get_text_config()
    dropouts = {name: getattr(config, name, None) for name in DROPOUTS}
    found = [f"{name} = {rate:g} in its config.json" for name, rate in dropouts.items() if rate]
    if not model._supports_flash_attn:  # that is: its layers pass on where sequences begin
        found.append("transformers does not have it for this architecture")
    if getattr(config, "attention_chunk_size", None):
        found.append("its attention is within chunks of the row")
    if getattr(config, "attn_logit_softcapping", None):
        found.append("it caps the logits of its attention")
    return found[0] if found else ""


def leave_varlen(model: PreTrainedModel) -> None:
    """Has a model attend by masks."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
