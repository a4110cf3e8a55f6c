"""A model of few parameters in memory, for what takes many passes."""

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM


def small_lm(heads: int = 4) -> Qwen2ForCausalLM:
    """Two layers with random weights, the same at every call.

    Args:
        heads: of queries; there are two of keys and values.
    """
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Qwen2ForCausalLM(config)
