"""A tiny random model of the same architecture as a large one, so that an architecture can be examined before anything
large is loaded."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

LAYERS = 4
LOUDER = 3.0  # times the usual random weights: what the model computes then depends on all of them
# What the configurations of transformers call their sizes, and how small they become.
SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embed_dim", "word_embed_proj_dim", "lru_width"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", "ffn_hidden_size"), 128),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "vocab_size"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_experts_per_tok", "num_key_value_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("num_kv_heads", "linear_num_value_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "mamba_n_groups"), 1),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "mamba_d_head"), 32),
    **dict.fromkeys(("rotary_dim", "state_size", "mamba_d_state"), 8),
    "mamba_d_ssm": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def shrunk(config: PreTrainedConfig) -> PreTrainedModel:
    """A random model with this configuration's kinds of layers, scalings and caps, and SIZES; float32, on the CPU.

    Raises:
        Exception: of any kind, where the configuration has sizes that do not go together with these.
    """
    told = {name: value for name, value in config.to_dict().items() if name not in ("dtype", "torch_dtype")}
    layers = next((told[name] for name in ("num_hidden_layers", "n_layer", "n_layers") if told.get(name)), 0)
    small = {name: _shorter(value, layers) for name, value in told.items()}
    small |= {name: size for name, size in SIZES.items() if told.get(name) is not None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(type(config)(**small), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(LOUDER)
    return model.eval()


def _shorter(value: Any, layers: int) -> Any:
    """A list with an element for each layer cut to LAYERS of them: as many kinds as there are, in their order."""
    if not isinstance(value, list) or len(value) != layers or layers <= LAYERS:
        return value
    kinds = list({repr(each): each for each in value}.values())[:LAYERS]
    return kinds + value[: LAYERS - len(kinds)]
