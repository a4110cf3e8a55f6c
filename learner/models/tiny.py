"""A Qwen2-shaped model of 1.3 million parameters with a tokenizer of single characters, for the built-in worlds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
from transformers.utils.logging import disable_progress_bar

BYTES = {" ": "Ġ", "\n": "Ċ"}  # how the tokenizer spells what cannot be seen
CONTROL_TOKENS = ("<q0>", "<q1>", "<q2>", "<q3>", "<q4>")


def write_tiny_model(
    folder: Path,
    *,
    alphabet: str,
    seed: int,
    tied: bool = True,
    heads: int = 5,
    positions: int = 2048,
    words: Sequence[str] = (),
    control: Sequence[str] = CONTROL_TOKENS,
    chat_template: str | None = None,
) -> None:
    """Writes a Hugging Face folder with random weights.

    Args:
        folder: made where it is missing.
        alphabet: the characters of ASCII that the tokenizer knows; others are left out.
        seed: of the weights.
        tied: whether embedding and output head are one matrix.
        heads: of attention; the model's width is 32 for each.
        positions: the most tokens of a prompt and its response.
        words: longer pieces of text that are one token each.
        control: control tokens of the tokenizer, beside padding and the end of text.
        chat_template: of the tokenizer.
    """
    tokens = [*(BYTES.get(letter, letter) for letter in alphabet), "<pad>", "<eos>", "<unk>", *control]
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(control),
        chat_template=chat_template,
    )
    tokenizer.add_tokens(list(words))
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=32 * heads,
        intermediate_size=480,
        num_hidden_layers=4,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
