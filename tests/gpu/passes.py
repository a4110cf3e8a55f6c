"""Forward and backward passes of models of real sizes with random weights: the memory that they take against what
`--plan` counts, and their speed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from learner.models.policy import Policy
from learner.models.sizes import Training, sizes_of
from learner.settings import AdapterSettings

GIB = 2**30
SHORT = 1.25  # times what was counted that may be taken: less than what a plan leaves to spare where it says "fits"
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a model, and how it is passed through."""

    name: str
    config: Qwen2Config
    tokens: Sequence[int]  # of micro-batches
    row: int  # tokens of a sequence
    chunk: int  # learner.logit_chunk
    checkpointing: Sequence[bool]


def qwen(layers: int, width: int, between: int, heads: int, groups: int, vocabulary: int = 151_936) -> Qwen2Config:
    """The sizes of a model like Qwen2.5."""
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=between,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=32_768,
        use_cache=False,
    )


REAL = (
    Size(
        name="1.5B",
        config=qwen(28, 1536, 8960, 12, 2),
        tokens=(4096, 16_384),
        row=1024,
        chunk=1024,
        checkpointing=(True, False),
    ),
    Size(name="7B", config=qwen(28, 3584, 18_944, 28, 4), tokens=(8192,), row=1024, chunk=1024, checkpointing=(True,)),
)
SMALL = (
    Size(
        name="small",
        config=qwen(2, 32, 64, 4, 2, vocabulary=64),
        tokens=(64,),
        row=16,
        chunk=16,
        checkpointing=(True, False),
    ),
)


def measure(device: str, sizes: Sequence[Size] = REAL) -> dict[str, float]:
    """GiB that a pass takes beyond weights and gradients, over those that are counted; tokens a second.

    Raises:
        AssertionError: a pass takes much more than is counted, so that a run that is said to fit would not.
    """
    figures: dict[str, float] = {}
    for size in sizes:
        for tokens in size.tokens:
            for checkpointing in size.checkpointing:
                name = f"{size.name}_{tokens}" + ("_checkpointed" if checkpointing else "")
                figures |= {f"{what}_{name}": value for what, value in _passed(device, size, tokens, checkpointing)}
    for name, ratio in figures.items():
        assert not name.startswith("of_counted") or ratio < SHORT, (
            f"{name}: a pass takes {ratio:.2f} of what is counted"
        )
    return figures


def _passed(device: str, size: Size, tokens: int, checkpointing: bool) -> list[tuple[str, float]]:
    counted = _counted(size, tokens, checkpointing)
    policy = new_policy(device, size.config, size.chunk, checkpointing)
    passing = _Passing(policy, tokens, size.row, device)
    passing.once()  # gradients are there from now on
    if device != "cuda":
        return [("counted_gib", counted / GIB)]
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    for _ in range(ROUNDS):
        passing.once()
    torch.cuda.synchronize()
    taken = (time.monotonic() - started) / ROUNDS
    peak = torch.cuda.max_memory_allocated() - before
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    del policy, passing
    torch.cuda.empty_cache()
    return [
        ("gib", peak / GIB),
        ("of_counted", peak / counted),
        ("tokens_per_second", tokens / taken),
        ("tflops", 6 * parameters * tokens / taken / 1e12),
    ]


def _counted(size: Size, tokens: int, checkpointing: bool) -> int:
    training = Training(
        dtype="bfloat16",
        checkpointing=checkpointing,
        tokens=tokens,
        logit_chunk=size.chunk,
        entropy_gradient=False,
        adapter=AdapterSettings(),
    )
    passes = sizes_of(size.config, training).passes
    assert passes is not None
    return passes.kept + passes.above


def new_policy(device: str, config: Qwen2Config, chunk: int, checkpointing: bool = False) -> Policy:
    """A policy with random weights in bfloat16, made on its device."""
    torch.manual_seed(0)
    kernel = "varlen" if device == "cuda" else "sdpa"
    with torch.device(device):
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=kernel)
    if checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(lm, chunk).train()


class _Passing:
    """A micro-batch and the policy that it is passed through."""

    def __init__(self, policy: Policy, tokens: int, row: int, device: str) -> None:
        self._policy = policy
        self._tokens = torch.randint(0, 60, (tokens // row, row), device=device)
        self._positions = torch.arange(row, device=device).expand_as(self._tokens)
        self._states = torch.arange(tokens, device=device)
        self._targets = self._tokens.flatten().roll(-1)

    def once(self) -> None:
        """Forward and backward."""
        self._policy(self._tokens, self._positions, self._states, self._targets, 1.0)[0].sum().backward()
