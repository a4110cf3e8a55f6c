"""What training a model takes of memory, found out on PyTorch's meta device: the model, its forward pass and its
backward pass are run with tensors that have sizes and no contents, and what is alive at each moment is counted. A model
of any size takes seconds and no memory, and no constant is guessed."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig

from learner.models.adapter import adapt
from learner.models.policy import Policy
from learner.models.varlen import problem_of
from learner.settings import AdapterSettings

COUNTED = "counted"  # an attention of transformers that computes nothing
OPERATIONS = 50_000  # at most, in both passes: a recurrence over the tokens of a row would take hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """What a forward and a backward pass over one micro-batch hold beside weights and their gradients, bytes."""

    kept: int  # by the forward pass for the backward pass, at its end
    above: int  # at most beyond that: one chunk of logits or one layer, and the gradient that is made


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """What a model has, by its config.json."""

    parameters: int  # of the model, without an adapter
    trained: int  # of them, or of the adapter alone
    largest: int  # elements of the largest parameter
    layers: int
    heads: int  # of queries
    head_dim: int
    key_value_heads: int
    vocabulary: int
    intermediate: int  # width of a feed-forward layer
    varlen_problem: str  # why varlen attention cannot be used; "" where it can
    passes: Passes | None  # None where the architecture's forward pass cannot be run without contents

    @property
    def key_value_elements(self) -> int:
        """Elements of keys and values that a token has in all layers."""
        return 2 * self.layers * self.key_value_heads * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained, as far as the sizes of its passes go."""

    dtype: str
    checkpointing: bool
    tokens: int  # of a micro-batch
    logit_chunk: int
    entropy_gradient: bool
    adapter: AdapterSettings


def sizes_of(config: PreTrainedConfig, training: Training) -> ModelSizes:
    """The sizes of the model that a configuration describes; no weights are read or made.

    Raises:
        Exception: of any kind, where no model can be made of the configuration.
    """
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, training.dtype))
    told, counts = config.get_text_config(), [parameter.numel() for parameter in lm.parameters()]
    heads = _first(told, 1, "num_attention_heads", "n_head", "n_heads")
    width = _first(told, 0, "hidden_size", "n_embd", "d_model")
    problem = problem_of(lm)
    if training.checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    if training.adapter.rank:
        with torch.device("meta"):
            adapt(lm, training.adapter)
    policy = Policy(lm, training.logit_chunk, training.entropy_gradient)
    try:
        lm.set_attn_implementation(COUNTED)
        passes = _passes(policy, training.tokens)
    except Exception:  # forward passes that look at contents, or attend in their own way, fail as they like
        passes = None
    return ModelSizes(
        parameters=sum(counts),
        trained=sum(parameter.numel() for parameter in policy.trainable()),
        largest=max(counts),
        layers=_first(told, 0, "num_hidden_layers", "n_layer", "n_layers"),
        heads=heads,
        head_dim=_first(told, width // heads, "head_dim"),
        key_value_heads=_first(told, heads, "num_key_value_heads"),
        vocabulary=_first(told, 0, "vocab_size"),
        intermediate=_first(told, 4 * width, "intermediate_size", "n_inner", "ffn_dim"),
        varlen_problem=problem,
        passes=passes,
    )


def _first(config: PreTrainedConfig, otherwise: int, *names: str) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), otherwise)


def _passes(policy: Policy, tokens: int) -> Passes:
    parameters = list(policy.trainable())
    for parameter in parameters:  # its gradient is counted elsewhere, and a pass adds to it
        parameter.grad = torch.empty_like(parameter)
    ids, positions = (torch.empty(1, tokens, dtype=torch.long, device="meta") for _ in range(2))
    states, targets = (torch.empty(tokens, dtype=torch.long, device="meta") for _ in range(2))
    policy.train()
    with _Alive([one for p in policy.parameters() for one in (p, p.grad) if one is not None]) as alive:
        logprobs, entropies, _ = policy(ids, positions, states, targets, 1.0)
        kept = alive.now
        (logprobs.sum() + entropies.sum()).backward()
    return Passes(kept=kept, above=alive.most - kept)


class _Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it lasts, as long as they live."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.most = self._operations = 0
        self._seen: dict[int, Any] = {tensor.untyped_storage()._cdata: tensor for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._operations += 1
        if self._operations > OPERATIONS:
            raise RuntimeError("too many operations to count")
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or not size:
            return

        def gone(_: Any) -> None:
            del self._seen[key]
            self.now -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


class _Attended(torch.autograd.Function):
    """Keeps for the backward pass what kernels of attention keep: queries, keys, values, the result, and the sum of
    each row of the softmax."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        found = torch.empty_like(query[..., : value.shape[-1]])
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, found, sums)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return tuple(torch.empty_like(states) for states in ctx.saved_tensors[:3])


def _counted(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *mask: Any, **asked: Any
) -> tuple[torch.Tensor, None]:
    found: Any = _Attended.apply(query, key, value)
    return found.transpose(1, 2), None


AttentionInterface.register(COUNTED, _counted)
