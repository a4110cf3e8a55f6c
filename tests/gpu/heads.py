"""The output head at the size of a real vocabulary: its log-probabilities against float64, its memory and its time by
the number of tokens whose logits exist at the same time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from learner.models.policy import Head

BF16 = 2.0**-8  # spacing of bfloat16 numbers, relative
LARGEST = 12.0  # of the logits, about: what trained models have


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a head and of what it is asked."""

    hidden: int
    vocabulary: int
    tokens: int
    chunks: Sequence[int]  # values of learner.logit_chunk


REAL = Size(hidden=3584, vocabulary=152_064, tokens=8192, chunks=(1024, 2048, 4096))
SMALL = Size(hidden=64, vocabulary=512, tokens=96, chunks=(16, 32, 96))


def measure(device: str, size: Size = REAL) -> dict[str, float]:
    """Largest error in nats, and for each chunk GiB at the peak and seconds of a forward and backward pass.

    Raises:
        AssertionError: a log-probability is further off than the rounding of logits to bfloat16 explains.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
        hidden = torch.randn(size.tokens, size.hidden, dtype=torch.bfloat16)
        wanted = torch.randint(0, size.vocabulary, (size.tokens,))
    weights = model.get_output_embeddings().weight
    with torch.no_grad():
        logits = hidden[:64].double() @ weights.double().T
        weights.mul_(LARGEST / float(logits.abs().max()))
        logits = hidden[:64].double() @ weights.double().T
        exact = logits.gather(-1, wanted[:64, None])[:, 0] - logits.logsumexp(-1)
    figures: dict[str, float] = {}
    for chunk in size.chunks:
        head = Head(model, chunk, entropy_gradient=False)
        state = hidden.clone().requires_grad_()
        _reset(device)
        started = time.monotonic()
        logp = head(state, wanted, 1.0, None)[0]
        logp.sum().backward()
        peak = _peak(device)
        figures |= {f"seconds_{chunk}": time.monotonic() - started, f"peak_gib_{chunk}": peak}
        off = float((logp[:64].detach().double() - exact).abs().max())
        figures[f"error_{chunk}"] = off
        # A logit is rounded once, to half a spacing; the one of the token and the sum of all may be off by that each.
        assert off <= 2 * BF16 * LARGEST, f"log-probabilities are off by {off} nats with chunks of {chunk}"
        assert state.grad is not None
        assert bool(state.grad.isfinite().all())
        model.zero_grad()
    return figures


def _reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> float:
    """GiB of the GPU at the peak since the reset; 0 on the CPU."""
    if device != "cuda":
        return 0.0
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30
